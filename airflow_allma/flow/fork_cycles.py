"""Forks that contain themselves and can never end: a branch leads back into its fork, with the same items."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final

from airflow_allma.flow.diagnostics import Diagnostic, Path, quoted
from airflow_allma.flow.tree_walk import LocatedStep, Scope, branches_of, start_fields

__all__ = ["check_fork_cycles"]

_PLAIN_PATH: Final = re.compile(r"\$\.([A-Za-z_][A-Za-z0-9_]*)(?:\.[A-Za-z_][A-Za-z0-9_]*)*\s*\Z")
_FIRST_KEY: Final = re.compile(r"\s*(?:\$\.?)?\[?['\"]?([A-Za-z_][A-Za-z0-9_-]*)")
_MAX_REPORTS: Final = 8


@dataclass(frozen=True, slots=True)
class _Inner:
    """A fork that a branch surely runs into.

    Attributes:
        fork: its path.
        start: where the branch names its first step.
        written: the root keys of the data that are set on the way; None if that cannot be known.
    """

    fork: Path
    start: Path
    written: frozenset[str] | None


def check_fork_cycles(all_scopes: Sequence[Scope]) -> Iterator[Diagnostic]:
    """Yield the forks that run themselves again for each of their items, for all data.

    Only what is certain is reported: every fork of the cycle takes its items from a key that nothing in the
    cycle sets, its branch has no condition, and its steps have no transitions. All other forks inside of
    forks end at ``max_fork_depth``.
    """
    forks = {
        located.path: located
        for scope in all_scopes
        for located in scope.steps.values()
        if located.kind == "PARALLEL_FORK_MANAGER"
    }
    keys = {path: key for path, located in forks.items() if (key := _items_key(located)) is not None}
    edges = _edges(all_scopes, keys)
    for _ in range(_MAX_REPORTS):
        cycle = _cycle(edges)
        if cycle is None:
            return
        inner = edges[cycle[0]].pop(cycle[1])
        fork = forks[cycle[1]]
        yield Diagnostic(
            inner.start,
            f"this branch always leads into the fork {quoted(fork.id)} again, with the same items, so it "
            "never ends; start at another step, add a condition, or take the items from `$.currentItem`",
        )


def _edges(all_scopes: Sequence[Scope], keys: Mapping[Path, str]) -> dict[Path, dict[Path, _Inner]]:
    own = {scope.path: scope for scope in all_scopes}
    item_keys = frozenset(keys.values())
    edges: dict[Path, dict[Path, _Inner]] = {path: {} for path in keys}
    for scope in all_scopes:
        for located in scope.steps.values():
            if located.path in keys:
                for inner in _inner_forks(located, scope, own):
                    if inner.fork in keys and inner.written is not None and not inner.written & item_keys:
                        edges[located.path].setdefault(inner.fork, inner)
    return edges


def _cycle(edges: Mapping[Path, Mapping[Path, _Inner]]) -> list[Path] | None:
    """Return a cycle, its first member also at the end; None without one."""
    for path, inner in edges.items():
        if path in inner:
            return [path, path]
    try:
        TopologicalSorter({path: list(inner) for path, inner in edges.items()}).prepare()
    except CycleError as error:
        # It lists each member before the one that names it as a predecessor.
        cycle: list[Path] = error.args[1][::-1]
        return cycle
    return None


def _items_key(fork: LocatedStep) -> str | None:
    path = fork.step.get("itemsPath")
    match = _PLAIN_PATH.match(path.strip()) if isinstance(path, str) else None
    return None if match is None or match[1] == "currentItem" else match[1]


def _inner_forks(fork: LocatedStep, scope: Scope, own: Mapping[Path, Scope]) -> Iterator[_Inner]:
    """Yield the forks that a branch of this one surely runs into."""
    for path, branch in branches_of(fork):
        starts = list(start_fields(path, branch))
        if branch.get("condition") or branch.get("stepType") or not starts:
            continue
        start_path, start = starts[0]
        inner_scope = own.get((*path, "steps")) or scope.home_of(start)
        written = _targets(branch.get("inputMappings"), branch.get("literals"))
        for inner, more in _chain(inner_scope, start):
            known = written is not None and more is not None
            yield _Inner(
                inner, start_path, (written or frozenset()) | (more or frozenset()) if known else None
            )


def _chain(scope: Scope, start: str) -> Iterator[tuple[Path, frozenset[str] | None]]:
    """Yield each fork that surely follows a step, with the keys that the steps before it set."""
    written: frozenset[str] | None = frozenset()
    seen: set[str] = set()
    step_id: Any = start
    while isinstance(step_id, str) and step_id not in seen and step_id in scope.steps:
        seen.add(step_id)
        located = scope.steps[step_id]
        if located.kind == "PARALLEL_FORK_MANAGER":
            yield located.path, written
        if located.step.get("transitions") or located.kind == "END_FLOW":
            return
        mappings = located.step.get("outputMappings")
        more = frozenset({"steps_output"}) if mappings is None else _targets(mappings)
        written = None if written is None or more is None else written | more
        step_id = located.step.get("defaultNextStepInstanceId")


def _targets(*mappings: Any) -> frozenset[str] | None:
    """Return the root keys that mappings set; None if one cannot be known."""
    keys: set[str] = set()
    for mapping in mappings:
        for target in mapping if isinstance(mapping, dict) else ():
            match = _FIRST_KEY.match(target)
            if match is None:
                return None
            keys.add(match[1])
    return frozenset(keys)
