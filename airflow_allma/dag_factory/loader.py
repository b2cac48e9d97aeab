"""All flows of some folders as Dags: what the loader file in the dags folder calls."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from airflow_allma.dag_factory.names import safe_dag_id
from airflow_allma.exceptions import FlowError
from airflow_allma.flow import FlowSource, Problem, find_files

if TYPE_CHECKING:
    from airflow.sdk import DAG

    from airflow_allma.flow import LoadedFolder

__all__ = ["OnProblem", "load_flows"]

_LOG: Final = logging.getLogger("airflow_allma.loader")

OnProblem = Callable[[Problem], None]
"""Told of everything that is wrong with a flow file, in the process that parses the Dag file."""


def load_flows(
    places: str | Path | Iterable[str | Path] | None = None,
    *,
    only: str | None = None,
    on_problem: OnProblem | None = None,
) -> dict[str, DAG]:
    """Build a Dag for each flow.

    Two lines of a Dag file do it::

        from airflow_allma.dag_factory import load_flows
        globals().update(load_flows(__file__))

    A file that is broken gives no Dag and takes no other flow along; everything that is wrong is logged. In a
    task's own process only that task's Dag is built, from the few files that name it.

    Args:
        places: a folder to look through, or several; a file, such as ``__file__``, stands for its folder.
            None: Airflow's dags folder.
        only: build the Dag of this id alone; None: that of the task whose process this is, else all.
        on_problem: called with every problem as well.

    Returns:
        Dag id -> Dag, ordered by flow id.
    """
    from airflow.sdk import get_parsing_context

    started = time.perf_counter()
    if places is None:
        places = _dags_folder()
    folders = [_folder(place) for place in ([places] if isinstance(places, str | Path) else places)]
    wanted = only or get_parsing_context().dag_id
    loaded = _load_one(folders, wanted) if wanted else _load(folders)
    dags: dict[str, DAG] = {}
    problems = list(loaded.problems)
    for source in loaded.flows:
        dag_id = safe_dag_id(source.flow.id)
        if wanted in {None, dag_id}:
            dag = _dag(source, problems)
            if dag is not None:
                dags[dag_id] = dag
    _report(problems, on_problem, only_dag=wanted)
    _LOG.info(
        "allma_load flows=%d dags=%d errors=%d milliseconds=%.1f",
        len(loaded.flows),
        len(dags),
        sum(problem.is_error for problem in problems),
        (time.perf_counter() - started) * 1000,
    )
    return dags


def _dag(source: FlowSource, problems: list[Problem]) -> DAG | None:
    from airflow.sdk.exceptions import AirflowException

    from airflow_allma.dag_factory.factory import build_dag

    try:
        return build_dag(source.flow)
    except (FlowError, AirflowException, ValueError, TypeError) as error:
        # Airflow raises what it likes for a value that it cannot take: one flow must not take others along.
        problems.append(source.problem(f"Airflow cannot take this flow: {error}"))
        return None


def _load(places: Iterable[Path]) -> LoadedFolder:
    from airflow_allma.engine.loading import load_flow_files
    from airflow_allma.timetables import schedule_problem

    return load_flow_files(places, schedule_problem)


def _load_one(folders: list[Path], dag_id: str) -> LoadedFolder:
    """Only the files that name the flow; all of them if none of those makes the Dag."""
    name = dag_id.encode()
    files = [path for folder in folders for path in find_files(folder) if _mentions(path, name)]
    loaded = _load(files)
    if any(safe_dag_id(source.flow.id) == dag_id for source in loaded.flows):
        return loaded
    return _load(folders)


def _mentions(path: Path, name: bytes) -> bool:
    try:
        return name in path.read_bytes()
    except OSError:
        return False


def _report(problems: Iterable[Problem], on_problem: OnProblem | None, *, only_dag: str | None) -> None:
    for problem in problems:
        if only_dag is None:
            level = logging.ERROR if problem.is_error else logging.WARNING
            _LOG.log(level, "allma_problem %s", problem)
        if on_problem is not None:
            on_problem(problem)


def _folder(place: str | Path) -> Path:
    path = Path(place)
    return path.parent if path.is_file() else path


def _dags_folder() -> Path:
    from airflow.sdk.configuration import conf

    return Path(conf.get("core", "dags_folder"))
