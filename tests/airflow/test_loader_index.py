"""Files that are not read again: within one process, and in task processes with the help of the index."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import pytest

from airflow_allma.dag_factory import file_index, flow_files, load_flows
from airflow_allma.flow import discovery, file_cache, find_files
from tests.airflow.flows import compose, flow, write_flows
from tests.support.flow_files import write

pytestmark = [pytest.mark.airflow, pytest.mark.usefixtures("nothing_remembered")]


@pytest.fixture
def all_settled(monkeypatch):
    """Pretend that every file changed long ago, which otherwise takes a wait."""
    monkeypatch.setattr(discovery, "_SETTLING_NANOSECONDS", -(10**9))


def counted(monkeypatch, module, name):
    """Return a list that receives the first argument of each call."""
    calls = []
    function = getattr(module, name)

    def count(first, *rest, **named):
        calls.append(Path(first).name)
        return function(first, *rest, **named)

    monkeypatch.setattr(module, name, count)
    return calls


def test_files_that_did_not_change_are_not_parsed_again_in_a_process(tmp_path, monkeypatch, all_settled):
    write_flows(tmp_path, "a", "b")
    broken = write(tmp_path, "broken.json", "{")
    parsed = counted(monkeypatch, file_cache, "read_file")
    problems = []
    first = load_flows(tmp_path)
    assert sorted(parsed) == ["a.json", "b.json", "broken.json"]
    second = load_flows(tmp_path, on_problem=problems.append)
    assert len(parsed) == 3
    assert problems[0].file == str(broken), "a file that is still broken is still reported"
    assert second["a"] is not first["a"], "Airflow and policies change Dags"
    write(tmp_path, "b.json", flow("b", {"other": compose()}))
    assert load_flows(tmp_path)["b"].task_ids == ["other"]
    assert parsed[3:] == ["b.json"]


def test_a_file_that_changed_a_moment_ago_is_parsed_again(tmp_path, monkeypatch):
    write_flows(tmp_path, "a")
    parsed = counted(monkeypatch, file_cache, "read_file")
    load_flows(tmp_path)
    load_flows(tmp_path)
    assert parsed == ["a.json", "a.json"]


@pytest.fixture
def always_looking(monkeypatch):
    """Pretend that every task starts more than five seconds after the one before."""
    monkeypatch.setattr(file_index, "LOOK_AGAIN_NANOSECONDS", 0)


@pytest.fixture
def known(tmp_path, monkeypatch, all_settled, always_looking):
    """Index a folder of five flows like an earlier process; return the files that are read from now on."""
    write_flows(tmp_path, *(f"f{number}" for number in range(5)))
    load_flows(tmp_path, only="f3")
    flow_files._process_cache.cache_clear()
    return counted(monkeypatch, file_index, "_names_in"), counted(monkeypatch, file_cache, "read_file")


def test_a_task_process_reads_only_the_file_of_its_flow(tmp_path, known):
    peeked, parsed = known
    assert list(load_flows(tmp_path, only="f1")) == ["f1"]
    assert (peeked, parsed) == ([], ["f1.json"])


def test_a_newer_version_in_another_file_is_what_a_task_runs(tmp_path, known):
    peeked, _ = known
    write(tmp_path, "f4.json", flow("f1", {"newer": compose()}, version=2))
    assert load_flows(tmp_path, only="f1")["f1"].task_ids == ["newer"]
    assert peeked == ["f4.json"]
    assert load_flows(tmp_path)["f1"].task_ids == ["newer"]


def test_a_task_runs_the_current_flow_wherever_its_file_is(tmp_path, known):
    write(tmp_path, "f1.json", flow("f1", {"changed": compose()}))
    assert load_flows(tmp_path, only="f1")["f1"].task_ids == ["changed"]
    (tmp_path / "f1.json").rename(tmp_path / "moved.json")
    assert load_flows(tmp_path, only="f1")["f1"].task_ids == ["changed"]
    (tmp_path / "moved.json").unlink()
    assert load_flows(tmp_path, only="f1") == {}


@pytest.fixture
def looked(known, monkeypatch):
    """The same folder, scanned a moment ago."""
    monkeypatch.setattr(file_index, "LOOK_AGAIN_NANOSECONDS", 3600 * 10**9)
    return known


def test_only_the_first_of_several_consecutive_tasks_lists_all_files(tmp_path, looked, monkeypatch):
    monkeypatch.setattr(flow_files, "find_files", lambda *_: pytest.fail("it looked"))
    assert list(load_flows(tmp_path, only="f1")) == ["f1"]
    write(tmp_path, "f1.json", flow("f1", {"changed": compose()}))
    assert load_flows(tmp_path, only="f1")["f1"].task_ids == ["changed"], "its own file is read as it is"


def test_a_flow_that_moved_to_another_file_is_found_by_the_next_scan(tmp_path, looked, monkeypatch):
    write(tmp_path, "f4.json", flow("f1", {"newer": compose()}, version=2))
    assert load_flows(tmp_path, only="f1")["f1"].task_ids == ["s"]
    monkeypatch.setattr(file_index, "LOOK_AGAIN_NANOSECONDS", 0)
    assert load_flows(tmp_path, only="f1")["f1"].task_ids == ["newer"]
    monkeypatch.setattr(file_index, "LOOK_AGAIN_NANOSECONDS", 3600 * 10**9)
    assert load_flows(tmp_path, only="f1")["f1"].task_ids == ["newer"], "it stays so"


def test_the_result_of_a_scan_is_kept_even_for_files_whose_times_cannot_be_trusted_yet(
    tmp_path, looked, monkeypatch
):
    monkeypatch.setattr(discovery, "_SETTLING_NANOSECONDS", 3600 * 10**9)
    write(tmp_path, "f4.json", flow("f1", {"newer": compose()}, version=2))
    monkeypatch.setattr(file_index, "LOOK_AGAIN_NANOSECONDS", 0)
    assert load_flows(tmp_path, only="f1")["f1"].task_ids == ["newer"]
    monkeypatch.setattr(file_index, "LOOK_AGAIN_NANOSECONDS", 3600 * 10**9)
    assert load_flows(tmp_path, only="f1")["f1"].task_ids == ["newer"]


@pytest.mark.parametrize("change", ["a new flow", "moved", "in another folder"])
def test_a_flow_that_moved_since_the_last_scan_is_found(tmp_path, looked, change):
    place = [tmp_path]
    if change == "a new flow":
        write_flows(tmp_path, "f9")
    elif change == "moved":
        (tmp_path / "f1.json").rename(tmp_path / "f9.json")
    else:
        write_flows(tmp_path.parent / f"{tmp_path.name}-other", "f9")
        place.append(tmp_path.parent / f"{tmp_path.name}-other")
    wanted = "f1" if change == "moved" else "f9"
    assert list(load_flows(place, only=wanted)) == [wanted]
    if change != "moved":
        assert looked[1] == ["f9.json"], "all files are looked at, not read"


def test_times_that_cannot_be_trusted_yet_are_not_kept(tmp_path, known, monkeypatch):
    monkeypatch.setattr(discovery, "_SETTLING_NANOSECONDS", 3600 * 10**9)
    write(tmp_path, "f4.json", flow("f4", {"s": compose()}))
    load_flows(tmp_path, only="f1")
    known[0].clear()
    load_flows(tmp_path, only="f1")
    assert "f4.json" in known[0]


def test_the_five_seconds_begin_before_the_scan(tmp_path, known):
    times = []

    def look():
        times.append(time.time_ns())
        return find_files(tmp_path)

    for change in (False, True):
        if change:
            write_flows(tmp_path, "f9")
        file_index.files_that_name("f1", tmp_path, look)
        assert file_index._listed_at(file_index._index_file(tmp_path)) <= times[-1]


def test_a_clock_that_was_set_back_makes_tasks_scan(tmp_path, looked):
    file = file_index._index_file(tmp_path)
    os.utime(file, (time.time() + 60, time.time() + 60))
    write(tmp_path, "f4.json", flow("f1", {"newer": compose()}, version=2))
    assert load_flows(tmp_path, only="f1")["f1"].task_ids == ["newer"]


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "{",
        '{"version": 1, "naming": {}, "files": {}}',
        '{"version": "0", "naming": {}, "files": {}}',
        f'{{"version": "{file_index._VERSION}", "naming": {{}}, "files": []}}',
    ],
)
def test_an_index_that_cannot_be_used_only_costs_time(tmp_path, known, damage):
    file_index._index_file(tmp_path).write_text(damage)
    assert list(load_flows(tmp_path, only="f1")) == ["f1"]
    assert len(known[0]) == 5


def test_a_wrong_index_hides_no_flow(tmp_path, known):
    file = file_index._index_file(tmp_path)
    file.write_text(file.read_text().replace('"f1"', '"f2"'))
    assert list(load_flows(tmp_path, only="f1")) == ["f1"]


def test_a_folder_that_others_can_access_is_not_used_for_the_index(tmp_path, known):
    folder = file_index._index_file(tmp_path).parent
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o755)
    try:
        assert file_index._index_file(tmp_path) is None
        assert list(load_flows(tmp_path, only="f1")) == ["f1"]
    finally:
        folder.chmod(0o700)


def test_a_link_in_place_of_the_indexs_folder_is_not_followed(tmp_path, monkeypatch):
    (tmp_path / "theirs").mkdir(mode=0o700)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary" / f"airflow-allma-{os.geteuid()}").symlink_to(tmp_path / "theirs")
    write_flows(tmp_path / "flows", "a")
    assert list(load_flows(tmp_path / "flows", only="a")) == ["a"]
    assert list((tmp_path / "theirs").iterdir()) == []


@pytest.mark.parametrize("name", [b"not utf-8 \xff.json", "größe 注文.json".encode(), b"\xc3\xa9\xff\n.json"])
def test_a_file_name_of_any_bytes_keeps_no_task_from_its_flow(tmp_path, all_settled, name):
    write_flows(tmp_path, "other")
    write(tmp_path, os.fsdecode(name), flow("odd", {"s": compose()}))
    for _ in range(3):
        assert set(load_flows(tmp_path, only="other")) == {"other"}
        assert set(load_flows(tmp_path, only="odd")) == {"odd"}
