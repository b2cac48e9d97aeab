"""The import graph of the package: circles, and modules that must stay free of Airflow."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from tests.support.layers import PACKAGE, imports, modules

FREE_OF_AIRFLOW = frozenset(
    {
        "common",
        "flow",
        "expressions",
        "storage",
        "engine",
        "settings",
        "distributed",
        "timetables.aws_cron",
        "timetables.aws_rate",
        "timetables.descriptions",
        "timetables.next_run",
        "timetables.schedules",
        "timetables.start_points",
        "timetables.unix_cron",
        "loading",
        "dag_factory.file_index",
        "dag_factory.plan",
        "cli.graph_command",
        "cli.run_command",
        "cli.select_flow",
        "cli.validate_command",
    }
)
"""Modules and packages without the package's name; a package stands for all its modules."""

ImportGraph = Mapping[str, Collection[str]]
"""Module -> the modules that it imports, also inside functions and for type checkers."""


def circles(root: Path) -> list[tuple[str, ...]]:
    """Return all groups of modules that import each other, directly or by way of others.

    Imports inside functions and for type checkers count. That importing a module runs the ``__init__`` of its
    packages does not count: every package that re-exports its modules would be a circle.
    """
    graph = import_graph(root)
    reachable = {module: _reachable(graph, module) for module in graph}
    found = {
        tuple(sorted(other for other in reachable[module] if module in reachable[other]))
        for module in graph
        if module in reachable[module]
    }
    return sorted(found)


def reach_airflow(root: Path, free: Collection[str] = FREE_OF_AIRFLOW) -> list[str]:
    """Return which of the modules import Airflow, themselves or by way of others, one sentence each.

    Args:
        root: the folder that contains the package.
        free: modules and packages that must not.
    """
    graph = import_graph(root)
    with_airflow = {
        _name(root, one.file) for one in imports(root) if one.module.partition(".")[0] == "airflow"
    }
    return [
        f"{module} reaches Airflow through {reached}"
        for module in sorted(graph)
        if any(module == one or module.startswith(f"{one}.") for one in free)
        for reached in sorted(with_airflow & {module, *_reachable(graph, module)})
    ]


def import_graph(root: Path) -> ImportGraph:
    """Return the graph of all imports within the package.

    ``from package import module`` leads to the module, another name to the package's ``__init__``.
    """
    names = {file: _name(root, file) for file in modules(root)}
    known = frozenset(names.values())
    graph: dict[str, dict[str, None]] = {name: {} for name in known}
    for one in imports(root):
        if one.module.partition(".")[0] != PACKAGE:
            continue
        module = one.module.removeprefix(PACKAGE).removeprefix(".")
        for name in one.names or ("",):
            candidates = (f"{module}.{name}", module, module.rpartition(".")[0])
            target = next((candidate for candidate in candidates if candidate in known), None)
            if target is not None:
                graph[names[one.file]][target] = None
    return graph


def _name(root: Path, file: Path) -> str:
    path = file.relative_to(root / PACKAGE).with_suffix("")
    return ".".join(path.parts).removesuffix("__init__").removesuffix(".")


def _reachable(graph: ImportGraph, start: str) -> frozenset[str]:
    seen: set[str] = set()
    waiting = [*graph[start]]
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            waiting += graph[module]
    return frozenset(seen)
