"""Flows that run other flows: what is said about versions, and about flows that run themselves."""

from __future__ import annotations

import pytest

from tests.support.artifact_files import agent, flow_of, put
from tests.support.folder_loads import load, shown, step

SUB = "START_SUB_FLOW"


def sub(flow_id, **fields):
    return step(SUB, subFlowDefinitionId=flow_id, **fields)


def start(flow_id, **fields):
    return step("START_FLOW_EXECUTION", flowDefinitionId=flow_id, customConfig={"sync": True}, **fields)


def warnings_about(tmp_path, **flows):
    for name, steps in flows.items():
        put(tmp_path, f"{name}.flow.json", flows=[flow_of(name, steps)])
    return [
        (file, path, message)
        for file, severity, path, message in shown(load(tmp_path))
        if severity == "warning"
    ]


NOOP = {"a": {"stepType": "NO_OP"}}
END = "and no condition ends that, so it fails when too many flows are nested"


@pytest.mark.parametrize(("run", "field"), [(sub, "subFlowDefinitionId"), (start, "flowDefinitionId")])
def test_a_flow_that_always_runs_itself_never_ends(tmp_path, run, field):
    ((file, path, message),) = warnings_about(tmp_path, a={"again": run("a")})
    assert (file, path) == ("a.flow.json", f"$.flows[0].steps.again.{field}")
    assert message.startswith(f"flow `a` runs `a` again, {END}")


def test_a_recursion_through_three_flows_is_reported_at_each_step(tmp_path):
    next_step = {"defaultNextStepInstanceId": "sub"}
    found = warnings_about(
        tmp_path,
        a={"first": {"stepType": "NO_OP", **next_step}, "sub": sub("b")},
        b={"sub": sub("c")},
        c={"sub": sub("a")},
        other={"sub": sub("a")},
    )
    assert [(file, path) for file, path, _ in found] == [
        (f"{name}.flow.json", "$.flows[0].steps.sub.subFlowDefinitionId") for name in "abc"
    ]
    assert found[0][2].startswith(f"flow `a` runs `b`, which runs `c`, which runs `a` again, {END}")


ENDS = {
    "a condition before": {
        "a": step("NO_OP", transitions=[{"condition": "$.x", "nextStepInstanceId": "sub"}]),
        "sub": sub("a"),
    },
    "a fallback": {"sub": sub("a", onError={"fallbackStepInstanceId": "end"}), "end": NOOP["a"]},
    "continueOnFailure": {"sub": sub("a", onError={"continueOnFailure": True})},
    "a template": {"sub": start("{{x}}")},
    "another version": {"sub": sub("a", subFlowVersion="1")},
}


@pytest.mark.parametrize("steps", ENDS.values(), ids=ENDS)
def test_a_recursion_that_can_end_is_fine(tmp_path, steps):
    put(tmp_path, "old.flow.json", flows=[flow_of("a", NOOP, version=1)])
    put(tmp_path, "new.flow.json", flows=[flow_of("a", steps, version=2)])
    assert [one for one in shown(load(tmp_path)) if "nested" in one[3]] == []


def test_an_item_of_a_fork_can_be_a_smaller_part(tmp_path):
    branch = {"branchId": "b", "stepType": SUB, "subFlowDefinitionId": "a"}
    assert (
        warnings_about(
            tmp_path, a={"f": step("PARALLEL_FORK_MANAGER", itemsPath="$.x", parallelBranches=[branch])}
        )
        == []
    )


VERSIONS = {
    "known": (sub("child", subFlowVersion="1"), None),
    "published": (sub("child", subFlowVersion="LATEST_PUBLISHED"), None),
    "not published": (sub("child", subFlowVersion="3"), None),
    "absent": (
        sub("child", subFlowVersion="7"),
        ("error", "subFlowVersion", "flow `child` has no version 7; it has 1, 2, 3"),
    ),
    "no version": (
        sub("child", subFlowVersion="newest"),
        ("error", "subFlowVersion", '`newest` is not a version; write its number in quotes, such as `"3"`'),
    ),
    "no published one": (
        sub("draft"),
        (
            "error",
            "subFlowDefinitionId",
            "no version of flow `draft` is published; set `isPublished` to true in",
        ),
    ),
    "of an execution": (
        start("child", flowVersion="7"),
        ("warning", "flowVersion", "flow `child` has no version 7; it has 1, 2, 3"),
    ),
    "of an execution, in its literals": (
        step("START_FLOW_EXECUTION", literals={"flowDefinitionId": "child", "flowVersion": "7"}),
        ("warning", "literals.flowVersion", "flow `child` has no version 7"),
    ),
    "a template": (start("child", flowVersion="{{v}}"), None),
    "disabled": (
        sub("off"),
        (
            "warning",
            "subFlowDefinitionId",
            "flow `off` does not run, as all of its agents are disabled: `x` in ",
        ),
    ),
}


def write_versions(tmp_path):
    put(
        tmp_path,
        "children.json",
        flows=[
            *(flow_of("child", NOOP, version=version, isPublished=version < 3) for version in (1, 2, 3)),
            flow_of("draft", NOOP, isPublished=False),
            flow_of("off", NOOP),
        ],
        agents=[agent("x", "off", enabled=False)],
    )


@pytest.mark.parametrize(("written", "expected"), VERSIONS.values(), ids=VERSIONS)
def test_a_version_that_a_step_names_must_exist(tmp_path, written, expected):
    write_versions(tmp_path)
    put(tmp_path, "f.flow.json", flows=[flow_of("f", {"a": written})])
    found = [one[1:] for one in shown(load(tmp_path)) if one[0] == "f.flow.json"]
    if expected is None:
        assert found == []
    else:
        ((severity, path, message),) = found
        assert (severity, path) == (expected[0], f"$.flows[0].steps.a.{expected[1]}")
        assert message.startswith(expected[2])


def test_the_version_of_a_branch_is_looked_up_too(tmp_path):
    write_versions(tmp_path)
    branch = {"branchId": "b", "stepType": SUB, "subFlowDefinitionId": "child", "subFlowVersion": "9"}
    fork = step("PARALLEL_FORK_MANAGER", itemsPath="$.x", parallelBranches=[branch])
    put(tmp_path, "f.flow.json", flows=[flow_of("f", {"a": fork})])
    path = "$.flows[0].steps.a.parallelBranches[0].subFlowVersion"
    assert path in [one[2] for one in shown(load(tmp_path))]
