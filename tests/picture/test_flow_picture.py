from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_allma.flow import STEP_MODELS, parse_flow
from airflow_allma.picture import Edge, EdgeKind, NodeKind, draw_flow, render_svg
from airflow_allma.picture.step_details import step_detail, url_detail
from tests.support.flow_files import flow

NO_OP = {"stepType": "NO_OP"}
HOSTILE = "</text><script>alert(1)</script>\"&']]>"


def picture_of(steps, **fields):
    return draw_flow(parse_flow(flow(startStepInstanceId=next(iter(steps)), steps=steps, **fields)))


def step(following=None, *conditions, **fields):
    made = {**NO_OP, **fields}
    if following:
        made["defaultNextStepInstanceId"] = following
    if conditions:
        made["transitions"] = [
            {"condition": condition, "nextStepInstanceId": target} for condition, target in conditions
        ]
    return made


def fork(*branches, **fields):
    return {
        "stepType": "PARALLEL_FORK_MANAGER",
        "itemsPath": "$.items",
        "parallelBranches": branches,
        **fields,
    }


def edges_of(picture):
    names = {node.id: node.step or node.title for node in picture.nodes}
    return {(names[edge.source], names[edge.target], str(edge.kind), edge.label) for edge in picture.edges}


def test_edges_say_why_the_flow_goes_there():
    picture = picture_of(
        {
            "a": step("b", ("$.n > 3", "c")),
            "b": step("c", onError={"fallbackStepInstanceId": "c"}),
            "c": {"stepType": "END_FLOW"},
        }
    )
    assert edges_of(picture) == {
        ("Start", "a", "next", ""),
        ("a", "b", "next", "otherwise"),
        ("a", "c", "condition", "$.n > 3"),
        ("b", "c", "next", ""),
        ("b", "c", "fallback", "if b fails"),
    }
    assert {node.step: node.kind for node in picture.nodes}["c"] is NodeKind.END


def test_conditions_of_the_same_step_with_the_same_target_are_one_edge():
    picture = picture_of({"a": step(None, ("$.x", "b"), ("$.y", "b")), "b": NO_OP})
    assert ("a", "b", "condition", "$.x or $.y") in edges_of(picture)


def test_steps_of_a_loop_are_marked_and_the_edge_that_closes_it():
    picture = picture_of({"a": step("b"), "b": step("c", ("$.again", "a")), "c": NO_OP})
    assert [node.step for node in picture.nodes if node.kind is NodeKind.LOOP] == ["a", "b"]
    assert [edge.label for edge in picture.edges if edge.is_back] == ["$.again"]


def test_the_fallback_of_all_steps_is_one_edge():
    config = {"defaultErrorHandler": {"fallbackStepInstanceId": "f"}}
    picture = picture_of({"a": step("b"), "b": NO_OP, "f": NO_OP}, defaultStepConfig=config)
    assert [edge for edge in edges_of(picture) if edge[2] == "fallback"] == [
        ("if any step fails", "f", "fallback", "if any step fails")
    ]
    assert not [node for node in picture.nodes if node.kind is NodeKind.LOOP]


def test_branches_are_frames_in_their_fork_and_paths_lead_to_their_json():
    definition = flow(
        startStepInstanceId="f",
        steps={
            "f": fork(
                {"branchId": "one", "startStepInstanceId": "x", "steps": {"x": step("y"), "y": NO_OP}},
                {"branchId": "two", "condition": "$.currentItem.ok", "startStepInstanceId": "shared"},
                {"branchId": "sub", "stepType": "START_SUB_FLOW", "subFlowDefinitionId": "other"},
            ),
            "shared": NO_OP,
        },
    )
    picture = draw_flow(parse_flow(definition))
    by_id = {node.id: node for node in picture.nodes}
    parents = {
        (node.branch or node.step): by_id[node.parent].branch or by_id[node.parent].step
        for node in picture.nodes
        if node.parent
    }
    assert parents == {"one": "f", "two": "f", "sub": "sub", "x": "one", "y": "one", "shared": "two"}
    for node in picture.nodes:
        found = definition
        for key in node.path:
            found = found[key]
        if node.kind is NodeKind.BRANCH:
            assert found["branchId"] == node.branch
    assert [node.flow for node in picture.nodes if node.kind is NodeKind.SUBFLOW] == ["other"]


@pytest.mark.parametrize(
    ("named", "dag_id"), [("other flow", "other_flow--a666bd5180"), ("{{next}}", None), ("$.next", None)]
)
def test_a_step_that_starts_a_flow_names_its_dag_if_that_is_known(named, dag_id):
    picture = picture_of({"a": {"stepType": "START_FLOW_EXECUTION", "flowDefinitionId": named}})
    assert [node.flow for node in picture.nodes if node.kind is NodeKind.SUBFLOW] == [dag_id]


def test_a_branch_that_leads_back_into_its_fork_is_drawn_once():
    picture = picture_of({"f": fork({"branchId": "b", "condition": "$.x", "startStepInstanceId": "f"})})
    forks = [node for node in picture.nodes if node.kind is NodeKind.FORK]
    assert [node.parent is None for node in forks] == [True, False]
    assert "drawn above" in forks[1].detail


def test_branches_that_share_many_steps_do_not_multiply_them():
    shared = {f"s{index}": step(f"s{index + 1}") for index in range(400)} | {"s400": NO_OP}
    branches = [{"branchId": f"b{index}", "startStepInstanceId": f"s{index}"} for index in range(100)]
    picture = picture_of({"f": fork(*branches), **shared})
    assert 5_000 < len(picture.nodes) < 6_000
    assert any("not drawn" in node.detail for node in picture.nodes)


@st.composite
def flows(draw, depth=0):
    names = [f"s{number}" for number in range(draw(st.integers(1, 6)))]
    steps = {}
    for name in names:
        target = st.sampled_from(names)
        conditions = draw(st.lists(st.tuples(st.sampled_from(["$.a", "$.b.c > 10"]), target), max_size=2))
        made = step(draw(st.none() | target), *conditions)
        if draw(st.booleans()):
            made["onError"] = {"fallbackStepInstanceId": draw(target)}
        if depth < 2 and draw(st.integers(0, 3)) == 0:
            branches = []
            for number in range(draw(st.integers(1, 4))):
                inner = draw(flows(depth + 1))
                branches.append({"branchId": f"b{number}", "startStepInstanceId": "s0", "steps": inner})
            made |= fork(*branches)
        steps[name] = made
    return steps


@given(flows())
@settings(max_examples=30, deadline=None)
def test_nodes_never_overlap_and_are_within_their_frames(steps):
    picture = picture_of(steps)
    assert picture == picture_of(steps)
    inside = {}
    for node in picture.nodes:
        inside.setdefault(node.parent, []).append(node)
    by_id = {node.id: node for node in picture.nodes}
    for parent, nodes in inside.items():
        for one, other in combinations(nodes, 2):
            assert (
                one.x + one.w <= other.x or other.x + other.w <= one.x
                or one.y + one.h <= other.y or other.y + other.h <= one.y
            )  # fmt: skip
        x, y, w, h = (0, 0, picture.width, picture.height)
        if parent:
            frame = by_id[parent]
            x, y, w, h = frame.x, frame.y, frame.w, frame.h
        for node in nodes:
            assert x <= node.x
            assert y <= node.y
            assert node.x + node.w <= x + w
            assert node.y + node.h <= y + h
    ET.fromstring(render_svg(picture, "f"))
    json.dumps(picture.to_json())


def test_the_path_of_an_edge_is_straight_beside_boxes_and_curved_between_ranks():
    edge = Edge("n0", "n1", EdgeKind.NEXT, "", "", ((10, 20), (10, 40), (30, 61), (30, 80)))
    assert edge.to_json() | {"path": "M10 20L10 40C10 50 30 50 30 61L30 80", "top": 20, "bottom": 80} == (
        edge.to_json()
    )


def test_pages_draw_the_same_lines_as_the_svg():
    picture = picture_of({"a": step("b", ("$.c", "c")), "b": step("c"), "c": step(None, ("$.again", "a"))})
    drawn = re.findall(r'<path class="edge[^"]*" d="([^"]+)"', render_svg(picture, "f"))
    assert drawn == [edge["path"] for edge in picture.to_json()["edges"]]
    assert "points" not in picture.to_json()["edges"][0]


def test_hostile_names_are_text_in_the_svg():
    steps = {
        HOSTILE: step(None, (f"$.x == '{'é' * 300}'", "b"), displayName=f"{HOSTILE}\u202e\x01"),
        "b": NO_OP,
    }
    picture = picture_of(steps)
    svg = render_svg(picture, f"{HOSTILE}\ud800\x1b")
    root = ET.fromstring(svg)
    assert {element.tag.rpartition("}")[2] for element in root.iter()} <= {
        *("svg", "style", "marker", "path", "rect", "g", "title", "text", "tspan")
    }
    assert not re.search(r"href|script>|javascript|\son\w+=", re.sub(r">[^<]*<", "><", svg))
    assert all(len(node.title) <= 400 for node in picture.nodes)


def test_long_names_are_shortened_and_kept_as_titles():
    name = "x" * 120
    picture = picture_of({name: NO_OP})
    node = next(node for node in picture.nodes if node.step)
    assert node.text[0].endswith("…")
    assert len(node.text[0]) < 30
    assert node.title == name
    assert f"<title>{name}" in render_svg(picture, "f")


@pytest.mark.parametrize(
    ("template", "shown"),
    [
        ("https://shop.example.com/orders", "shop.example.com/orders"),
        ("https://user:secret@shop.example.com/orders?key=secret#x", "shop.example.com/orders"),
        (
            "{{flow_variables.base}}/orders/{{currentItem.id}}?token=secret",
            "{base}/orders/{{currentItem.id}}",
        ),
        ("{{conn.shop.host}}/a?b={{c}}", "{conn.shop.host}/a"),
        ("https://x/{{#if a}}?secret{{/if}}", "x/{{#if a}}"),
    ],
)
def test_urls_are_shown_without_user_and_query(template, shown):
    assert url_detail(template) == shown


def test_every_step_type_has_a_detail(repository):
    lines = (repository / "tests/flow/step_examples.jsonl").read_text().splitlines()
    seen = set()
    for line in lines:
        example = json.loads(line)
        document = example.get("step", example)
        model = STEP_MODELS.get(document.get("stepType"))
        if model is None:
            continue
        try:
            made = model.model_validate({"stepInstanceId": "s", **document})
        except ValueError:
            continue
        seen.add(made.step_type)
        assert step_detail(made)
    assert len(seen) > 15


def test_a_flow_of_one_step_and_one_of_two_thousand():
    small = picture_of({"a": NO_OP})
    assert [node.kind for node in small.nodes] == [NodeKind.START, NodeKind.STEP]
    assert [edge.kind for edge in small.edges] == [EdgeKind.NEXT]
    steps = {
        f"s{index}": step(f"s{index + 1}", onError={"fallbackStepInstanceId": "f"}) for index in range(1_998)
    }
    large = picture_of({**steps, "s1998": NO_OP, "f": NO_OP})
    assert len(large.nodes) == 2_001
    assert len(render_svg(large, "large")) < 2_000_000
