"""How many tasks a flow's Dag has: branches that share steps multiply them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from airflow_allma.flow.diagnostics import Diagnostic, Path
from airflow_allma.flow.step_links import next_step_ids
from airflow_allma.flow.tree_walk import LocatedStep, Scope, branches_of, start_fields

__all__ = ["MAX_TASKS", "check_task_count"]

MAX_TASKS: Final = 5_000
"""A Dag of 5,000 tasks takes 3 s of CPU and 150 MB in the Dag processor and in every task's own process."""

_TASKS_OF_A_FORK: Final = 4  # items, chunks, chunk and aggregate


def check_task_count(flow: Mapping[str, Any], all_scopes: Sequence[Scope]) -> Iterator[Diagnostic]:
    """Yield an error if the flow's Dag would have more than ``MAX_TASKS`` tasks.

    Forks inside of branches and of loops have no tasks of their own.
    """
    main = all_scopes[0]
    options = flow.get("airflow")
    is_whole = isinstance(options, dict) and options.get("branchGranularity") == "branch"
    counter = _Counter(flow, all_scopes)
    total = len(main.steps)
    largest: tuple[int, Path] = (0, ("steps",))
    for located in main.steps.values():
        if located.kind != "PARALLEL_FORK_MANAGER" or counter.is_in_loop(located, main):
            continue
        tasks = _TASKS_OF_A_FORK + counter.branch_tasks(located, main, is_whole=is_whole)
        total += tasks
        largest = max(largest, (tasks, (*located.path, "parallelBranches")), key=lambda pair: pair[0])
    if total > MAX_TASKS:
        yield Diagnostic(
            largest[1],
            f"the Dag would have {total} tasks, and at most {MAX_TASKS} are possible: each branch has a task "
            "for every step that it reaches, also for steps that branches share; set "
            "`airflow.branchGranularity` to `branch`, so that a branch is one task, or use fewer branches",
        )


class _Counter:
    def __init__(self, flow: Mapping[str, Any], all_scopes: Sequence[Scope]) -> None:
        self._flow = flow
        self._own = {scope.path: scope for scope in all_scopes}
        self._reached: dict[tuple[Path, str], frozenset[str]] = {}

    def branch_tasks(self, fork: LocatedStep, scope: Scope, *, is_whole: bool) -> int:
        """Return how many tasks the branches of a fork have: one for each step, or one for each branch."""
        aggregation = fork.step.get("aggregationConfig")
        limit = aggregation.get("maxConcurrency") if isinstance(aggregation, dict) else None
        # With a JSONPath the branches have tasks for each step, for runs in which it finds no limit.
        is_whole = is_whole or (bool(limit) and not isinstance(limit, str))
        tasks = 0
        for path, branch in branches_of(fork):
            for _, start in list(start_fields(path, branch))[:1]:
                inner = self._own.get((*path, "steps")) or scope.home_of(start)
                tasks += 1 if is_whole else len(self._reachable(inner, start))
        return tasks

    def is_in_loop(self, fork: LocatedStep, scope: Scope) -> bool:
        """Return whether a run can come back to the fork."""
        return any(fork.id in self._reachable(scope, step) for step in next_step_ids(fork, self._flow))

    def _reachable(self, scope: Scope, start: str) -> frozenset[str]:
        key = (scope.path, start)
        if key not in self._reached:
            seen: set[str] = set()
            waiting = [start]
            while waiting:
                step_id = waiting.pop()
                if step_id in scope.steps and step_id not in seen:
                    seen.add(step_id)
                    waiting.extend(next_step_ids(scope.steps[step_id], self._flow))
            self._reached[key] = frozenset(seen)
        return self._reached[key]
