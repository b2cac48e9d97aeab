"""All flows of some folders as Dags: what the files in the dags folder call."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from airflow_allma.dag_factory.airflowignore import AirflowIgnoreFiles
from airflow_allma.dag_factory.index import files_that_name, recently_named
from airflow_allma.dag_factory.loader_options import FlowFilter, LoaderOptions, OnDag
from airflow_allma.dag_factory.names import safe_dag_id
from airflow_allma.exceptions import FlowError
from airflow_allma.flow import FlowSource, FoundFiles, Problem, find_files

if TYPE_CHECKING:
    from airflow.sdk import DAG

    from airflow_allma.engine.loading import FileMemory
    from airflow_allma.flow import LoadedFolder

__all__ = ["OnProblem", "load_flows", "report_problems"]

_LOG: Final = logging.getLogger("airflow_allma.loader")

Places = str | Path | Iterable[str | Path] | None

OnProblem = Callable[[Problem], None]
"""Told of everything that is wrong with a flow file, in the process that parses the Dag file."""

_MOST_SHOWN: Final = 50


def load_flows(
    places: Places = None,
    *,
    keep: FlowFilter | None = None,
    defaults: Mapping[str, Any] | None = None,
    on_dag: OnDag | None = None,
    on_problem: OnProblem | None = None,
    only: str | None = None,
) -> dict[str, DAG]:
    """Build a Dag for each flow.

    Two lines of a Dag file do it::

        from airflow_allma.dag_factory import load_flows
        globals().update(load_flows(__file__))

    A file that is broken gives no Dag and takes no other flow along; everything that is wrong is logged, and
    another file that calls ``report_problems`` shows it in the UI. In a task's own process only that task's
    Dag is built, from the few files that name it.

    Args:
        places: a folder to look through, or several; a file, such as ``__file__``, stands for its folder.
            None: Airflow's dags folder. What ``.airflowignore`` files name is left out.
        keep: which flows become Dags, ``keep(flow)``; None: all.
        defaults: what a flow's ``airflow`` object says where the flow itself says nothing, by the names that
            it has there: ``{"pool": "flows", "maxActiveRuns": 4}``.
        on_dag: changes a Dag that was just made, ``on_dag(dag, flow)``.
        on_problem: called with every problem as well.
        only: build the Dag of this id alone; None: that of the task whose process this is, else all.

    Returns:
        Dag id -> Dag, ordered by flow id.

    Raises:
        FlowError: ``defaults`` are not what an ``airflow`` object may hold.
    """
    from airflow.sdk import get_parsing_context

    started = time.perf_counter()
    choices = LoaderOptions(keep, defaults, on_dag).checked()
    folders = _folders(places)
    wanted = only or get_parsing_context().dag_id
    with _collector_at_rest():
        loaded = _load_one(folders, wanted) if wanted else _load(_find(folders))
        problems = list(loaded.problems)
        dags = _dags(loaded, choices, problems, wanted)
    _report(problems, on_problem, is_logged=wanted not in dags)
    _LOG.info(
        "allma_load flows=%d dags=%d errors=%d milliseconds=%.1f",
        len(loaded.flows),
        len(dags),
        sum(problem.is_error for problem in problems),
        (time.perf_counter() - started) * 1000,
    )
    return dags


def report_problems(
    places: Places = None,
    *,
    keep: FlowFilter | None = None,
    defaults: Mapping[str, Any] | None = None,
    on_dag: OnDag | None = None,
) -> None:
    """Fail if a flow is broken, so that Airflow's UI shows what is wrong as an import error.

    Two lines of a Dag file of its own, beside the one that loads the flows, do it::

        from airflow_allma.dag_factory import report_problems
        report_problems(__file__)

    It must be a file without Dags: Airflow takes all Dags of a file that fails out of service.

    Args:
        places: as ``load_flows`` has it, and so are the others.
        keep: see there.
        defaults: see there.
        on_dag: see there.

    Raises:
        FlowError: flows are broken; the message has file, line, JSON path and mend of each problem.
    """
    choices = LoaderOptions(keep, defaults, on_dag).checked()
    with _collector_at_rest():
        loaded = _load(_find(_folders(places)))
        problems = list(loaded.problems)
        _dags(loaded, choices, problems, None)
    broken = list(dict.fromkeys(problem.file for problem in problems if problem.is_error))
    if broken:
        raise FlowError(_report_text(broken, problems, len(loaded.flows)))


@contextmanager
def _collector_at_rest() -> Iterator[None]:
    """No garbage collection: nearly all that is made here stays, and is looked through again and again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _report_text(broken: list[str], problems: list[Problem], flows: int) -> str:
    shown = [str(problem) for file in broken for problem in dict.fromkeys(problems) if problem.file == file]
    lines = [
        f"{len(broken)} broken: flows of these files do not run until they are mended; {flows} others do.",
        *shown[:_MOST_SHOWN],
    ]
    if len(shown) > _MOST_SHOWN:
        lines.append(f"{len(shown) - _MOST_SHOWN} more: see `allma_problem` in the Dag processor's log.")
    return "\n\n".join(lines)


def _dags(
    loaded: LoadedFolder, choices: LoaderOptions, problems: list[Problem], wanted: str | None
) -> dict[str, DAG]:
    """The Dags of all flows, or the wanted one; what cannot be built is added to the problems."""
    dags: dict[str, DAG] = {}
    for source in loaded.flows:
        dag_id = safe_dag_id(source.flow.id)
        if wanted in {None, dag_id}:
            dag = _dag(source, choices, problems, strictly=wanted is None)
            if dag is not None:
                dags[dag_id] = dag
    return dags


def _dag(
    source: FlowSource, choices: LoaderOptions, problems: list[Problem], *, strictly: bool
) -> DAG | None:
    try:
        return choices.build(source, strictly=strictly)
    except Exception as error:  # noqa: BLE001 - Airflow, policies and callbacks raise what they like
        # One flow must not take others along, and nothing is lost: the problem is logged and shown.
        problems.append(source.problem(f"Airflow cannot take this flow: {error or type(error).__name__}"))
        return None


def _find(folders: Iterable[Path]) -> list[FoundFiles]:
    return [_find_in(folder) for folder in folders]


def _find_in(folder: Path) -> FoundFiles:
    above = _dags_folder()
    base = above if folder.is_relative_to(above) else folder
    return find_files(folder, AirflowIgnoreFiles(base), above)


def _load(found: Iterable[FoundFiles]) -> LoadedFolder:
    from airflow_allma.engine.loading import load_found_files
    from airflow_allma.timetables import schedule_problem

    return load_found_files(found, schedule_problem, _process_memory())


@cache
def _process_memory() -> FileMemory:
    from airflow_allma.engine.loading import FileMemory

    return FileMemory()


def _load_one(folders: list[Path], dag_id: str) -> LoadedFolder:
    """Only the files that name the flow; all of them if none of those makes the Dag."""
    recent = [recently_named(dag_id, folder) for folder in folders]
    if any(recent) and None not in recent:
        naming = [files or () for files in recent]
    else:
        naming = [files_that_name(dag_id, folder, partial(_find_in, folder)) for folder in folders]
    loaded = _load(FoundFiles(files, ()) for files in naming)
    if any(safe_dag_id(source.flow.id) == dag_id for source in loaded.flows):
        return loaded
    return _load(_find(folders))


def _report(problems: Iterable[Problem], on_problem: OnProblem | None, *, is_logged: bool) -> None:
    for problem in problems:
        if is_logged:
            level = logging.ERROR if problem.is_error else logging.WARNING
            _LOG.log(level, "allma_problem %s", problem)
        if on_problem is not None:
            on_problem(problem)


def _folders(places: Places) -> list[Path]:
    if places is None:
        places = _dags_folder()
    given = [places] if isinstance(places, str | Path) else places
    return [path.parent if (path := Path(place)).is_file() else path for place in given]


def _dags_folder() -> Path:
    from airflow.sdk import conf

    return Path(conf.get("core", "dags_folder"))
