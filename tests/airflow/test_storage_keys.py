"""Keys of the objects that runs store: for any ids, they are distinct and inside the prefix."""

from __future__ import annotations

from types import SimpleNamespace
from typing import NamedTuple

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from airflow_allma.distributed.chunk_plan import ChunkPlan, ChunkSpec
from airflow_allma.distributed.chunk_results import chunk_folder
from airflow_allma.engine import EngineSettings
from airflow_allma.storage.keys import OffloadLocation
from airflow_allma.storage.local import LocalStore
from airflow_allma.storage.pointer import FILE_BUCKET, Pointer
from tests.airflow.fake_dag_run import FakeDagRun
from tests.airflow.flows import branch, compose, flow, fork

pytestmark = pytest.mark.airflow

ODD = st.sampled_from(
    [
        "manual__2024-01-01T00:00:00+00:00",
        "manual__2024-01-01T00:00:00 00:00",
        "scheduled__2024-01-01T00%3A00%3A00%2B00%3A00",
        "..",
        ".",
        "../..",
        "/etc/passwd",
        "a/b",
        "a//b",
        "a\\b",
        "a b",
        "~",
        "ünï",
        "u\u0308ni\u0308",
        "日本",
        "x" * 250,
        "x" * 249 + "y",
        "é" * 250,
    ]
) | st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc"]) | st.sampled_from("./\\%~+: "),
    min_size=1,
    max_size=250,
)


class Chunk(NamedTuple):
    """The ids of one chunk of one fork of one run."""

    dag_id: str
    run_id: str
    step: str
    token: str
    number: int


CHUNKS = st.builds(Chunk, ODD, ODD, ODD, st.sampled_from(["a1", "b2"]), st.integers(0, 300))
DESK = FakeDagRun(flow("odd", {"f": fork(branch("w")), "w": compose()}))


def folder_of(chunk: Chunk, location: OffloadLocation) -> OffloadLocation:
    run = DESK.task_context("f.items")
    run.ti.dag_id, run.ti.run_id = chunk.dag_id, chunk.run_id
    run.services = SimpleNamespace(settings=EngineSettings(offload_location=location))
    plan = ChunkPlan((), None, chunk.token, 1)
    found = chunk_folder(run.services, run.info, chunk.step, plan, ChunkSpec(chunk.number, ""))
    assert found is not None
    return found


@given(CHUNKS, CHUNKS)
@example(Chunk("a", "b/c", "d", "t", 0), Chunk("a/b", "c", "d", "t", 0))
@example(Chunk("a", "b", "c", "t", 0), Chunk("a", "b ", "c", "t", 0))
@example(Chunk("a", "r", "s", "t", 1), Chunk("a", "r", "s", "t", 10))
def test_two_chunks_never_share_a_key(one: Chunk, other: Chunk):
    assume(one != other)
    location = OffloadLocation("b", "allma")
    first, second = (folder_of(chunk, location).prefix + "/" for chunk in (one, other))
    assert not first.startswith(second)
    assert not second.startswith(first)


@given(CHUNKS)
@example(Chunk("..", "..", "..", "t", 0))
@example(Chunk("/", "../../../etc", "/", "t", 0))
def test_no_id_can_escape_the_offload_location(tmp_path_factory, chunk: Chunk):
    root = tmp_path_factory.getbasetemp()
    folder = folder_of(chunk, OffloadLocation(FILE_BUCKET, str(root).strip("/") + "/allma"))
    key = folder.pointer("parts", "0000", ending=".jsonl").key
    assert LocalStore(root)._path(Pointer(FILE_BUCKET, key)).is_relative_to(root / "allma")


def test_dag_run_step_and_chunk_can_be_read_in_the_key():
    chunk = Chunk("enrich-users", "manual__2024-01-01T00:00:00+00:00", "enrich", "1a2b", 7)
    assert folder_of(chunk, OffloadLocation("lake", "allma")).prefix == (
        "allma/enrich-users/manual__2024-01-01T00%3A00%3A00%2B00%3A00/enrich/results/1a2b/000007"
    )
