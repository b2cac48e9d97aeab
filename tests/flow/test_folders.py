"""The flows of a folder: which files are read, and which version of a flow runs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from airflow_allma.flow import FileCache, find_files, load_file, load_found_files, select_flows
from tests.support.flow_files import flow, write


def load_folder(folder):
    return load_found_files([find_files(folder)], FileCache())


def test_files_are_found_in_a_stable_order_without_hidden_ones(tmp_path):
    for name in ("b.json", "a/z.json", "a.prompt.json", ".hidden.json", ".git/x.json", "notes.txt", "B.JSON"):
        write(tmp_path, name, "{}")
    assert [file.path.removeprefix(f"{tmp_path}/") for file in find_files(tmp_path).files] == [
        "a.prompt.json",
        "b.json",
        "a/z.json",
    ]


def test_a_broken_file_leaves_the_others_alone(tmp_path):
    write(tmp_path, "bad.json", "{")
    write(tmp_path, "good.json", flow("good"))
    folder = load_folder(tmp_path)
    assert [source.flow.id for source in folder.flows] == ["good"]
    assert [problem.file for problem in folder.problems] == [str(tmp_path / "bad.json")]


def test_that_an_older_version_runs_is_said_where_the_newer_one_is_broken(tmp_path):
    write(tmp_path, "v1.json", flow("f"))
    write(tmp_path, "v2.json", '{"id": "f", "version": 2,\n "startStepInstanceId": 1,\n "steps": {}}')
    warning = load_folder(tmp_path).problems[-1]
    assert "until this file is fixed, version 1 of flow `f` runs" in warning.message
    assert (warning.line, warning.column) == (2, 25)


def sources(tmp_path, *flows):
    for index, one in enumerate(flows):
        write(tmp_path, f"{index}.json", one)
    return load_folder(tmp_path)


def test_the_published_version_with_the_highest_number_runs(tmp_path):
    folder = sources(
        tmp_path,
        flow(version=2),
        flow(version=10, isPublished=True),
        flow(version=11, isPublished=False),
        flow(version=9),
    )
    assert [source.flow.version for source in folder.flows] == [10]
    assert folder.problems == ()


def test_a_flow_without_a_published_version_does_not_run_and_says_so(tmp_path):
    folder = sources(
        tmp_path, flow(version=1, isPublished=False), flow(version=2, isPublished=False), flow("other")
    )
    assert [source.flow.id for source in folder.flows] == ["other"]
    (problem,) = folder.problems
    assert problem.file.endswith("1.json")
    assert str(problem.severity) == "warning"
    assert "no version of flow `shop` is published" in problem.message


def test_the_same_version_in_two_files_is_an_error_that_names_both(tmp_path):
    folder = sources(tmp_path, flow(name="kept"), flow(name="refused"))
    assert [source.flow.name for source in folder.flows] == ["kept"]
    (problem,) = folder.problems
    assert problem.is_error
    assert problem.file.endswith("1.json")
    assert "0.json:1" in problem.message


def test_the_same_version_twice_in_one_export_is_an_error(tmp_path):
    path = write(tmp_path, "export.json", {"formatVersion": "1.0", "flows": [flow(name="kept"), flow()]})
    selection = select_flows(load_file(path).flows)
    assert [source.flow.name for source in selection.flows] == ["kept"]
    assert [problem.path for problem in selection.problems] == ["$.flows[1]"]


@given(order=st.permutations(range(4)))
def test_which_flows_run_does_not_depend_on_the_order_of_files(tmp_path_factory, order):
    folder = tmp_path_factory.mktemp("flows")
    loaded = sources(folder, flow(), flow(name="again"), flow(version=2, isPublished=False), flow("other"))
    all_sources = [source for one in loaded.files for source in one.flows]
    selection = select_flows(all_sources[index] for index in order)
    assert selection.flows == loaded.flows
    assert selection.problems == select_flows(all_sources).problems
