"""Chunks whose surroundings break: what survives, and what fails so that everybody can see why."""

from __future__ import annotations

import json
import random
import re
import resource
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import pytest

from airflow_allma.exceptions import StorageUnavailableError
from airflow_allma.operators import services
from airflow_allma.operators.xcoms import NOT_MAPPED, Key
from airflow_allma.storage import LocalStore, Pointer
from airflow_allma.storage.base import ObjectInfo, ObjectStore
from airflow_allma.storage.memory import MemoryStore
from airflow_allma.storage.retry import Backoff
from airflow_allma.storage.s3 import S3Store
from tests.airflow.by_hand import Desk, TaskInstance
from tests.airflow.flows import branch, compose, flow, fork
from tests.airflow.shop import open_shop
from tests.support.faulty_proxy import Call, Fault, Plan, faulty_proxy
from tests.support.faulty_store import FaultyStore
from tests.support.moto import REGION, EndpointClients

pytestmark = pytest.mark.airflow

WORK = {"w": compose({"n": "$.currentItem.n", "v": "$.currentItem.v"})}
ETAG = re.compile(r'"[0-9a-f-]{10,}"')


@pytest.fixture
def use_store(monkeypatch) -> Callable[[ObjectStore], ObjectStore]:
    """Let all tasks have this store, in place of the one that a connection and the settings make."""

    def use(store: ObjectStore) -> ObjectStore:
        monkeypatch.setattr(services, "open_store", lambda *_: store)
        return store

    return use


@pytest.fixture
def flushed_often(monkeypatch) -> None:
    """Parts of a few results, so that few items make many parts."""
    monkeypatch.setenv("AIRFLOW__ALLMA__RESULT_PART_BYTES", "200")


@pytest.fixture
def bucket(moto_endpoint) -> str:
    name = f"chunk-faults-{uuid4().hex[:8]}"
    s3 = EndpointClients(moto_endpoint).client("s3")
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    return name


@contextmanager
def s3_behind(endpoint: str, plan: Plan) -> Iterator[tuple[S3Store, list[Call]]]:
    with faulty_proxy(endpoint, plan) as (url, calls):
        yield S3Store(EndpointClients(url), backoff=Backoff(sleep=lambda _: None)), calls


@dataclass
class Run(Desk):
    """One of several runs of a flow."""

    run_id: str = "run-1"

    def instance(self, task_id: str, map_index: int = NOT_MAPPED) -> TaskInstance:
        return replace(super().instance(task_id, map_index), run_id=self.run_id)


def manifest(count: int, version: str = "old", padding: int = 0) -> bytes:
    """Lines of one length: contents that differ in the version alone have their lines at the same places."""
    rest = f'"v": "{version}", "p": "{"x" * padding}"'
    return "".join(f'{{"n": {n:5d}, {rest}}}\n' for n in range(count)).encode()


def desk_of(
    where: Pointer, location: str, steps: dict[str, Any] = WORK, *, run_id: str = "run-1", **options: Any
) -> Run:
    fan = fork(branch("w"), items="$.initialContextData.p", failOnBranchError=False, maxConcurrency=8)
    written = flow("faults", {"f": fan, **steps}, airflow={"offloadLocation": location, **options})
    return Run(written, {"p": {"bucket": where.bucket, "key": where.key}}, run_id=run_id)


def run_all(desk: Desk, chunks: list[dict[str, Any]]) -> None:
    for number, chunk in enumerate(chunks):
        desk.run("f.chunk", number, chunk)


def error_of(desk: Desk, number: int) -> str:
    assert desk.states[f"f.chunk_{number}"] == "failed"
    return str(json.loads(desk.xcoms["f.chunk", number, Key.ERROR])["errorMessage"])


def aggregated(desk: Desk, store: ObjectStore) -> list[Any]:
    """What the fork came to, wherever it is kept."""
    data = desk.run("f.aggregate")["aggregatedData"]
    pointer = Pointer.parse(data)
    return data if pointer is None else [json.loads(line) for line in store.read(pointer).splitlines()]


def stored_items(store: ObjectStore, bucket: str) -> Counter[int]:
    """How many results of each item lie in parts."""
    keys = [info.pointer for info in store.list(bucket) if "/parts/" in info.pointer.key]
    return Counter(json.loads(line)["item"] for key in keys for line in store.read(key).splitlines())


def lost(data: list[Any]) -> list[int]:
    return [place for place, one in enumerate(data) if "error" in one]


# a store that answers badly


@pytest.mark.parametrize("seed", range(2))
def test_one_bad_answer_in_twenty_costs_no_item_and_no_order(
    moto_endpoint, bucket, use_store, flushed_often, seed
):
    chance = random.Random(seed)
    kinds = [Fault.ERROR_500, Fault.SLOW_DOWN, Fault.RESET, Fault.SHORT_BODY]
    broken = {20 * n + chance.randrange(20): kinds[n % 4] for n in range(200)}
    with s3_behind(moto_endpoint, lambda call: broken.get(call.number)) as (store, calls):
        use_store(store)
        source = Pointer(bucket, "m.jsonl")
        store.write(source, manifest(400))
        desk = desk_of(source, f"s3://{bucket}/r", chunkBytes=500, maxChunks=20)
        chunks = desk.plan("f")
        run_all(desk, chunks)
        data = aggregated(desk, store)
    assert len(chunks) > 10
    assert {broken[call.number] for call in calls if call.number in broken} == set(kinds)
    assert {desk.states[f"f.chunk_{number}"] for number in range(len(chunks))} == {"success"}
    assert [one["n"] for one in data] == list(range(400))


# a manifest that does not stay the same


@pytest.mark.parametrize("kind", ["memory", "file", "s3"])
def test_a_manifest_replaced_after_its_planning_fails_the_chunks_that_have_not_read_it(
    tmp_path, moto_endpoint, bucket, use_store, kind
):
    store = use_store({
        "memory": MemoryStore, "file": lambda: LocalStore(tmp_path),
        "s3": lambda: S3Store(EndpointClients(moto_endpoint)),
    }[kind]())  # fmt: skip
    source = Pointer(bucket, "m.jsonl")
    planned = store.write(source, manifest(40)).etag
    desk = desk_of(source, f"s3://{bucket}/r", chunkBytes=400, maxChunks=4)
    chunks = desk.plan("f")
    assert len(chunks) == 4
    run_all(desk, chunks[:2])
    now = store.write(source, manifest(40, "new")).etag
    for number in (2, 3):
        desk.run("f.chunk", number, chunks[number])
        said = error_of(desk, number)
        assert planned in said
        assert now in said
        assert "m.jsonl" in said
    data = aggregated(desk, store)
    first = chunks[2]["first"]
    assert data[:first] == [{"n": n, "v": "old"} for n in range(first)]
    assert lost(data) == list(range(first, 40))
    for place in range(first, 40):
        number = 2 if place < chunks[3]["first"] else 3
        told = data[place]["error"]["errorMessage"]
        assert f"Item {place}, branch b: task f.chunk[{number}]" in told
        assert planned in told
        assert now in told


BIG = {"count": 100, "padding": 40_000}
"""About 4 MB in one chunk: several blocks are still to come when the first is worked on."""


def one_content(desk: Desk, store: ObjectStore, planned: str, now: str, *, may_end_well: bool) -> None:
    """A chunk went on with the old content to its end, or failed and named both ETags."""
    data = aggregated(desk, store)
    assert len(data) == BIG["count"]
    assert {one["v"] for one in data if "error" not in one} <= {"old"}
    assert [one["n"] for one in data if "error" not in one] == sorted(set(range(100)) - set(lost(data)))
    if may_end_well:
        assert lost(data) == []
        return
    assert lost(data)
    assert {planned, now} <= set(ETAG.findall(error_of(desk, 0)))


def test_a_manifest_replaced_while_a_broken_read_of_it_is_taken_up_again_is_an_error_with_both_etags(
    moto_endpoint, bucket, use_store
):
    source = Pointer(bucket, "m.jsonl")
    good = S3Store(EndpointClients(moto_endpoint))
    planned = good.write(source, manifest(version="old", **BIG)).etag
    changed: list[str] = []
    reads: list[Call] = []

    def plan(call: Call) -> Fault | None:
        if call.method != "GET" or "m.jsonl" not in call.path or "f.chunk" not in running:
            return None
        reads.append(call)
        if len(reads) == 1:
            return Fault.SHORT_BODY
        if not changed:
            changed.append(good.write(source, manifest(version="new", **BIG)).etag)
        return None

    running: list[str] = []
    with s3_behind(moto_endpoint, plan) as (store, _):
        use_store(store)
        desk = desk_of(source, f"s3://{bucket}/r", chunkBytes=64 << 20)
        (chunk,) = desk.plan("f")
        running.append("f.chunk")
        desk.run("f.chunk", 0, chunk)
        one_content(desk, store, planned, changed[0], may_end_well=False)


@pytest.mark.parametrize("in_place", [True, False])
def test_a_file_changed_while_a_chunk_reads_it_is_an_error_and_a_file_replaced_is_read_to_its_end(
    tmp_path, use_store, in_place
):
    good = LocalStore(tmp_path)
    source = Pointer("data", "m.jsonl")
    file = tmp_path / "data" / "m.jsonl"
    fresh = manifest(version="new", **BIG)
    planned = good.write(source, manifest(version="old", **BIG)).etag
    changes: list[str] = []
    armed: list[bool] = []

    def change(_: str, pointer: Pointer, __: int) -> None:
        if armed and pointer.key == source.key and not changes:
            if in_place:
                file.write_bytes(fresh)
            else:
                good.write(source, fresh)
            changes.append(good.head(source).etag)

    store = FaultyStore(good, block_hook=change)
    use_store(store)
    desk = desk_of(source, "s3://results/r", chunkBytes=64 << 20)
    (chunk,) = desk.plan("f")
    armed.append(True)
    desk.run("f.chunk", 0, chunk)
    assert changes
    one_content(desk, good, planned, changes[0], may_end_well=not in_place)


# a results location that takes nothing


@pytest.mark.parametrize("fault", [Fault.DENIED, Fault.ERROR_500, Fault.SLOW_DOWN])
def test_a_results_location_that_refuses_fails_the_chunk_by_name_and_leaves_the_others_alone(
    moto_endpoint, bucket, use_store, fault
):
    def plan(call: Call) -> Fault | None:
        return fault if call.method == "PUT" and "/000001/" in call.path else None

    with s3_behind(moto_endpoint, plan) as (store, _):
        use_store(store)
        store.write(Pointer(bucket, "m.jsonl"), manifest(40))
        desk = desk_of(Pointer(bucket, "m.jsonl"), f"s3://{bucket}/r", chunkBytes=400, maxChunks=4)
        chunks = desk.plan("f")
        run_all(desk, chunks)
        said = error_of(desk, 1)
        assert f"s3://{bucket}/r/" in said
        assert "test connection 'moto'" in said
        data = aggregated(desk, store)
    gone = range(chunks[1]["first"], chunks[2]["first"])
    assert lost(data) == list(gone)
    assert [one["n"] for one in data if "error" not in one] == [n for n in range(40) if n not in gone]
    assert f"s3://{bucket}/r/" in data[gone[0]]["error"]["errorMessage"]


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A disk that is full, as far as writers can tell: no file grows beyond ``size`` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_results_folder_fails_the_chunk_by_name_and_leaves_the_others_alone(tmp_path, use_store):
    store = use_store(LocalStore(tmp_path))
    store.write(Pointer("data", "m.jsonl"), manifest(40, padding=5_000))
    steps = {"w": compose({"n": "$.currentItem.n", "p": "$.currentItem.p"})}
    desk = desk_of(Pointer("data", "m.jsonl"), "s3://results/r", steps, chunkBytes=50_000, maxChunks=4)
    chunks = desk.plan("f")
    desk.run("f.chunk", 0, chunks[0])
    with files_of_at_most(20_000):
        desk.run("f.chunk", 1, chunks[1])
    for number in range(2, len(chunks)):
        desk.run("f.chunk", number, chunks[number])
    said = error_of(desk, 1)
    assert "s3://results/r/" in said
    assert str(tmp_path) in said
    data = aggregated(desk, store)
    gone = range(chunks[1]["first"], chunks[2]["first"])
    assert lost(data) == list(gone)
    # What had no room has room now: clearing the chunk is all it takes.
    desk.run("f.chunk", 1, chunks[1])
    assert [one["n"] for one in aggregated(desk, store)] == list(range(40))


# lines that are no JSON


def test_of_twenty_thousand_lines_a_thousand_bad_ones_fail_with_their_places_and_all_others_run(use_store):
    store = use_store(MemoryStore())
    count = 20_000
    bad = set(random.Random(11).sample(range(count), 1000))
    text, places = bytearray(), []
    for n in range(count):
        if n % 997 == 0:
            text += b"\r\n"  # a blank line is no item, but a line that an editor counts
        places.append((text.count(b"\n", places[-1][1]) + places[-1][0] if places else 2, len(text)))
        text += (b'{"n": %d,\n' if n in bad else b'{"n": %d, "v": "old"}\n') % n
    store.write(Pointer("data", "m.jsonl"), bytes(text))
    desk = desk_of(Pointer("data", "m.jsonl"), "s3://data/r", chunkBytes=60_000, maxChunks=8)
    chunks = desk.plan("f")
    assert len(chunks) > 5
    run_all(desk, chunks)
    data = aggregated(desk, store)
    assert len(data) == count
    assert set(lost(data)) == bad
    for n, one in enumerate(data):
        if n in bad:
            line, offset = places[n]
            details = one["error"]["errorDetails"]
            assert (details["itemIndex"], details["lineNumber"], details["byteOffset"]) == (n, line, offset)
            assert f"Line {line}:" in one["error"]["errorMessage"]
        else:
            assert one == {"n": n, "v": "old"}


# a chunk that dies


class Dying(FaultyStore):
    """Takes some writes and no more, like a process that is killed; the last one's answer may get lost."""

    def __init__(self, store: ObjectStore, writes: int, *, last_is_kept: bool) -> None:
        super().__init__(store)
        self._left = writes
        self._last_is_kept = last_is_kept

    def write(self, pointer: Pointer, data: bytes, **options: Any) -> ObjectInfo:
        if self._left > 0:
            self._left -= 1
            return super().write(pointer, data, **options)
        if self._left == 0 and self._last_is_kept:
            super().write(pointer, data, **options)
        self._left = -1
        raise StorageUnavailableError(f"{pointer}: killed on purpose")


@pytest.mark.parametrize("seed", range(20))
def test_a_chunk_killed_at_any_write_loses_no_item_and_runs_none_again_that_has_a_result(
    use_store, flushed_often, seed
):
    chance = random.Random(seed)
    writes, last_is_kept = chance.randrange(6), chance.random() < 0.5
    store = MemoryStore()
    source = Pointer("data", "m.jsonl")
    store.write(source, manifest(30))
    with open_shop() as shop:
        url = {"template": shop.url + "/{{currentItem.n}}"}
        asking = {"w": {"stepType": "API_CALL", "apiHttpMethod": "GET", "apiUrlTemplate": url}}
        desk = desk_of(source, "s3://results/r", asking, chunkBytes=1 << 20)
        use_store(store)
        (chunk,) = desk.plan("f")
        use_store(Dying(store, writes, last_is_kept=last_is_kept))
        desk.run("f.chunk", 0, chunk)
        assert desk.states["f.chunk_0"] == "failed"
        desk.kill("f.chunk", 0)
        use_store(store)
        kept = stored_items(store, "results") if writes + last_is_kept else Counter()
        assert bool(kept) == bool(writes + last_is_kept)
        before = shop.calls.copy()
        desk.run("f.chunk", 0, chunk)
        again = {int(path[1:]) for path in (shop.calls - before)}
    assert again == set(range(30)) - set(kept)
    # A request that was on its way at the kill may arrive late; that of a kept item has been answered.
    assert {shop.calls[f"/{n}"] for n in kept} <= {1}
    assert stored_items(store, "results") == dict.fromkeys(range(30), 1)
    data = aggregated(desk, store)
    assert [one["data"]["path"] for one in data] == [f"/{n}" for n in range(30)]


# two runs at once


def test_two_runs_of_a_flow_over_one_manifest_do_not_see_each_others_results(use_store):
    store = use_store(MemoryStore())
    source = Pointer("data", "m.jsonl")
    store.write(source, manifest(40))
    with open_shop() as shop:
        shop.answer = lambda path, number: (200, {"path": path, "call": number})
        url = {"template": shop.url + "/{{currentItem.n}}"}
        asking = {"w": {"stepType": "API_CALL", "apiHttpMethod": "GET", "apiUrlTemplate": url}}
        runs = [
            desk_of(source, "s3://results/r", asking, run_id=name, chunkBytes=400, maxChunks=4)
            for name in ("one", "two")
        ]
        plans = [desk.plan("f") for desk in runs]
        for number in range(4):
            for desk, chunks in zip(runs, plans, strict=True):
                desk.run("f.chunk", number, chunks[number])
        assert shop.calls == {f"/{n}": 2 for n in range(40)}
    for call, desk in enumerate(runs, start=1):
        data = aggregated(desk, store)
        assert [one["data"] for one in data] == [{"path": f"/{n}", "call": call} for n in range(40)]
