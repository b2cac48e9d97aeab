"""The runs of a chunk that wait, in its folder: what one process saves is what the next one finds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_allma.distributed.parked_runs import ParkedRuns, ParkedRunsFolder, RunKey
from airflow_allma.exceptions import ObjectDecodeError, StorageUnavailableError
from airflow_allma.storage import MemoryStore, OffloadLocation, Pointer
from tests.support.faulty_store import FaultyStore, fail_when

LOCATION = OffloadLocation("bucket", "offload/chunk")
KEYS = st.builds(RunKey, st.integers(0, 5), st.sampled_from(["a", "b"]))
CHANGES = st.lists(st.tuples(KEYS, st.none() | st.integers(0, 3)), max_size=6)


def saved_in(store, **runs):
    parked = ParkedRuns()
    for name, run in runs.items():
        parked.add(RunKey(int(name[1:]), name[0]), run)
    ParkedRunsFolder(store, LOCATION).save(parked)
    return parked


def names(store):
    return [info.pointer.key.rpartition("/")[2] for info in store.list("bucket", "offload/chunk/parked/")]


@given(rounds=st.lists(CHANGES, max_size=25), keeps=st.randoms())
def test_each_process_finds_what_the_one_before_has_saved(rounds, keeps):
    store, expected = MemoryStore(), {}
    folder, runs = ParkedRunsFolder(store, LOCATION), ParkedRuns()
    runs = folder.load()
    for changes in rounds:
        for key, run in changes:
            if run is None:
                runs.remove(key)
                expected.pop(key, None)
            else:
                runs.add(key, {"n": run})
                expected[key] = {"n": run}
        folder.save(runs)
        if keeps.random() < 0.5:
            folder = ParkedRunsFolder(store, LOCATION)
            runs = folder.load()
        assert runs.all() == expected == ParkedRunsFolder(store, LOCATION).load().all()


def test_only_changes_are_written_and_now_and_then_everything():
    store = MemoryStore()
    folder = ParkedRunsFolder(store, LOCATION)
    runs = folder.load()
    for item in range(20):
        runs.add(RunKey(item, "b"), {"n": item})
        folder.save(runs)
        folder.save(runs)
    written = [name.split("-")[1:3] for name in names(store)]
    assert written[:3] == [["all", "1"], ["new", "1"], ["new", "1"]]
    assert [int(count) for kind, count in written if kind == "all"] == [1, 10, 19]
    assert len(written) == 20


def test_what_could_not_be_saved_is_saved_with_the_next_attempt():
    good = MemoryStore()
    broken = FaultyStore(good, fail_when(lambda operation, *_: operation == "write"))
    runs = ParkedRuns()
    runs.add(RunKey(1, "b"), 1)
    with pytest.raises(StorageUnavailableError):
        ParkedRunsFolder(broken, LOCATION).save(runs)
    ParkedRunsFolder(good, LOCATION).save(runs)
    assert ParkedRunsFolder(good, LOCATION).load().all() == {RunKey(1, "b"): 1}


def test_runs_without_a_folder_travel_as_json():
    runs = ParkedRuns({RunKey(1, "b"): {"x": 1}, RunKey(0, "a"): {"y": 2}})
    assert runs.to_list() == [[0, "a", {"y": 2}], [1, "b", {"x": 1}]]
    assert ParkedRuns.from_list(runs.to_list()).all() == runs.all()


def test_a_cut_or_foreign_object_is_named_in_the_error():
    store = MemoryStore()
    saved_in(store, b1=1, b2=2)
    (name,) = names(store)
    pointer = Pointer("bucket", f"offload/chunk/parked/{name}")
    body = store.read(pointer)
    store.write(pointer, body.splitlines(keepends=True)[0])
    with pytest.raises(ObjectDecodeError, match="has 1 runs that wait, not the 2 that its name states"):
        ParkedRunsFolder(store, LOCATION).load()
    store.write(pointer, b"nonsense\n" * 2)
    with pytest.raises(ObjectDecodeError, match="is not a run that waits"):
        ParkedRunsFolder(store, LOCATION).load()


def test_a_run_that_is_no_json_is_refused_and_objects_of_other_names_are_ignored():
    store = MemoryStore()
    with pytest.raises(ObjectDecodeError, match="cannot be written as JSON"):
        saved_in(store, b1={"x": "\ud800"})
    store.write(Pointer("bucket", "offload/chunk/parked/notes.txt"), b"mine")
    assert not len(ParkedRunsFolder(store, LOCATION).load())
