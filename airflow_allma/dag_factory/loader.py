"""All flows of some folders as Dags: what the files in the dags folder call."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from airflow_allma.common.broken_flows import broken_flows_line
from airflow_allma.common.completion_runs import completion_dag_id, flow_dag_id
from airflow_allma.compat import check_policies
from airflow_allma.configuration import dag_limit
from airflow_allma.dag_factory.acceptance import check_acceptance, is_plain
from airflow_allma.dag_factory.build import dag_from_plan
from airflow_allma.dag_factory.flow_files import FlowFolders, Places
from airflow_allma.dag_factory.loader_options import FlowFilter, LoaderOptions, OnDag
from airflow_allma.dag_factory.plan import plan_completion, plan_dag
from airflow_allma.exceptions import FlowError
from airflow_allma.flow import Flow, LoadedFolder, Problem, safe_dag_id
from airflow_allma.flow.mail_routes import MailRoute, mail_routes
from airflow_allma.operators.flow_ref import FindFlow

if TYPE_CHECKING:
    from airflow.sdk import DAG

__all__ = ["OnProblem", "load_flows", "report_problems"]

_LOG: Final = logging.getLogger("airflow_allma.loader")

OnProblem = Callable[[Problem], None]
"""Called with every problem of a flow file, in the process that parses the Dag file."""

_MAX_SHOWN: Final = 50
_MAX_SHOWN_BYTES: Final = 48_000
"""MySQL's ``import_error.stacktrace`` has 65,535 bytes, and Airflow adds a traceback."""


def load_flows(
    places: Places = None,
    *,
    keep: FlowFilter | None = None,
    defaults: Mapping[str, Any] | None = None,
    on_dag: OnDag | None = None,
    on_problem: OnProblem | None = None,
    only: str | None = None,
) -> dict[str, DAG]:
    """Build a Dag for each flow, and a second one for its completion actions if it has any.

    Two lines of a Dag file do it::

        from airflow_allma import load_flows
        globals().update(load_flows(__file__))

    A broken file has no Dag and does not affect other flows; its problems are logged, and another file that
    calls ``report_problems`` shows them in the UI. In a task's own process only that task's Dag is built,
    from the few files that name it.

    Args:
        places: a folder to search, or several; a file, such as ``__file__``, means its folder.
            None: Airflow's dags folder. Files that match an ``.airflowignore`` are ignored.
        keep: which flows become Dags, ``keep(flow)``; None: all.
        defaults: values of a flow's ``airflow`` object for keys that the flow does not set, by their names
            there: ``{"pool": "flows", "maxActiveRuns": 4}``.
        on_dag: changes a Dag that was just built, ``on_dag(dag, flow)``; not that of completion actions.
        on_problem: also called with every problem.
        only: build only the Dag with this id; None: that of the task whose process this is, or all.

    Returns:
        Dag id -> Dag, ordered by flow id.

    Raises:
        FlowError: ``defaults`` are not valid in an ``airflow`` object.
    """
    from airflow.sdk import get_parsing_context

    started = time.perf_counter()
    options = LoaderOptions(keep, defaults, on_dag).checked()
    folders = FlowFolders.of(places)
    wanted = only or get_parsing_context().dag_id
    with _garbage_collection_off():
        loaded = folders.load_one(flow_dag_id(wanted) or wanted) if wanted else folders.load_all()
        problems = list(loaded.problems)
        dags = _build_dags(loaded, options, problems, wanted, find=folders.find)
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

    Two lines of a Dag file of its own, next to the one that loads the flows, do it::

        from airflow_allma import report_problems
        report_problems(__file__)

    It must be a file without Dags: Airflow disables all Dags of a file that fails.

    Args:
        places: as for ``load_flows``, like all other arguments.
        keep: see there.
        defaults: see there.
        on_dag: see there.

    Raises:
        FlowError: flows are broken; the message has the file, line, JSON path and fix of each problem.
    """
    options = LoaderOptions(keep, defaults, on_dag).checked()
    with _garbage_collection_off():
        loaded = FlowFolders.of(places).load_all()
        problems = list(loaded.problems)
        dags = _build_dags(loaded, options, problems, None)
    broken = list(dict.fromkeys(problem.file for problem in problems if problem.is_error))
    if broken:
        named = broken_flows_line(_broken_flows(loaded, options, problems, dags))
        raise FlowError(_summary(broken, problems, len(loaded.flows), named))


def _broken_flows(
    loaded: LoadedFolder, options: LoaderOptions, problems: Iterable[Problem], dags: Mapping[str, DAG]
) -> dict[str, list[str]]:
    """Return the ids of the flows that do not run, by their files as problems show them."""
    flows = {file.file: [*file.broken_flow_ids] for file in loaded.files}
    for source in loaded.flows:
        if safe_dag_id(source.flow.id) not in dags and _is_kept(source.flow, options):
            flows[source.file].append(source.flow.id)
    shown = {problem.file: problem.shown_file for problem in problems if problem.is_error}
    return {shown[file]: ids for file, ids in flows.items() if ids and file in shown}


@contextmanager
def _garbage_collection_off() -> Iterator[None]:
    """Switch garbage collection off: nearly all objects made here stay, and would be traversed repeatedly."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _build_dags(
    loaded: LoadedFolder,
    options: LoaderOptions,
    problems: list[Problem],
    wanted: str | None,
    *,
    find: FindFlow | None = None,
) -> dict[str, DAG]:
    """Return the Dags of all flows, or the wanted one; add what cannot be built to the problems."""
    dags: dict[str, DAG] = {}
    limit = cache(dag_limit)
    watching = (source.flow for source in loaded.flows if source.flow.airflow.watch is not None)
    mail = mail_routes(flow for flow in watching if _is_kept(flow, options))
    for source in loaded.flows:
        dag_id = safe_dag_id(source.flow.id)
        if wanted not in {None, dag_id, completion_dag_id(dag_id)}:
            continue
        try:
            dags.update(_build(source.flow, options, limit, wanted, find=find, mail=mail))
        except Exception as error:  # noqa: BLE001 - Airflow, policies and callbacks can raise anything
            # The other flows must load, and nothing is lost: the problem is logged and shown.
            reason = error or type(error).__name__
            problems.append(source.problem(f"Airflow cannot accept this flow: {reason}"))
    return dags


def _is_kept(flow: Flow, options: LoaderOptions) -> bool:
    try:
        return options.keep is None or bool(options.keep(flow))
    except Exception:  # noqa: BLE001 - it is a problem of this flow, which is found when its Dag is built
        return False


def _build(
    flow: Flow,
    options: LoaderOptions,
    limit: Callable[[str], int],
    wanted: str | None,
    *,
    find: FindFlow | None,
    mail: tuple[MailRoute, ...],
) -> dict[str, DAG]:
    """Return the Dag of a flow and its completion Dag, by id; nothing if the flow is not kept.

    Args:
        flow: the flow.
        options: the loader's.
        limit: returns a limit of ``[core]``.
        wanted: the Dag to build; None: all that the flow has. What Airflow would reject later is then
            detected now, when it would affect all Dags of the loader's file.
        find: finds the flows that steps run.
        mail: the start points for e-mails of all flows.
    """
    applied = options.apply(flow)
    if applied is None:
        return {}
    plan = plan_dag(applied, mail)
    built: dict[str, DAG] = {}
    if wanted in {None, plan.tasks.dag_id}:
        dag = built[plan.tasks.dag_id] = dag_from_plan(plan, limit, find)
        if options.on_dag is not None:
            options.on_dag(dag, flow)
        if wanted is None:
            _validate(dag, is_covered=options.on_dag is None and is_plain(applied))
    completion = plan_completion(plan)
    if completion is not None and wanted in {None, completion.dag_id}:
        # Few flows have one.
        from airflow_allma.dag_factory.build.completion_dag import completion_dag

        dag = built[completion.dag_id] = completion_dag(completion)
        if wanted is None:
            _validate(dag, is_covered=True)
    return built


def _validate(dag: DAG, *, is_covered: bool) -> None:
    """Check what Airflow would reject; ``is_covered``: the table of limits covers all that is in the Dag."""
    dag.validate()  # type: ignore[no-untyped-call]
    final = check_policies(dag)
    check_acceptance(final, serialize=not (is_covered and final is dag))


def _report(problems: Iterable[Problem], on_problem: OnProblem | None, *, is_logged: bool) -> None:
    for problem in problems:
        if is_logged:
            level = logging.ERROR if problem.is_error else logging.WARNING
            _LOG.log(level, "allma_problem %s", problem)
        if on_problem is not None:
            on_problem(problem)


def _summary(broken: list[str], problems: list[Problem], flows: int, named: str) -> str:
    shown = [str(problem) for file in broken for problem in dict.fromkeys(problems) if problem.file == file]
    if len(broken) == 1:
        errors = "1 flow file has errors; its flows do not run until it is fixed"
    else:
        errors = f"{len(broken)} flow files have errors; their flows do not run until the files are fixed"
    fitting = _first(shown)
    lines = [f"{errors}. Other flows that run: {flows}.", *([named] if named else []), *fitting]
    if len(shown) > len(fitting):
        lines.append(f"{len(shown) - len(fitting)} more: see `allma_problem` in the Dag processor's log.")
    return "\n\n".join(lines)


def _first(shown: list[str]) -> list[str]:
    """Return the first problems, as many as fit into an import error."""
    size = 0
    for count, problem in enumerate(shown[:_MAX_SHOWN]):
        size += len(problem.encode())
        if size > _MAX_SHOWN_BYTES:
            return shown[:count]
    return shown[:_MAX_SHOWN]
