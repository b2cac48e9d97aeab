"""The task of a chunk whose items wait: parked, woken, killed, cleared, and complete in the end."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_allma.common.wait_keys import WaitRow, event_key, wait_key, wait_token
from airflow_allma.distributed.item_selection import ForkSelection
from airflow_allma.engine.services import Services
from airflow_allma.operators import task_context
from airflow_allma.operators.xcoms import Key
from airflow_allma.storage import MemoryStore, Pointer
from tests.airflow.fake_dag_run import FakeDagRun
from tests.airflow.flows import branch, compose, flow, fork
from tests.support.faulty_runs import aggregated, error_of, manifest

pytestmark = pytest.mark.airflow

CHUNK = "f.chunk"
COUNT = 6
START = 1_800_000_000.0


class WaitingChunk:
    """A run of a flow with one chunk, whose items wait and then return the payload of their event."""

    def __init__(
        self,
        store: MemoryStore,
        steps: dict[str, Any] | None = None,
        *,
        offload: bool = True,
        count: int = COUNT,
        **options: Any,
    ) -> None:
        self.store = store
        self.seconds = START
        source = Pointer("data", "m.jsonl")
        store.write(source, manifest(count))
        location = {"offloadLocation": "s3://results/r"} if offload else {}
        of_fork = options.pop("fork", {"failOnBranchError": False})
        wait = {
            "stepType": "WAIT_FOR_EXTERNAL_EVENT",
            "correlationKeyTemplate": "item:{{currentItem.n}}",
            "maxWaitTimeSeconds": 600,
            "outputMappings": {"$.answer": "$"},
            "defaultNextStepInstanceId": "last",
        }
        document = flow(
            "waiting",
            {
                "f": fork(branch("w"), items="$.initialContextData.p", **of_fork),
                "w": wait,
                "last": compose({"n": "$.currentItem.n", "v": "$.answer.v"}),
                **(steps or {}),
            },
            airflow={"chunkBytes": 1 << 20, **location, **options},
        )
        self.run = FakeDagRun(document, {"p": {"bucket": source.bucket, "key": source.key}})
        (self.chunk,) = self.run.plan("f")

    @property
    def state(self) -> str | None:
        return self.run.states.get("f.chunk_0")

    def start(self, number: int = 1, cleared_after: int = 0) -> Any:
        return self.run.run(CHUNK, 0, self.chunk, (number, cleared_after))

    def send(self, *items: int, **payload: Any) -> list[str]:
        """Store events as the API server does, and return their tokens."""
        notes = self.run.notes.setdefault((CHUNK, 0), {})
        tokens = [wait_token(f"item:{n}") for n in items]
        for n, token in zip(items, tokens, strict=True):
            at = datetime.now(UTC).isoformat()
            notes[event_key(token)] = {"payload": {"v": f"v{n}", **payload}, "by": "admin", "at": at}
        return tokens

    def wake(self, *items: int, number: int = 1) -> Any:
        event = (
            {"arrived": self.send(*items), "conflict": []}
            if items
            else {"error": "x", "error_type": "timeout"}
        )
        return self.run.wake(CHUNK, 0, self.chunk, (number, 0), event)

    def rows(self) -> dict[str, WaitRow]:
        """Return the rows by which the API server finds the task, by key."""
        prefix = wait_key("")
        rows = [
            WaitRow.from_json(value)
            for (task, _, key), value in self.run.xcoms.items()
            if task == CHUNK and key.startswith(prefix)
        ]
        return {row.key: row for row in rows}

    def kill(self) -> None:
        """Let the process of a try die: its XComs go when the next one begins."""
        self.run.kill(CHUNK, 0)
        self.run.parked.clear()

    def lines(self) -> list[dict[str, Any]]:
        keys = [info.pointer for info in self.store.list("results") if "/parts/" in info.pointer.key]
        return [json.loads(line) for key in keys for line in self.store.read(key).splitlines()]

    def stored(self) -> Counter[int]:
        return Counter(line["item"] for line in self.lines())

    def results(self) -> list[Any]:
        return aggregated(self.run, self.store)


@pytest.fixture
def waiting(use_store, monkeypatch):
    made: list[WaitingChunk] = []

    def make(*args: Any, **options: Any) -> WaitingChunk:
        chunk = WaitingChunk(use_store(MemoryStore()), *args, **options)
        made.append(chunk)
        return chunk

    build = task_context.build_services

    def with_clock(*args: Any) -> Services:
        services = build(*args)
        services.now = lambda: made[-1].seconds
        return services

    monkeypatch.setattr(task_context, "build_services", with_clock)
    return make


ALL = [{"n": n, "v": f"v{n}"} for n in range(COUNT)]


def test_a_chunk_parks_once_for_all_keys_and_is_found_by_each(waiting):
    chunk = waiting()
    parked = chunk.start()
    assert chunk.state == "awaiting_input"
    assert set(chunk.rows()) == {f"item:{n}" for n in range(COUNT)}
    row = chunk.rows()["item:3"]
    assert (row.step, row.branch, row.item, row.since, row.until) == ("w", "b", 3, START, START + 600)
    assert parked.timeout.total_seconds() == 600
    assert not chunk.stored()


def test_only_items_with_an_event_continue_and_new_waits_alone_are_announced(waiting):
    chunk = waiting()
    chunk.start()
    for row in [key for key in chunk.run.xcoms if key[2].startswith(wait_key(""))]:
        del chunk.run.xcoms[row]
    chunk.seconds += 100
    parked = chunk.wake(4, 1)
    assert (chunk.state, set(chunk.stored())) == ("awaiting_input", {1, 4})
    assert chunk.rows() == {}
    assert parked.timeout.total_seconds() == 500
    chunk.wake(0, 2, 3, 5)
    assert chunk.state == "success"
    assert chunk.results() == ALL
    assert chunk.stored() == dict.fromkeys(range(COUNT), 1)


def test_a_wake_without_an_event_is_harmless(waiting):
    chunk = waiting()
    chunk.start()
    chunk.wake()
    assert chunk.state == "awaiting_input"
    assert chunk.run.wake(CHUNK, 0, chunk.chunk, event={"arrived": [wait_token("item:2")], "conflict": []})
    assert chunk.state == "awaiting_input"
    chunk.wake(*range(COUNT))
    assert chunk.results() == ALL


def test_events_that_were_taken_are_deleted_when_their_results_are_stored(waiting):
    chunk = waiting()
    chunk.start()
    chunk.wake(4, 1)
    assert list(chunk.run.notes[CHUNK, 0]) == ["allma"]


@pytest.mark.parametrize("woken", [False, True])
def test_a_killed_process_loses_no_event_and_repeats_no_ended_item(waiting, woken):
    chunk = waiting()
    chunk.start()
    chunk.wake(0, 1)
    # A process is killed before it has done anything with these events.
    chunk.send(2, 3)
    if woken:
        chunk.send(4)
    chunk.kill()
    chunk.start(2)
    assert chunk.state == "awaiting_input"
    assert chunk.stored() == dict.fromkeys(range(5 if woken else 4), 1)
    assert set(chunk.rows()) == {f"item:{n}" for n in range(5 if woken else 4, COUNT)}
    chunk.wake(*range(5 if woken else 4, COUNT), number=2)
    assert chunk.results() == ALL
    assert chunk.stored() == dict.fromkeys(range(COUNT), 1)


def test_a_process_that_was_killed_in_its_first_part_begins_again(waiting):
    chunk = waiting()
    chunk.kill()
    chunk.send(5)
    chunk.start(2)
    assert set(chunk.rows()) == {f"item:{n}" for n in range(5)}
    chunk.wake(*range(5), number=2)
    assert chunk.results() == ALL


def test_deadlines_survive_a_killed_process(waiting):
    chunk = waiting()
    chunk.start()
    chunk.kill()
    chunk.seconds += 599
    parked = chunk.start(2)
    assert parked.timeout.total_seconds() == 5
    chunk.seconds += 5
    chunk.wake(number=2)
    assert chunk.state == "success"
    assert {one["error"]["errorName"] for one in chunk.results()} == {"WaitTimeout"}


def test_after_a_clear_good_items_stay_and_failed_ones_wait_anew(waiting):
    chunk = waiting()
    chunk.start()
    chunk.wake(0, 1, 2)
    chunk.seconds += 600
    chunk.wake()
    assert chunk.state == "success"
    errors = chunk.results()[3:]
    assert [one["error"]["errorName"] for one in errors] == ["WaitTimeout"] * 3
    chunk.start(2, cleared_after=1)
    assert set(chunk.rows()) == {f"item:{n}" for n in (3, 4, 5)}
    assert chunk.rows()["item:4"].since == START + 600
    chunk.wake(3, 4, 5, number=2)
    assert chunk.results() == ALL


@pytest.mark.parametrize("killed", [False, True])
def test_selected_items_wait_anew_and_good_results_are_replaced_when_their_events_come(waiting, killed):
    chunk = waiting()
    chunk.start()
    chunk.wake(0, 1, 2, 4, 5)
    chunk.seconds += 600
    chunk.wake()
    selection = ForkSelection.of(7, {0: [1, 3]})
    chunk.run.xcoms["f.chunks", -1, Key.RERUN] = selection.encode()
    chunk.start(2, cleared_after=1)
    assert set(chunk.rows()) == {"item:1", "item:3"}
    if killed:
        chunk.kill()
        chunk.run.run(CHUNK, 0, chunk.chunk, (3, 1))
        assert set(chunk.rows()) == {"item:1", "item:3"}
    chunk.send(1, 3, v="new")
    tokens = [wait_token("item:1"), wait_token("item:3")]
    tries = (3 if killed else 2, 1)
    chunk.run.wake(CHUNK, 0, chunk.chunk, tries, {"arrived": tokens, "conflict": []})
    assert chunk.state == "success"
    assert [one["v"] for one in chunk.results()] == ["v0", "new", "v2", "new", "v4", "v5"]


def test_a_chunk_that_fails_items_without_tolerance_fails_at_its_end_only(waiting):
    chunk = waiting(fork={"failOnBranchError": True})
    chunk.start()
    chunk.wake(0, 1, 2)
    chunk.seconds += 600
    failed = chunk.wake()
    assert chunk.state == "failed"
    assert "3 of 6 items failed" in str(failed)


def test_failures_of_earlier_parts_are_counted_and_shown_once(waiting, caplog):
    steps = {"last": compose(to="check"), "check": {"stepType": "NO_OP"}}
    steps["w0"] = {
        "stepType": "NO_OP",
        "transitions": [{"condition": "$.currentItem.n < 2", "nextStepInstanceId": "bad"}],
        "defaultNextStepInstanceId": "w",
    }
    steps["bad"] = {
        "stepType": "DATA_LOAD",
        "moduleIdentifier": "system/s3-data-loader",
        "customConfig": {"sourceS3Uri": "nonsense"},
    }
    chunk = waiting(steps)
    chunk.run.flow["steps"]["f"]["parallelBranches"][0]["stepInstanceId"] = "w0"
    chunk.run.__post_init__()
    (chunk.chunk,) = chunk.run.plan("f")
    chunk.start()
    assert chunk.state == "awaiting_input"
    with caplog.at_level("INFO"):
        returned = chunk.wake(2, 3, 4, 5)
    assert returned == {"items": 6, "failed": 2, "first": 0}
    assert sum("2 of 6 items failed" in record.getMessage() for record in caplog.records) == 1
    assert sum("item 0, line 1" in record.getMessage() for record in caplog.records) == 1
    assert chunk.stored() == dict.fromkeys(range(COUNT), 1)


def test_a_manifest_that_has_changed_while_the_chunk_was_parked_fails_only_a_try_that_reads_it(waiting):
    chunk = waiting()
    chunk.start()
    chunk.store.write(Pointer("data", "m.jsonl"), manifest(COUNT, "new"))
    chunk.wake(0, 1)
    assert chunk.state == "awaiting_input"
    chunk.kill()
    chunk.start(2)
    assert "has changed" in error_of(chunk.run, 0)


def test_a_key_for_which_another_run_waits_fails_its_item_alone(waiting):
    chunk = waiting()
    chunk.start()
    chunk.run.wake(
        CHUNK, 0, chunk.chunk, event={"arrived": chunk.send(0), "conflict": [wait_token("item:1")]}
    )
    assert chunk.state == "awaiting_input"
    chunk.wake(2, 3, 4, 5)
    data = chunk.results()
    assert data[1]["error"]["errorName"] == "PermanentStepError"
    assert "waits for the key 'item:1'" in data[1]["error"]["errorMessage"]
    assert [one for n, one in enumerate(data) if n != 1] == [one for n, one in enumerate(ALL) if n != 1]


def test_one_key_twice_in_a_branch_needs_two_events_also_after_a_kill(waiting):
    steps = {
        "last": compose({"n": "$.currentItem.n", "first": "$.answer.v"}, to="w2"),
        "w2": {
            "stepType": "WAIT_FOR_EXTERNAL_EVENT",
            "correlationKeyTemplate": "item:{{currentItem.n}}",
            "outputMappings": {"$.output": "$"},
        },
    }
    chunk = waiting(steps)
    chunk.start()
    chunk.wake(*range(COUNT))
    assert chunk.state == "awaiting_input"
    chunk.kill()
    chunk.start(2)
    assert chunk.state == "awaiting_input"
    assert len(chunk.rows()) == COUNT
    chunk.wake(*range(COUNT), number=2)
    assert chunk.results() == [{"v": f"v{n}"} for n in range(COUNT)]


def test_without_a_folder_items_that_wait_travel_in_an_xcom(waiting, monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    chunk = waiting(offload=False)
    chunk.start()
    assert chunk.state == "awaiting_input"
    assert not list(chunk.store.list("data", "allma"))
    chunk.wake(1, 3)
    # A try that replaces a lost one needs the events that were taken.
    assert len(chunk.run.notes[CHUNK, 0]) == 2
    chunk.wake(0, 2, 4, 5)
    assert chunk.run.run("f.aggregate")["aggregatedData"] == ALL
    assert chunk.run.notes[CHUNK, 0] == {}


def test_an_item_that_failed_after_its_event_does_not_wait_again_when_a_process_was_killed(waiting):
    steps = {
        "last": {
            "stepType": "NO_OP",
            "transitions": [{"condition": "$.answer.bad == true", "nextStepInstanceId": "bad"}],
            "defaultNextStepInstanceId": "good",
        },
        "good": compose({"n": "$.currentItem.n", "v": "$.answer.v"}),
        "bad": {
            "stepType": "DATA_LOAD",
            "moduleIdentifier": "system/s3-data-loader",
            "customConfig": {"sourceS3Uri": "nonsense"},
        },
    }
    chunk = waiting(steps)
    chunk.start()
    event = {"arrived": chunk.send(1, bad=True), "conflict": {}}
    chunk.run.wake(CHUNK, 0, chunk.chunk, event=event)
    chunk.kill()
    chunk.start(2)
    assert set(chunk.rows()) == {f"item:{n}" for n in (0, 2, 3, 4, 5)}
    returned = chunk.wake(0, 2, 3, 4, 5, number=2)
    assert returned == {"items": COUNT, "failed": 1, "first": 0}
    assert "sourceS3Uri" in chunk.results()[1]["error"]["errorMessage"]
    assert chunk.stored() == dict.fromkeys(range(COUNT), 1)
    # A clear is another matter: the item begins anew.
    chunk.start(3, cleared_after=2)
    assert set(chunk.rows()) == {"item:1"}
    chunk.wake(1, number=3)
    assert chunk.results() == ALL


def test_a_try_after_a_kill_continues_items_before_it_has_read_their_lines(waiting):
    count = 600
    chunk = waiting(count=count)
    chunk.start()
    chunk.send(*range(300, count))
    chunk.kill()
    chunk.start(2)
    assert chunk.state == "awaiting_input"
    assert chunk.stored() == dict.fromkeys(range(300, count), 1)
    chunk.seconds += 600
    chunk.wake(number=2)
    errors = chunk.results()[:300]
    lines = [one["error"]["errorDetails"]["byteOffset"] for one in errors]
    assert lines == [n * lines[1] for n in range(300)]
    # The lines of results that were stored by the try that did not read them.
    offsets = {line["item"]: line["offset"] for line in chunk.lines()}
    assert [offsets[n] for n in range(count)] == [n * lines[1] for n in range(count)]
