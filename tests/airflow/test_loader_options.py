"""The options of a user's own loader file, and the files that it reads."""

from __future__ import annotations

import gc
import os
import subprocess
import sys

import pytest

from airflow_allma.dag_factory import flow_files, load_flows
from airflow_allma.exceptions import FlowError
from tests.airflow.flows import branch, compose, failing, flow, fork, write_flows
from tests.support.flow_files import write

pytestmark = [pytest.mark.airflow, pytest.mark.usefixtures("nothing_remembered")]


# options for the Dags


def test_flows_can_be_selected(tmp_path):
    write_flows(tmp_path, "a", "b", "c")
    assert list(load_flows(tmp_path, keep=lambda one: one.id != "b")) == ["a", "c"]
    assert load_flows(tmp_path, keep=lambda one: one.id != "b", only="b") == {}


def test_a_loaders_defaults_apply_where_the_flow_has_no_value(tmp_path):
    write(tmp_path, "a.json", flow("a", {"s": compose()}))
    write(tmp_path, "b.json", flow("b", {"s": compose()}, airflow={"pool": "own", "schedule": None}))
    dags = load_flows(tmp_path, defaults={"pool": "shared", "maxActiveRuns": 3, "schedule": "@daily"})
    assert [dags[one].get_task("s").pool for one in "ab"] == ["shared", "own"]
    assert [dags[one].max_active_runs for one in "ab"] == [3, 3]
    assert [dags[one].schedule for one in "ab"] == ["@daily", None]


@pytest.mark.parametrize(
    ("defaults", "message"),
    [
        ({"pol": "x"}, "$.pol"),
        ({"maxActiveRuns": 0}, "$.maxActiveRuns: must be 1 or more"),
        ({"schedule": "sometimes"}, "$.schedule"),
    ],
)
def test_defaults_that_are_wrong_are_the_loaders_own_error(tmp_path, defaults, message):
    with pytest.raises(FlowError) as caught:
        load_flows(tmp_path, defaults=defaults)
    assert message in str(caught.value)


def test_each_dag_is_passed_to_a_callback_with_its_flow(tmp_path):
    write_flows(tmp_path, "a", "b")

    def on_dag(dag, one):
        dag.tags.add(f"flow-{one.id}")

    assert {"flow-b", "allma"} <= load_flows(tmp_path, on_dag=on_dag)["b"].tags


@pytest.mark.parametrize("function", ["on_dag", "keep"])
def test_a_callback_that_fails_for_one_flow_affects_no_other(tmp_path, function):
    write_flows(tmp_path, "a", "b")
    problems = []

    def fail_for_a(*arguments):
        if arguments[-1].id == "a":
            raise ZeroDivisionError("no such team")
        return True

    assert list(load_flows(tmp_path, on_problem=problems.append, **{function: fail_for_a})) == ["b"]
    (problem,) = problems
    assert problem.file == str(tmp_path / "a.json")
    assert "no such team" in problem.message


def test_a_cluster_policy_that_refuses_one_flow_affects_no_other(tmp_path, monkeypatch):
    from airflow import settings
    from airflow.exceptions import AirflowClusterPolicySkipDag, AirflowClusterPolicyViolation
    from airflow.policies import hookimpl

    class Policies:
        @hookimpl
        def dag_policy(self, dag):
            dag.tags.add("seen")
            if dag.dag_id == "a":
                raise AirflowClusterPolicyViolation("every Dag needs a team")
            if dag.dag_id == "skipped":
                raise AirflowClusterPolicySkipDag

        @hookimpl
        def task_policy(self, task):
            if task.dag_id == "c":
                raise RuntimeError("the policy itself is broken")

    write_flows(tmp_path, "a", "b", "c", "skipped")
    manager = settings.get_policy_plugin_manager()
    policies = Policies()
    manager.register(policies)
    problems = []
    try:
        dags = load_flows(tmp_path, on_problem=problems.append)
    finally:
        manager.unregister(policies)
    assert list(dags) == ["b", "skipped"]
    assert "seen" not in dags["b"].tags, "Airflow shows it to the policies; twice could be once too often"
    assert [problem.message for problem in problems] == [
        "Airflow cannot accept this flow: every Dag needs a team",
        "Airflow cannot accept this flow: the policy itself is broken",
    ]


# files


def test_several_folders_can_be_loaded_together(tmp_path):
    write_flows(tmp_path / "one", "a")
    write_flows(tmp_path / "two", "b")
    write_flows(tmp_path / "three", "c")
    assert list(load_flows([tmp_path / "one", str(tmp_path / "two")])) == ["a", "b"]


@pytest.mark.parametrize(
    ("syntax", "patterns", "left"),
    [
        ("glob", "drafts/\n", {"a", "team-b", "team-old-c"}),
        ("glob", "# old ones\n*.json\n!a.json", {"a", "drafts-a"}),
        ("glob", "team/**/c.json", {"a", "team-b", "drafts-a", "drafts-b"}),
        ("regexp", "drafts|old/c", {"a", "team-b"}),
        ("regexp", r"^team/b\.json$", {"a", "team-old-c", "drafts-a", "drafts-b"}),
    ],
)
def test_airflowignore_files_apply_to_flow_files_too(tmp_path, monkeypatch, syntax, patterns, left):
    monkeypatch.setenv("AIRFLOW__CORE__DAG_IGNORE_FILE_SYNTAX", syntax)
    write_flows(tmp_path, "a", "team/b", "team/old/c", "drafts/a", "drafts/b")
    write(tmp_path, ".airflowignore", patterns)
    assert set(load_flows(tmp_path)) == left
    assert set(load_flows(tmp_path, only="a")) == {"a"}


@pytest.mark.parametrize("syntax", ["glob", "regexp"])
def test_the_same_files_are_ignored_as_by_airflow(tmp_path, monkeypatch, syntax):
    from airflow._shared.module_loading import find_path_from_directory

    monkeypatch.setenv("AIRFLOW__CORE__DAG_IGNORE_FILE_SYNTAX", syntax)
    write_flows(tmp_path, "a", "b1", "x/a", "x/b2", "x/y/a", "x/y/b3", "z/a")
    write(tmp_path, ".airflowignore", "b1\nz" if syntax == "regexp" else "b1.json\n/z/\n")
    write(
        tmp_path, "x/.airflowignore", "b2 # not yet" if syntax == "regexp" else "b*.json # not yet\n!b3.json"
    )
    theirs = find_path_from_directory(tmp_path, ".airflowignore", syntax)
    assert {file.path for file in flow_files.FlowFolders.of(tmp_path)._find(tmp_path).files} == set(theirs)


def test_the_dags_folders_airflowignore_applies_to_a_loader_in_a_subfolder(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__DAGS_FOLDER", str(tmp_path / "dags"))
    write_flows(tmp_path / "dags", "team/a", "team/draft-b", "team/sub/c")
    write(tmp_path, "dags/.airflowignore", "draft*")
    write(tmp_path, "dags/team/.airflowignore", "sub")
    write(tmp_path, ".airflowignore", "*")
    assert list(load_flows(tmp_path / "dags/team")) == ["team-a"]
    assert list(load_flows(tmp_path / "dags/team/sub")) == ["team-sub-c"], "it was asked for by name"
    monkeypatch.setenv("AIRFLOW__CORE__DAGS_FOLDER", str(tmp_path / "dags/other"))
    assert list(load_flows(tmp_path / "dags/team")) == ["team-a", "team-draft-b"]


def test_regular_expressions_match_paths_relative_to_the_dags_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__DAG_IGNORE_FILE_SYNTAX", "regexp")
    monkeypatch.setenv("AIRFLOW__CORE__DAGS_FOLDER", str(tmp_path))
    write_flows(tmp_path, "team/a", "team/draft-b")
    write(tmp_path, ".airflowignore", "^team/draft")
    assert list(load_flows(tmp_path / "team")) == ["team-a"]


def test_an_ignore_file_that_cannot_be_read_is_an_error_and_ignores_nothing(tmp_path):
    write_flows(tmp_path, "a")
    (tmp_path / ".airflowignore").write_bytes(b"\xff\xfe")
    problems = []
    assert list(load_flows(tmp_path, on_problem=problems.append)) == ["a"]
    assert problems[0].is_error
    assert problems[0].file.endswith(".airflowignore")


@pytest.mark.parametrize("pattern", ["! ", "!", "a/***/ \n! "])
def test_an_ignore_pattern_that_cannot_be_read_is_a_located_error_and_the_others_apply(tmp_path, pattern):
    write_flows(tmp_path, "a", "b")
    write(tmp_path, ".airflowignore", f"b.json\n{pattern}\n")
    problems = []
    assert list(load_flows(tmp_path, on_problem=problems.append)) == ["a"]
    assert all(problem.file.endswith(".airflowignore") for problem in problems)
    assert [problem.line for problem in problems] == [1 + len(pattern.splitlines())]
    assert "it is ignored" in problems[0].message


# the same result every time


def test_a_flow_has_the_same_bytes_in_every_process(tmp_path, repository):
    retries = {"count": 2, "intervalSeconds": 1, "errorEquals": ["TransientStepError", "StepTimeoutError"]}
    steps = {
        "f": fork(branch("w", "x"), branch("v", "y"), to="end"),
        "w": compose(),
        "v": failing(onError={"retries": retries}),
        "end": compose(),
    }
    options = {"tags": ["four", "five"], "schedule": "rate(5 minutes)"}
    write(tmp_path, "fork.json", flow("fork", steps, tags=["one", "two", "three"], airflow=options))
    places = [str(tmp_path), str(repository / "dags")]
    # Airflow serializes a Dag's fields in the order of a set, and sorts them before it compares.
    program = (
        "import json, sys; from airflow.serialization.serialized_objects import DagSerialization;"
        "from airflow_allma.dag_factory import load_flows;"
        f"dags = [load_flows({places!r}) for _ in range(2)];"
        "written = [[DagSerialization.to_dict(dag) for dag in one.values()] for one in dags];"
        "[print('dags', json.dumps(one, sort_keys=True)) for one in written]"
    )
    written = set()
    for seed in ("0", "1"):
        ran = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        lines = [line for line in ran.stdout.splitlines() if line.startswith("dags ")]
        assert len(lines) == 2
        written.update(lines)
    assert len(written) == 1


def test_garbage_collection_is_restored_after_a_load(tmp_path):
    write_flows(tmp_path, "a")
    seen = []
    load_flows(tmp_path, on_dag=lambda *_: seen.append(gc.isenabled()))
    assert seen == [False]
    assert gc.isenabled()
    gc.disable()
    try:
        load_flows(tmp_path)
        assert not gc.isenabled()
    finally:
        gc.enable()
