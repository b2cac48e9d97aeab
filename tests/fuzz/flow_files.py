"""Campaign: mutated flow files, from reading to the serialized Dag."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_allma.dag_factory.plan import plan_dag
from airflow_allma.engine import compile_flow
from airflow_allma.exceptions import FlowError
from airflow_allma.flow import FileKind, FlowSource, Problem
from airflow_allma.loading import load_flow_files
from tests.fuzz.campaign import Campaign, UnlocatedError, WrongError, hidden_characters
from tests.fuzz.flow_mutations import mutated_bytes, mutated_document
from tests.support import airflow_home

MAX_MESSAGE = 2_000
MAX_PATH = 400
SHARE_BUILT = 0.25
"""Of the flows without errors: a Dag takes a hundred times longer than its plan."""


@dataclass(frozen=True)
class FlowFile:
    """A file of a flow folder.

    Attributes:
        name: its name.
        data: its content.
        is_built: whether its flows are built as Dags if they have no errors.
    """

    name: str
    data: bytes
    is_built: bool


def make(rng: random.Random) -> FlowFile:
    name = rng.choice(("flow.json",) * 12 + ("flow.prompt.json", "flow.flow.json", "fl\u00f6w {x}.json"))
    return FlowFile(name, mutated_bytes(rng, mutated_document(rng)), rng.random() < SHARE_BUILT)


def check(made: FlowFile, folder: Path) -> str:
    flows = folder / "flows"
    flows.mkdir(exist_ok=True)
    for old in flows.iterdir():
        old.unlink()
    (flows / made.name).write_bytes(made.data)
    loaded = load_flow_files([flows])
    (file,) = loaded.files
    for problem in loaded.problems:
        check_problem(problem, flows)
    if not loaded.flows:
        kind = file.kind.value if file.kind in {FileKind.OTHER, FileKind.UNREADABLE} else "problems"
        if not loaded.problems and file.kind not in {FileKind.EXPORT, FileKind.PROMPT}:
            raise WrongError("no flow and no problem")
        return kind if loaded.problems else "no flows"
    for source in loaded.flows:
        compile_flow(source.flow)
        if not _plan(source, flows):
            return "refused by the plan"
    return _build(flows) if made.is_built else "planned"


def check_problem(problem: Problem, folder: Path) -> None:
    """Check that a problem says where it is, in words that every screen can show."""
    if not problem.file.startswith(str(folder)) or problem.line < 1 or problem.column < 1:
        raise UnlocatedError(f"a problem without a position: {problem}")
    if not problem.path.startswith("$"):
        raise UnlocatedError(f"a problem without a path: {problem}")
    if len(problem.path) > MAX_PATH or len(problem.message) > MAX_MESSAGE:
        raise UnlocatedError(
            f"a problem that is too long: {len(str(problem))} characters: {str(problem)[:500]}"
        )
    if hidden_characters(problem.path + problem.message.replace("\n", "")):
        raise UnlocatedError(f"a problem that is not printable: {str(problem)!r}")


def _plan(source: FlowSource, folder: Path) -> bool:
    """Return whether a flow has a plan; the loader shows a FlowError as a problem with the flow."""
    try:
        plan_dag(source.flow)
    except FlowError as error:
        check_problem(source.problem(f"Airflow cannot accept this flow: {error}"), folder)
        return False
    return True


def _build(folder: Path) -> str:
    from airflow.serialization.serialized_objects import DagSerialization, LazyDeserializedDAG

    from airflow_allma.dag_factory import load_flows

    problems: list[Problem] = []
    dags = load_flows(folder, on_problem=problems.append)
    for problem in problems:
        check_problem(problem, folder)
    for dag in dags.values():
        # As the Dag processor does, and the scheduler after it.
        data = DagSerialization.to_dict(dag)
        stored = json.loads(json.dumps(data, allow_nan=False))
        LazyDeserializedDAG(data=stored).hash  # noqa: B018 - computed here
        DagSerialization.from_dict(stored)
        check_columns(dag, json.dumps(data))
    return "built" if dags else "refused by Airflow"


def check_columns(dag: Any, data: str) -> None:
    """Check that a Dag's values fit into the columns of Airflow's database."""
    if "\\u0000" in data.replace("\\\\", ""):
        raise WrongError("U+0000 in a serialized Dag, which PostgreSQL does not store")
    too_long = {
        "dag_id": (dag.dag_id, 250),
        "dag_display_name": (dag.dag_display_name, 2_000),
        "owners": (dag.owner, 2_000),
        **{f"tag {number}": (tag, 100) for number, tag in enumerate(sorted(dag.tags))},
        **{f"pool of task {number}": (task.pool, 256) for number, task in enumerate(dag.tasks)},
        **{f"queue of task {number}": (task.queue, 256) for number, task in enumerate(dag.tasks)},
    }
    for name, (value, limit) in too_long.items():
        if len(value or "") > limit:
            raise WrongError(f"{name.rstrip('0123456789 ')} is longer than its column: {len(value)}")
    numbers = {"max_active_runs": dag.max_active_runs, "max_active_tasks": dag.max_active_tasks}
    for task in dag.tasks:
        numbers |= {"priority_weight": task.priority_weight}
    for name, number in numbers.items():
        if number is not None and not -(2**31) <= number < 2**31:
            raise WrongError(f"{name} does not fit into its column: {number}")


def start(folder: Path) -> None:
    airflow_home.enter()
    path = folder / "flows" / "warm.json"
    path.parent.mkdir()
    path.write_text('{"id": "warm", "startStepInstanceId": "a", "steps": {"a": {"stepType": "NO_OP"}}}')
    if _build(path.parent) != "built":
        raise RuntimeError("not even the simplest flow is built")


def show(made: FlowFile) -> str:
    return f"{made.name}{' (built)' if made.is_built else ''}: {made.data.decode(errors='backslashreplace')}"


CAMPAIGN = Campaign("flow-files", make, check, start, show)
