"""Makefile, hooks and workflow file have the form that make, pre-commit and GitHub expect, and agree."""

from __future__ import annotations

import re
import subprocess
import tomllib
from typing import Any

import pytest
import yaml

from tests.support.layers import KNOWS_AIRFLOW, MAY_IMPORT


@pytest.fixture(scope="module")
def makefile(repository) -> str:
    return (repository / "Makefile").read_text()


@pytest.fixture(scope="module")
def targets(makefile) -> dict[str, str]:
    return dict(re.findall(r"^([a-z-]+):.*?## (.+)$", makefile, re.MULTILINE))


@pytest.fixture(scope="module")
def workflow(repository) -> dict[Any, Any]:
    return yaml.safe_load((repository / ".github/workflows/ci.yml").read_text())


@pytest.fixture(scope="module")
def project(repository) -> dict[str, Any]:
    return tomllib.loads((repository / "pyproject.toml").read_text())


def test_every_target_with_a_recipe_is_listed_and_phony(makefile, targets):
    (phony,) = re.findall(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    defined = re.findall(r"^([a-z][a-z-]+):(?!=)", makefile, re.MULTILINE)
    assert sorted(defined) == sorted(targets) == sorted(phony.split())


def test_make_accepts_every_target(repository, targets):
    for target in targets:
        ran = subprocess.run(
            ["make", "--dry-run", target], cwd=repository, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stderr


def test_the_contributors_table_of_commands_names_targets_that_exist(repository, targets):
    page = (repository / "CONTRIBUTING.md").read_text()
    assert set(re.findall(r"`make ([a-z-]+)", page)) == set(targets) - {"help"}


def test_the_fast_tests_are_all_those_without_airflow(repository, makefile):
    (listed,) = re.findall(r"^FAST_TESTS := ((?:.*\\\n)*.*)$", makefile, re.MULTILINE)
    names = listed.replace("\\\n", " ").split()
    for name in names:
        assert (repository / name).exists(), name
    layers = set(MAY_IMPORT) - (KNOWS_AIRFLOW - {"timetables"})
    folders = {part for part in layers if (repository / "tests" / part).is_dir()}
    assert folders <= {name.removeprefix("tests/") for name in names}


def steps(workflow: dict[Any, Any]) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def test_every_command_of_the_workflow_exists(workflow, repository, targets):
    commands = [step["run"] for step in steps(workflow) if "run" in step]
    assert {"make setup", "make newest-airflow", "make unit", "make lint", "make typecheck"} <= set(commands)
    for command in commands:
        name, *arguments = command.split()
        if name == "make":
            assert set(arguments) <= set(targets), command
        else:
            assert (repository / name).stat().st_mode & 0o100, command


def test_every_job_has_the_form_that_github_expects(workflow):
    assert set(workflow) == {
        "name",
        True,
        "permissions",
        "concurrency",
        "jobs",
    }  # YAML 1.1 reads `on` as true
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert {"runs-on", "steps", "timeout-minutes"} <= set(job)
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step)
            if "uses" in step:
                assert re.fullmatch(r"actions/[a-z-]+@v\d+", step["uses"])


def test_the_matrix_has_all_pythons_of_the_package_and_the_newest_airflow(workflow, project):
    matrix = workflow["jobs"]["test"]["strategy"]["matrix"]
    prefix = "Programming Language :: Python :: 3."
    versions = [one.rpartition(" ")[2] for one in project["project"]["classifiers"] if one.startswith(prefix)]
    assert matrix == {"python": versions, "airflow": ["3.3", "newest"]}
    (newest,) = (step for step in steps(workflow) if step.get("run") == "make newest-airflow")
    assert newest["if"] == "matrix.airflow == 'newest'"
    assert any(
        f">={airflow}" in one for one in project["project"]["dependencies"] for airflow in matrix["airflow"]
    )


def test_the_hooks_run_what_make_lint_and_make_typecheck_run(repository, makefile):
    config = yaml.safe_load((repository / ".pre-commit-config.yaml").read_text())
    (local,) = config["repos"]
    assert local["repo"] == "local"
    entries = [hook["entry"] for hook in local["hooks"]]
    assert [entry.removeprefix(".venv/bin/").removesuffix(" --force-exclude") for entry in entries] == [
        "ruff check",
        "ruff format",
        "mypy",
        "codespell",
    ]
    for hook in local["hooks"]:
        assert hook["language"] == "system"
        assert {"id", "name", "entry"} <= set(hook)
        tool = hook["entry"].split()[0].replace(".venv/bin", "$(BIN)")
        assert tool in makefile


def test_every_rule_that_ruff_ignores_has_a_reason(repository):
    text = (repository / "pyproject.toml").read_text()
    (ignored,) = re.findall(r"^ignore = \[\n(.*?)^\]$", text, re.MULTILINE | re.DOTALL)
    for line in ignored.splitlines():
        assert re.fullmatch(r'  "[A-Z0-9]+", +# .+', line), line


def test_coverage_counts_branches(project):
    assert project["tool"]["coverage"]["run"]["branch"] is True
