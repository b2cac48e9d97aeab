"""Forks whose branches cannot do what their author means."""

from __future__ import annotations

from typing import Final

from airflow_allma.flow.diagnostics import quoted
from airflow_allma.flow.lints.lint import FlowView, Warnings, lint, warning
from airflow_allma.flow.steps.item_reader import unused_options
from airflow_allma.flow.tree_walk import LocatedStep, branches_of, select

__all__ = [
    "branches_that_continue",
    "branches_that_never_run",
    "flows_as_branches",
    "forks_without_branches",
    "forks_without_items",
    "reader_options_without_effect",
    "retries_of_forks",
    "sums_of_objects",
]

_WHOLE_OUTPUT: Final = (None, "", "$", "$.", "$.output")
"""What ``dataPath`` can be without selecting a part of a branch's result."""
_FREE_OUTPUTS: Final = frozenset({"CUSTOM_LAMBDA_INVOKE", "CUSTOM_LOGIC", "LLM_INVOCATION"})
"""The types of steps whose output can be a number."""
_FLOW_FIELDS: Final = frozenset({"flowDefinitionId", "flowId", "subFlowId"})


@lint(fields=("itemReader",))
def reader_options_without_effect(view: FlowView) -> Warnings:
    """Yield fields of an ``itemReader`` that are for another format than the one it names."""
    for step in view.steps:
        reader = step.step.get("itemReader")
        if not isinstance(reader, dict):
            continue
        given = [field for field, value in reader.items() if value]
        for field, what in unused_options(given, str(reader.get("format", "AUTO")), reader.get("read")):
            yield warning(
                (*step.path, "itemReader", field),
                f"this has no effect: it is for {what}; remove it, or set `format`",
                at_key=True,
            )


@lint(kinds=("PARALLEL_FORK_MANAGER",))
def forks_without_branches(view: FlowView) -> Warnings:
    """Yield forks that have no branches, so that nothing runs for their items."""
    for step in view.steps:
        branches = step.step.get("parallelBranches")
        if step.kind == "PARALLEL_FORK_MANAGER" and (branches is None or branches == []):
            yield warning(
                (*step.path, "parallelBranches"),
                "a fork without branches runs nothing for its items; add a branch with a `branchId` and a "
                "`stepInstanceId`, its first step",
            )


@lint(fields=("itemReader",))
def forks_without_items(view: FlowView) -> Warnings:
    """Yield forks that have no items whatever their ``itemsPath`` finds."""
    for step in view.steps:
        for path, most in select(step.step, ("itemReader", "maxItems"), step.path):
            if most == 0 and not isinstance(most, bool):
                yield warning(
                    path, "with 0 the fork has no items, and no branch runs; write 1 or more, or remove it"
                )


@lint(fields=("branchSelection",))
def branches_that_never_run(view: FlowView) -> Warnings:
    """Yield branches after an unconditional one in a fork that runs only the first branch that applies."""
    for step in view.steps:
        if step.step.get("branchSelection") != "first":
            continue
        branches = list(branches_of(step))
        for index, (_, branch) in enumerate(branches[:-1]):
            if not branch.get("condition"):
                for path, later in branches[index + 1 :]:
                    yield warning(
                        path,
                        f"this branch never runs: {quoted(str(branch.get('branchId')))} before it has no "
                        "condition, and `branchSelection` is `first`; "
                        + (
                            "put it first" if later.get("condition") else "add a `condition` to the other one"
                        ),
                    )
                break


@lint(fields=("parallelBranches",))
def branches_that_continue(view: FlowView) -> Warnings:
    """Yield branches that go on to the step after their fork, so that it runs for each item as well."""
    order = view.order
    for fork in order.steps:
        edges = order.edges[fork.path]
        after = [edge.target for edge in edges if edge.field in {"defaultNextStepInstanceId", "transitions"}]
        ends = {"END_FLOW"} if _keeps_last_outputs(view, fork) else {"END_FLOW", "NO_OP"}
        joins = {step.path: step for step in after if step.kind not in ends}
        for _, path, start in (edge for edge in edges if edge.is_branch and edge.target.path not in joins):
            reached = order.reached_from([start], into_branches=False)
            for step in (joins[joined] for joined in joins.keys() & reached):
                yield warning(
                    path,
                    f"this branch goes on to step {quoted(step.id)}, which then runs for each item, and once "
                    f"more after the fork{_replaced(step)}; a branch ends at its last step, so leave out the "
                    "next step there",
                )


@lint(fields=("aggregationConfig",))
def sums_of_objects(view: FlowView) -> Warnings:
    """Yield forks that add up the results of their branches although these are objects."""
    if not _FREE_OUTPUTS.isdisjoint(view.features) or "output" in view.names.roots:
        return
    for step in view.steps:
        config = step.step.get("aggregationConfig")
        if step.kind != "PARALLEL_FORK_MANAGER" or not isinstance(config, dict):
            continue
        if config.get("strategy") == "SUM" and config.get("dataPath") in _WHOLE_OUTPUT:
            yield warning(
                (*step.path, "aggregationConfig", "strategy"),
                "SUM adds numbers, and leaves out results that are not; the result of a branch is the output "
                "of its last step, an object: set `dataPath` to the number in it, such as `$.amount`",
            )


@lint(fields=("parallelBranches",))
def flows_as_branches(view: FlowView) -> Warnings:
    """Yield branches that name a flow in another field than the one that counts."""
    for step in view.steps:
        for path, branch in branches_of(step):
            for field in _FLOW_FIELDS & branch.keys():
                yield warning(
                    (*path, field),
                    f"{quoted(field)} has no effect here; a branch that is a flow has "
                    '`"stepType": "START_SUB_FLOW"` and `subFlowDefinitionId`',
                    at_key=True,
                )


@lint(kinds=("PARALLEL_FORK_MANAGER",))
def retries_of_forks(view: FlowView) -> Warnings:
    """Yield ``retries`` of forks whose branches are tasks of their own, which nothing reruns together."""
    order = view.order
    if not order.has_start:
        return
    in_branches = order.reached_from(
        [edge.target for edges in order.edges.values() for edge in edges if edge.is_branch]
    )
    in_loops = {step.path for loop in order.loops for step in loop} if view.links.may_loop else ()
    for fork in view.scopes[0].steps.values():
        if fork.kind != "PARALLEL_FORK_MANAGER" or fork.path in in_branches or fork.path in in_loops:
            continue
        for path, count in select(fork.step, ("onError", "retries", "count"), fork.path):
            if count:
                yield warning(
                    path[:-1],
                    "this does not rerun the branches, which are tasks of their own; set `retries` in "
                    "`onError` of the steps in the branches",
                    at_key=True,
                )


def _keeps_last_outputs(view: FlowView, fork: LocatedStep) -> bool:
    """Return whether the results of a fork are the outputs of the last steps of its branches."""
    config = fork.step.get("aggregationConfig")
    if isinstance(config, dict) and (
        config.get("strategy") == "NONE" or config.get("dataPath") not in _WHOLE_OUTPUT
    ):
        return False
    return "output" not in view.names.roots


def _replaced(step: LocatedStep) -> str:
    return ", and its message replaces the branch's result" if step.kind == "NO_OP" else ""
