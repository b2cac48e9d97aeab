"""Manual actions of the UI on every kind of task: many concurrent runs on one real scheduler."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from demo import airflow_client
from demo.airflow_client import AirflowClient
from demo.airflow_instance import AirflowInstance
from tests.airflow.finished_run import ask
from tests.airflow.flows import Json, branch, compose, flow, fork
from tests.airflow.shop import Answer, Shop, open_shop
from tests.support.airflow import parse_again, write_atomically

pytestmark = pytest.mark.scheduler

LIMIT = 8.0
"""Timeout in seconds in the flows that have a task which takes longer."""

PATIENT = {"timeoutMs": 170_000}
CASE = "/{{initialContextData.case}}"
LIST = [{"id": "i0"}, {"id": "i1"}]
ITEM = f"{CASE}/{{{{currentItem.id}}}}"


@dataclass(frozen=True)
class Kind:
    """A kind of task: the flow that has it, and what it asks the shop for."""

    flow: str
    task: str
    asks: str = ""
    map_index: int = -1
    in_chunks: bool = False

    @property
    def where(self) -> tuple[str, int]:
        return self.task, self.map_index


KINDS = {
    "segment": Kind("line", "a", "a"),
    "loop": Kind("line", "l", "l"),
    "items": Kind("fork", "f.items"),
    "branch": Kind("fork", "f.b.w", "i1", 1),
    "chunks": Kind("fork", "f.chunks", in_chunks=True),
    "chunk": Kind("fork", "f.chunk", "i1", 0, in_chunks=True),
    "aggregate": Kind("fork", "f.aggregate"),
}
THAT_ASK = [name for name, kind in KINDS.items() if kind.asks]


def flows(shop: Shop, folder: Path) -> Iterator[Json]:
    def asking(path: str, to: str | None = None, **more: Any) -> Json:
        return ask(shop, to, path=path, customConfig=PATIENT, **more)

    line = {
        "a": asking(f"{CASE}/a", "l"),
        "l": asking(f"{CASE}/l", "m"),
        "m": {
            "stepType": "NO_OP",
            "transitions": [{"condition": "$.initialContextData.never", "nextStepInstanceId": "l"}],
            "defaultNextStepInstanceId": "z",
        },
        "z": compose({"a": "$.steps_output.a.data.path", "l": "$.steps_output.l.data.path"}),
    }
    forked = {
        "f": fork(branch("w"), to="z", dataPath="$.steps_output.w.data.path"),
        "w": asking(ITEM),
        "z": compose({"all": "$.steps_output.f.aggregatedData"}),
    }
    options = {"offloadLocation": f"file://{folder}"}
    short = {**options, "executionTimeoutSeconds": LIMIT, "lostTaskRetries": 0}
    for name, steps in (("line", line), ("fork", forked)):
        yield flow(f"acts-{name}", steps, airflow={**options, "maxActiveRuns": 50})
        yield flow(f"acts-{name}-short", steps, airflow=short)
    yield flow("acts-line-paused", line, airflow=options)
    yield flow("acts-line-run-short", line, airflow={**options, "runTimeoutSeconds": LIMIT})


@dataclass
class Acts:
    """The running Airflow, and the shop that keeps calls waiting, or refuses them, by path."""

    client: AirflowClient
    shop: Shop
    folder: Path
    held: dict[str, threading.Event] = field(default_factory=dict)
    asked: dict[str, threading.Event] = field(default_factory=lambda: defaultdict(threading.Event))
    refused: set[str] = field(default_factory=set)

    def answer(self, path: str, _: int) -> Answer:
        self.asked[path].set()
        if path in self.held:
            self.held[path].wait(170)
        return (404, {}) if path in self.refused else (200, {"path": path})

    def payload(self, case: str, kind: Kind, manifest: str = "items.jsonl") -> Json:
        items: Any = LIST
        if kind.in_chunks:
            items = {"bucket": "file://", "key": str(self.folder / manifest).lstrip("/")}
        return {"case": case, "items": items}

    def start(self, case: str, kind: Kind, variant: str = "", **more: Any) -> Run:
        dag_id = f"acts-{kind.flow}{variant}"
        return Run(self, case, kind, dag_id, self.client.trigger(dag_id, self.payload(case, kind, **more)))

    def hold(self, case: str, kind: Kind) -> str:
        path = f"/{case}/{kind.asks}"
        self.held[path] = threading.Event()
        return path

    def let_go(self, path: str) -> None:
        self.held.pop(path).set()


@dataclass
class Run:
    """A run and the checks of its end."""

    acts: Acts
    case: str
    kind: Kind
    dag_id: str
    run_id: str

    def ended(self) -> str:
        return self.acts.client.wait_for_run(self.dag_id, self.run_id, 240.0)

    def state(self, task: str, map_index: int = -1) -> str | None:
        rows = self.acts.client.task_instances(self.dag_id, self.run_id)
        return next((t.state for t in rows if (t.task_id, t.map_index) == (task, map_index)), None)

    def clear(self, *tasks: str, downstream: bool = True) -> None:
        self.acts.client.clear(self.dag_id, self.run_id, tasks, downstream=downstream)

    def mark(self, state: str) -> None:
        self.acts.client.set_state(self.dag_id, self.run_id, self.kind.task, state, self.kind.map_index)

    def logs(self, task: str) -> str:
        return self.acts.client.logs(self.dag_id, self.run_id, task)

    def last(self) -> Any:
        return self.acts.client.xcom(self.dag_id, self.run_id, "z")

    def is_whole(self) -> None:
        paths = [
            f"/{self.case}/{name}" for name in (("a", "l") if self.kind.flow == "line" else ("i0", "i1"))
        ]
        assert self.ended() == "success"
        whole = {"a": paths[0], "l": paths[1]} if self.kind.flow == "line" else {"all": paths}
        assert self.last() == whole


def mark_failed(acts: Acts, case: str, kind: Kind) -> None:
    path = acts.hold(case, kind)
    run = acts.start(case, kind)
    assert acts.asked[path].wait(200)
    run.mark("failed")
    assert run.ended() == "failed"
    acts.let_go(path)
    assert run.state(*kind.where) == "failed"
    assert run.state("z") == "upstream_failed"
    run.clear(kind.task)
    run.is_whole()


def cancel(acts: Acts, case: str, kind: Kind) -> None:
    path = acts.hold(case, kind)
    run = acts.start(case, kind)
    assert acts.asked[path].wait(200)
    where = f"dags/{run.dag_id}/dagRuns/{run.run_id}"
    acts.client.call("PATCH", where, body={"state": "failed"})
    assert run.ended() == "failed"
    acts.let_go(path)
    assert run.state(*kind.where) == "failed"
    assert run.state("z") in {"skipped", None}
    acts.client.call("POST", f"{where}/clear", body={"dry_run": False, "only_failed": False})
    run.is_whole()


def time_out(acts: Acts, case: str, kind: Kind) -> None:
    path = acts.hold(case, kind)
    run = acts.start(case, kind, "-short")
    assert run.ended() == "failed"
    assert run.state(*kind.where) == "failed"
    assert run.state("z") == "upstream_failed"
    acts.let_go(path)
    run.clear(kind.task)
    run.is_whole()


def clear(acts: Acts, case: str, kind: Kind) -> None:
    run = acts.start(case, kind)
    run.is_whole()
    run.clear(kind.task, downstream=False)
    run.is_whole()
    run.clear("z", downstream=False)
    run.is_whole()


def failing(acts: Acts, case: str, kind: Kind) -> Run:
    """Return a run that failed at or because of this kind of task, which was then marked as success."""
    acts.refused.add(f"/{case}/{kind.asks or 'i0'}")
    missing = {"manifest": "none.jsonl"} if kind.task == "f.chunks" else {}
    run = acts.start(case, kind, **missing)
    assert run.ended() == "failed"
    run.mark("success")
    return run


def mark_success(acts: Acts, case: str, kind: Kind) -> None:
    run = failing(acts, case, kind)
    state = run.ended()
    expected, result = AFTER_SUCCESS[kind.task]
    if isinstance(result, str):
        assert state == "failed"
        assert run.state("z") == ("upstream_failed" if kind.flow == "fork" else "failed")
        assert result in run.logs("f.aggregate" if kind.flow == "fork" else "z")
    else:
        assert state == "success"
        assert run.last() == {name: value.format(case) for name, value in result.items()}
        assert f"task {kind.task} is marked as success and pushed no state" in run.logs(expected)


AFTER_SUCCESS: dict[str, tuple[str, Any]] = {
    # The step counts as done, with an empty output.
    "a": ("l", {"l": "/{}/l"}),
    "f.aggregate": ("z", {}),
    # Only the steps of a loop know where the flow leaves it.
    "l": ("", "step l is followed by step m, which is one of them"),
    # Forks count results and compare them with the plan.
    "f.chunks": ("", "Task f.chunks is marked as success and planned nothing"),
    "f.b.w": ("", "1 of 2"),
    "f.chunk": ("", "1 of 2"),
}


def pause(acts: Acts, case: str, kind: Kind) -> None:
    path = acts.hold(case, kind)
    run = acts.start(case, kind, "-paused")
    assert acts.asked[path].wait(200)
    acts.client.call("PATCH", f"dags/{run.dag_id}", body={"is_paused": True})
    acts.let_go(path)
    acts.client.wait_for_task(run.dag_id, run.run_id, "a", states=["success"], timeout=200)
    # Another run that starts and ends in between proves that the scheduler had the chance to run the task.
    acts.start(f"{case}-other", kind).is_whole()
    # It may be scheduled; it must not start.
    assert run.state("l") in {None, "scheduled"}
    assert not acts.asked[f"/{case}/l"].is_set()
    acts.client.call("PATCH", f"dags/{run.dag_id}", body={"is_paused": False})
    run.is_whole()


def run_out_of_time(acts: Acts, case: str, kind: Kind) -> None:
    path = acts.hold(case, kind)
    run = acts.start(case, kind, "-run-short")
    assert run.ended() == "failed"
    assert run.state("z") in {"skipped", None}
    acts.let_go(path)


Act = Callable[[Acts, str, Kind], None]
SCENES: list[tuple[Act, str]] = [
    *((act, name) for act in (time_out, mark_failed, cancel) for name in THAT_ASK),
    (pause, "segment"),
    (run_out_of_time, "segment"),
    *((mark_success, name) for name in KINDS if name != "items"),
    *((clear, name) for name in KINDS),
]


@pytest.fixture(scope="module")
def played(
    airflow_instance: AirflowInstance, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[tuple[str, str], Future[None]]]:
    """Start all scenes in a thread pool; yield their futures."""
    folder = tmp_path_factory.mktemp("acts")
    (folder / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in LIST))
    client = airflow_instance.client
    patch = pytest.MonkeyPatch()
    patch.setattr(airflow_client, "POLL_SECONDS", 0.6)
    with open_shop() as shop, ThreadPoolExecutor(12) as pool:
        acts = Acts(client, shop, folder)
        shop.answer = acts.answer
        written = list(flows(shop, folder))
        for one in written:
            write_atomically(airflow_instance.dags[0] / f"{one['id']}.json", json.dumps(one))
        parse_again(airflow_instance)
        for one in written:
            client.wait_for_dag(one["id"])
        futures = {
            (act.__name__, name): pool.submit(act, acts, f"{act.__name__}-{name}", KINDS[name])
            for act, name in SCENES
        }
        yield futures
        for held in list(acts.held.values()):
            held.set()
    patch.undo()


@pytest.mark.parametrize(("act", "kind"), [(act.__name__, name) for act, name in SCENES])
def test_a_run_is_correct_after_a_manual_action_on_a_task(played, act, kind):
    played[act, kind].result(400)
