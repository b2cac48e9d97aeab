"""The plan of a flow's tasks, without Airflow."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_allma.dag_factory.plan.drawing import draw_mermaid, draw_text
from airflow_allma.dag_factory.plan.segments import TaskNode, TaskPlan, TaskRole, plan_tasks
from airflow_allma.flow import Flow
from airflow_allma.flow.step_graph import components, reachable


def flow(steps: dict[str, Any], start: str = "a", **more: Any) -> Flow:
    return Flow.model_validate({"id": "f", "startStepInstanceId": start, "steps": steps, **more})


def step(*to: str, fallback: str | None = None) -> dict[str, Any]:
    written: dict[str, Any] = {"stepType": "NO_OP"}
    if to:
        written["transitions"] = [{"condition": "$.x", "nextStepInstanceId": one} for one in to[1:]]
        written["defaultNextStepInstanceId"] = to[0]
    if fallback:
        written["onError"] = {"fallbackStepInstanceId": fallback}
    return written


def fork(*starts: str, to: str | None = None, **more: Any) -> dict[str, Any]:
    return {
        "stepType": "PARALLEL_FORK_MANAGER",
        "itemsPath": "$.items",
        "parallelBranches": [{"branchId": f"b{n}", "stepInstanceId": one} for n, one in enumerate(starts)],
        "aggregationConfig": {"strategy": "COLLECT_ARRAY", **more},
        **({"defaultNextStepInstanceId": to} if to else {}),
    }


def tasks(plan: TaskPlan) -> dict[str, TaskNode]:
    return {task.task_id: task for task in plan.tasks}


graphs = st.integers(1, 12).flatmap(
    lambda size: st.fixed_dictionaries(
        {str(n): st.lists(st.integers(0, size - 1).map(str), max_size=4, unique=True) for n in range(size)}
    )
)


@given(graphs)
def test_every_reachable_step_is_in_exactly_one_component(graph):
    parts = components(graph, "0")
    steps = [one for part in parts for one in part.steps]
    assert sorted(steps) == sorted(reachable(graph, "0"))
    assert len(steps) == len(set(steps))


@given(graphs)
def test_components_are_in_topological_order_so_their_graph_has_no_cycle(graph):
    parts = components(graph, "0")
    place = {one: number for number, part in enumerate(parts) for one in part.steps}
    assert all(place[target] > number for number, part in enumerate(parts) for target in part.successors)


@given(graphs)
def test_two_steps_share_a_component_exactly_when_each_reaches_the_other(graph):
    together = {(a, b) for part in components(graph, "0") for a in part.steps for b in part.steps}
    found = reachable(graph, "0")
    assert together == {
        (a, b) for a in found for b in found if b in reachable(graph, a) and a in reachable(graph, b)
    }


@given(graphs, st.sets(st.integers(0, 11).map(str)), st.integers(0, 11), st.integers(0, 3))
def test_a_plan_has_one_task_per_main_step_which_waits_only_for_earlier_ones(graph, forks, start, limit):
    start_step = str(start % len(graph))
    steps = {
        name: fork(start_step, to=(to or [None])[0], maxConcurrency=limit) if name in forks else step(*to)
        for name, to in graph.items()
    }
    plan = plan_tasks(flow(steps, "0"))
    ids = [task.task_id for task in plan.tasks]
    assert len(ids) == len(set(ids))
    seen: set[str] = set()
    for task in plan.tasks:
        assert seen.issuperset(task.upstream)
        seen.add(task.task_id)
    main = [one for task in plan.tasks if task.branch is None for one in task.steps]
    edges = {name: ([*to[:1]] if name in forks else [*to]) for name, to in graph.items()}
    assert set(main) == set(reachable(edges, "0"))
    for spread in {task.fork for task in plan.tasks if task.fork}:
        inside = [one for task in plan.of_fork(spread) if task.branch == 0 for one in task.steps]
        assert sorted(inside) == sorted(reachable(edges, start_step))
    assert plan == plan_tasks(flow(steps, "0"))


def test_a_chain_of_five_thousand_steps_is_laid_out():
    steps = {f"s{n}": step(f"s{n + 1}") for n in range(4999)} | {"s4999": step()}
    assert len(plan_tasks(flow(steps, "s0")).tasks) == 5000


def test_a_loop_is_one_task_whichever_way_it_is_entered():
    plan = tasks(plan_tasks(flow({"a": step("c", "b"), "b": step("c"), "c": step("b", "d"), "d": step()})))
    assert set(plan) == {"a", "b", "d"}
    assert plan["b"].role is TaskRole.LOOP
    assert set(plan["b"].steps) == {"b", "c"}
    assert plan["d"].upstream == ("b",)


def test_a_step_that_leads_to_itself_is_a_loop_of_one():
    plan = tasks(plan_tasks(flow({"a": step("b", "a"), "b": step()})))
    assert plan["a"].role is TaskRole.LOOP
    assert plan["a"].upstream == ()


def test_a_fallback_is_an_edge_like_any_other():
    plan = tasks(plan_tasks(flow({"a": step("b", fallback="c"), "b": step(), "c": step()})))
    assert plan["c"].upstream == ("a",)


def test_the_default_error_handler_applies_to_steps_without_their_own():
    handler = {"defaultErrorHandler": {"fallbackStepInstanceId": "c"}}
    plan = tasks(
        plan_tasks(
            flow(
                {"a": step("b"), "b": step(fallback="d"), "c": step(fallback="d"), "d": step(fallback="c")},
                defaultStepConfig=handler,
            )
        )
    )
    assert plan["c"].role is TaskRole.LOOP
    assert plan["c"].upstream == ("a", "b")


def test_a_fork_becomes_a_group_with_a_mapped_group_for_each_branch():
    plan = plan_tasks(flow({"a": fork("b", "c", to="z"), "b": step("c"), "c": step(), "z": step()}))
    found = tasks(plan)
    assert set(found) == {
        "a.items", "a.b0.b", "a.b0.c", "a.b1.c", "a.chunks", "a.chunk", "a.aggregate", "z",
    }  # fmt: skip
    assert found["a.b0.b"].upstream == ("a.items",)
    assert found["a.b0.c"].upstream == ("a.b0.b",)
    assert set(found["a.aggregate"].upstream) == {"a.items", "a.b0.c", "a.b1.c", "a.chunks", "a.chunk"}
    assert found["z"].upstream == ("a.aggregate",)
    assert [group.group_id for group in plan.groups] == ["a", "a.b0", "a.b1"]


def test_a_step_of_the_main_path_that_is_also_in_a_branch_has_a_task_in_each():
    found = tasks(plan_tasks(flow({"a": fork("b", to="b"), "b": step()})))
    assert {"b", "a.b0.b"} <= set(found)


def test_a_fork_in_a_loop_runs_inside_the_loops_task():
    found = tasks(plan_tasks(flow({"a": fork("b", to="c"), "b": step(), "c": step("a", "d"), "d": step()})))
    assert set(found) == {"a", "d"}
    assert found["a"].role is TaskRole.LOOP


def test_a_fork_in_a_branch_is_a_task_of_that_branch():
    found = tasks(plan_tasks(flow({"a": fork("b"), "b": fork("c", to="d"), "c": step(), "d": step()})))
    assert {"a.b0.b", "a.b0.d"} <= set(found)
    assert not any(name.startswith("b.") for name in found)


def test_a_loop_in_a_branch_is_one_task_of_that_branch():
    found = tasks(plan_tasks(flow({"a": fork("b"), "b": step("c"), "c": step("b", "d"), "d": step()})))
    assert found["a.b0.b"].role is TaskRole.LOOP
    assert found["a.b0.d"].upstream == ("a.b0.b",)


def test_a_branchs_own_steps_are_not_confused_with_the_flows():
    spread = fork("b")
    spread["parallelBranches"][0]["steps"] = {"b": step("own"), "own": step()}
    found = tasks(plan_tasks(flow({"a": spread, "b": step()})))
    assert {"a.b0.b", "a.b0.own"} <= set(found)


def test_branch_granularity_makes_a_branch_one_task():
    spread = {"a": fork("b"), "b": step("c"), "c": step()}
    found = tasks(plan_tasks(flow(spread, airflow={"branchGranularity": "branch"})))
    assert found["a.b0.b"].role is TaskRole.BRANCH
    assert found["a.b0.b"].steps == ("b", "c")
    assert found["a.b0.b"].max_active is None


@pytest.mark.parametrize(
    ("limit", "branches", "each"), [(5, 1, 5), (5, 2, 2), (1, 1, 1), (100, 3, 33), (0, 2, None)]
)
def test_a_concurrency_limit_is_shared_by_the_branches_and_each_branch_is_one_task(limit, branches, each):
    names = [f"s{n}" for n in range(branches)]
    steps = {"a": fork(*names, maxConcurrency=limit), **{name: step("end") for name in names}, "end": step()}
    found = [task for task in plan_tasks(flow(steps)).tasks if task.branch is not None]
    assert {task.max_active for task in found} == {each}
    assert {task.role for task in found} == {TaskRole.BRANCH if limit else TaskRole.STEP}


@pytest.mark.parametrize("branch_id", ["items", "chunks", "chunk", "aggregate", "a b", "é"])
def test_a_branch_id_never_collides_with_a_task_of_the_fork(branch_id):
    spread = fork("b")
    spread["parallelBranches"][0]["branchId"] = branch_id
    plan = plan_tasks(flow({"a": spread, "b": step()}))
    ids = [task.task_id for task in plan.tasks] + [group.group_id for group in plan.groups]
    assert len(ids) == len(set(ids)) == 7


def test_step_ids_that_airflow_does_not_accept_are_made_safe_and_stay_distinct():
    steps = {"a b": step("a.b"), "a.b": step("x" * 300), "x" * 300: step()}
    ids = [task.task_id for task in plan_tasks(flow(steps, "a b")).tasks]
    assert len(set(ids)) == 3
    assert all(re.fullmatch(r"[\w-]{1,70}", task_id, re.ASCII) for task_id in ids)


@pytest.mark.parametrize("flow_id", ["a/b", "größe", "a.b"])
def test_a_flow_id_that_airflow_does_not_accept_becomes_a_distinct_dag_id(flow_id):
    one = plan_tasks(flow({"a": step()}, id=flow_id)).dag_id
    other = plan_tasks(flow({"a": step()}, id=flow_id + "2")).dag_id
    assert one != other
    assert re.fullmatch(r"[\w-]+", one, re.ASCII)


def test_nothing_comes_after_end_flow():
    end = {"stepType": "END_FLOW", "defaultNextStepInstanceId": "c"}
    assert set(tasks(plan_tasks(flow({"a": step("b"), "b": end, "c": step()})))) == {"a", "b"}


def test_the_text_drawing_shows_every_task_with_its_dependencies():
    drawn = draw_text(
        plan_tasks(flow({"a": fork("b", to="c", maxConcurrency=3), "b": step("d"), "c": step(), "d": step()}))
    )
    assert "a.b0.b (branch, at most 3 at a time) runs b, d <- a.items" in drawn
    assert "c (step) <- a.aggregate" in drawn


def test_the_mermaid_drawing_shows_forks_and_branches_as_subgraphs():
    drawn = draw_mermaid(
        plan_tasks(flow({"a": fork("b"), "b": {"stepType": "NO_OP", "displayName": 'say "hi"'}}))
    )
    assert drawn.count("subgraph") == drawn.count("end\n") == 2
    assert '"say #quot;hi#quot;"' in drawn
