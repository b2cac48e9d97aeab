from __future__ import annotations

import pytest

from airflow_allma.cli.init_command import EXAMPLES, LOADER_FILES
from airflow_allma.loading import load_flow_file
from tests.support.cli import run_cli


def contents(folder):
    return {file.name: file.read_text() for file in folder.iterdir()}


def test_the_two_loader_files_are_written_into_a_new_folder(tmp_path):
    folder = tmp_path / "new" / "dags"
    result = run_cli("init", folder)
    assert (result.code, result.err) == (0, "")
    assert contents(folder) == LOADER_FILES
    assert result.out.splitlines()[:2] == [
        f"wrote {folder}/allma_flows.py",
        f"wrote {folder}/allma_problems.py",
    ]
    assert f"airflow-allma validate {folder}" in result.out
    assert "product-details" not in result.out


def test_the_example_flows_are_written_on_demand_and_are_valid(tmp_path):
    result = run_cli("init", tmp_path, "--examples")
    assert result.code == 0
    assert sorted(contents(tmp_path)) == sorted([*LOADER_FILES, *EXAMPLES])
    for name, flow_id in zip(EXAMPLES, ("product-details", "enrich-users"), strict=True):
        loaded = load_flow_file(tmp_path / name)
        assert loaded.problems == ()
        assert [source.flow.id for source in loaded.flows] == [flow_id]
        assert f"airflow dags trigger {flow_id} " in result.out
    for needed in ("aws_default", "apiBaseUrl", "table", "bucket"):
        assert needed in result.out


def test_the_dags_folder_of_this_project_is_what_init_writes(tmp_path, repository):
    run_cli("init", tmp_path, "--examples")
    for name, content in contents(tmp_path).items():
        assert (repository / "dags" / name).read_text() == content, (
            f"airflow-allma init dags --examples --force: {name}"
        )
    assert {file.name for file in (repository / "dags").glob("*.*")} == set(contents(tmp_path))


def test_a_second_call_changes_nothing(tmp_path):
    run_cli("init", tmp_path, "--examples")
    before = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    result = run_cli("init", tmp_path, "--examples")
    assert result.code == 0
    assert [line.split()[0] for line in result.out.splitlines()[:4]] == ["unchanged"] * 4
    assert {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == before


def test_other_content_is_not_overwritten_and_nothing_is_written(tmp_path):
    (tmp_path / "allma_problems.py").write_text("mine")
    result = run_cli("init", tmp_path, "--examples")
    assert (result.code, result.out) == (2, "")
    assert str(tmp_path / "allma_problems.py") in result.err
    assert "allma_flows.py" not in result.err
    assert "--force" in result.err
    assert contents(tmp_path) == {"allma_problems.py": "mine"}


def test_force_overwrites(tmp_path):
    (tmp_path / "allma_problems.py").write_text("mine")
    result = run_cli("init", tmp_path, "--force")
    assert result.code == 0
    assert result.out.splitlines()[:2] == [
        f"wrote {tmp_path}/allma_flows.py",
        f"overwrote {tmp_path}/allma_problems.py",
    ]
    assert contents(tmp_path) == LOADER_FILES


@pytest.mark.parametrize("name", ["file", "file/dags"])
def test_a_folder_that_cannot_be_written_exits_with_2(tmp_path, name):
    (tmp_path / "file").write_text("")
    result = run_cli("init", tmp_path / name)
    assert result.code == 2
    assert "file" in result.err


def test_a_folder_in_the_place_of_a_file_exits_with_2(tmp_path):
    (tmp_path / "allma_flows.py").mkdir()
    result = run_cli("init", tmp_path, "--force")
    assert result.code == 2
    assert "allma_flows.py: Is a directory" in result.err


def test_a_link_that_leads_nowhere_is_not_written_through(tmp_path):
    folder = tmp_path / "dags"
    folder.mkdir()
    (folder / "allma_flows.py").symlink_to(tmp_path / "elsewhere.py")
    result = run_cli("init", folder)
    assert result.code == 2
    assert not (tmp_path / "elsewhere.py").exists()
    assert not (folder / "allma_problems.py").exists()
