"""Sub-flows whose steps wait, and those whose steps do not: the same results, and nothing outside changes."""

from __future__ import annotations

import asyncio
import json

import pytest

from airflow_allma.engine import RunState, SegmentStatus, run_segment
from airflow_allma.engine.http_fake import json_response
from airflow_allma.engine.suspension import Answers, SuspendReason
from tests.support.engine import INFO, Fakes, call, compose, fork, noop, program_of, run, then
from tests.support.sub_flows import VAT, library, start_flow, sub_flow

URL = "https://api.test/x"


# Without waiting


@pytest.mark.parametrize(
    "steps", [VAT, {"first": noop(delay={"milliseconds": 1}), **VAT}, {"get": call(URL)}]
)
def test_items_that_wait_and_those_that_do_not_have_the_same_results(steps):
    # The first step leads to the second where there are two.
    chained = {**steps}
    if "first" in chained:
        chained["first"] = {**chained["first"], **then("rate")}
    flows = library({"vat": chained})
    items = {"items": [1, 2, 3]}
    fakes = Fakes()
    fakes.http.route("GET", URL, json_response({"ok": 1}))
    forked = {"fan": fork("sub"), "sub": sub_flow("vat", inputMappings={"net": "$.currentItem"})}
    results = run(forked, items, fakes=fakes, flows=flows).outputs["fan"]["aggregatedData"]
    alone = [run(chained, {"net": net}, fakes=fakes, flows=flows).context for net in items["items"]]
    for result, context in zip(results, alone, strict=True):
        del result["flow_variables"], context["flow_variables"]
        result["steps_output"].get("get", {}).pop("headers", None)
        context["steps_output"].get("get", {}).pop("headers", None)
    assert results == alone


def test_only_flows_whose_steps_wait_need_an_event_loop():
    flows = library(
        {
            "vat": VAT,
            "outer": {"sub": sub_flow("vat")},
            "slow": {"get": call(URL)},
            "outer_slow": {"sub": sub_flow("slow")},
            "a": {"b": sub_flow("b")},
            "b": {"a": sub_flow("a")},
        }
    )
    services = Fakes().services(flows=flows)
    inline = {
        flow_id: program_of({"sub": sub_flow(flow_id)}).runs_inline(services)
        for flow_id in ("vat", "outer", "slow", "outer_slow", "a", "missing")
    }
    assert inline == {
        "vat": True,
        "outer": True,
        "slow": False,
        "outer_slow": False,
        "a": False,
        "missing": False,
    }
    assert not program_of({"sub": sub_flow("vat", delay={"milliseconds": 1})}).runs_inline(services)
    assert program_of({"sub": start_flow("vat")}).runs_inline(services)
    assert not program_of({"sub": start_flow("{{x}}")}).runs_inline(services)


# Waiting

WAITING = {
    "wait": {"stepType": "WAIT_FOR_EXTERNAL_EVENT", "correlationKeyTemplate": "order-{{id}}", **then("done")},
    "done": compose(inputMappings={"by": "$.steps_output.wait.by"}, outputMappings={"$.by": "$.by"}),
}


def test_a_sub_flow_waits_in_its_parent():
    flows = library(
        {"approve": WAITING, "outer": {"deeper": sub_flow("approve", inputMappings={"id": "$.id"})}}
    )
    program = program_of({"sub": sub_flow("outer", inputMappings={"id": "$.id"}), "after": noop()})
    answers = Answers()

    async def main():
        services = Fakes().services(flows=flows, answers=answers)
        first = await run_segment(program, program.start_state({"id": 7}, "run-1"), INFO, services)
        early = await run_segment(program, first.state, INFO, services)
        saved = json.loads(json.dumps(early.state.to_dict()))
        answers.put(SuspendReason.EVENT, "order-7", {"payload": {"by": "ann"}})
        return first, await run_segment(program, RunState.from_dict(saved), INFO, services)

    first, last = asyncio.run(main())
    assert first.status is SegmentStatus.SUSPENDED
    (wait,) = first.waits
    assert (wait.key, wait.step_id) == ("order-7", "wait")
    assert last.status is SegmentStatus.COMPLETED
    outer = last.state.context["steps_output"]["sub"]
    assert outer["steps_output"]["deeper"]["by"] == "ann"
    assert last.state.path == ["sub"]


def test_the_version_that_began_also_ends():
    flows = library({"approve": WAITING})
    asked = []

    class Watched:
        def program(self, flow_id, version):
            asked.append((flow_id, version))
            return flows.program(flow_id, version)

    program = program_of({"sub": sub_flow("approve", literals={"id": 1})})

    async def main():
        services = Fakes().services(flows=Watched())
        first = await run_segment(program, program.start_state({}, "run-1"), INFO, services)
        await run_segment(program, first.state, INFO, services)

    asyncio.run(main())
    assert asked == [("approve", "LATEST_PUBLISHED"), ("approve", "1")]


def test_a_wait_names_the_item_around_the_sub_flow():
    flows = library({"approve": WAITING})
    program = program_of({"sub": sub_flow("approve", literals={"id": 1})})

    async def main():
        state = RunState("sub", {"steps_output": {}})
        return await run_segment(program, state, INFO.in_branch("f", "b", 4), Fakes().services(flows=flows))

    (wait,) = asyncio.run(main()).waits
    assert (wait.branch_id, wait.item_index, wait.step_id) == ("b", 4, "wait")


@pytest.mark.parametrize(
    "mapped",
    [
        {"inputMappings": {"order": "$.order"}},
        {"inputMappings": {"order": "$.order"}, "literals": {"order": {"more": 1}}},
        {"inputMappings": {"order": "$.order"}, "literals": {"order.more": 1}},
        {"inputMappings": {"initialContextData.order": "$.order"}},
        {"inputMappingsToSubFlow": {"order": "$.order"}},
        {"inputMappingsToSubFlow": {"order": "$.order", "order.more": "$.order.net"}},
    ],
)
@pytest.mark.parametrize("waits", [False, True])
def test_a_sub_flow_changes_nothing_outside_of_it(mapped, waits):
    change = compose(
        inputMappings={"net": "$.order.net", "rows": "$.order.rows"},
        outputMappings={"$.order.net": "$.rows", "$.order.rows[0]": "$.net"},
        **({"delay": {"milliseconds": 1}} if waits else {}),
    )
    order = {"net": 5, "rows": [1, 2]}
    ran = run({"sub": sub_flow("child", **mapped)}, {"order": order}, flows=library({"child": {"a": change}}))
    assert ran.context["order"] == ran.context["initialContextData"]["order"] == {"net": 5, "rows": [1, 2]}
    assert ran.outputs["sub"]["order"]["rows"] == [5, 2]


FORKS = {
    "a sub-flow for each item": {
        "fan": fork("sub", config={"dataPath": "$.steps_output.sub.by"}),
        "sub": sub_flow("approve", inputMappings={"id": "$.currentItem"}),
    },
    "a branch that is a sub-flow": {
        "fan": fork(
            parallelBranches=[
                {
                    "branchId": "b",
                    "stepType": "START_SUB_FLOW",
                    "subFlowDefinitionId": "approve",
                    "inputMappings": {"id": "$.currentItem"},
                }
            ],
            config={"dataPath": "$.by"},
        )
    },
    "a fork in a sub-flow": {
        "fan": sub_flow(
            "all", inputMappings={"items": "$.items"}, outputMappings={"$.steps_output.fan": "$.all"}
        )
    },
}


@pytest.mark.parametrize("steps", FORKS.values(), ids=FORKS)
def test_items_whose_sub_flows_wait_get_their_own_events_in_any_order(steps):
    inner = {
        "fan": fork(
            "sub",
            config={"dataPath": "$.steps_output.sub.by"},
            outputMappings={"$.all.aggregatedData": "$.aggregatedData"},
        ),
        "sub": sub_flow("approve", inputMappings={"id": "$.currentItem"}),
    }
    program, answers = program_of(steps), Answers()

    async def main():
        services = Fakes().services(flows=library({"approve": WAITING, "all": inner}), answers=answers)
        result = await run_segment(
            program, program.start_state({"items": [1, 2, 3]}, "run-1"), INFO, services
        )
        assert sorted(wait.key for wait in result.waits) == ["order-1", "order-2", "order-3"]
        for item in (3, 1, 2):
            answers.put(SuspendReason.EVENT, f"order-{item}", {"payload": {"by": f"by-{item}"}})
            saved = json.loads(json.dumps(result.state.to_dict()))
            result = await run_segment(program, RunState.from_dict(saved), INFO, services)
        return result

    ended = asyncio.run(main())
    assert ended.status is SegmentStatus.COMPLETED
    assert ended.state.context["steps_output"]["fan"]["aggregatedData"] == ["by-1", "by-2", "by-3"]
