from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_allma.picture.columns import spread
from airflow_allma.picture.layered import Arrow, Box, lay_out
from airflow_allma.picture.ranks import rank_boxes


@st.composite
def graphs(draw):
    boxes = draw(
        st.lists(
            st.builds(Box, st.integers(10, 150).map(lambda half: 2 * half), st.integers(20, 200)),
            min_size=1,
            max_size=14,
        )
    )
    number = st.integers(0, len(boxes) - 1)
    arrows = st.builds(Arrow, number, number, st.sampled_from([0, 0, 60, 190]), st.sampled_from("ab"))
    return boxes, draw(st.lists(arrows, max_size=24))


def _inside(x, y, left, top, box):
    return left < x < left + box.width and top < y < top + box.height


@given(graphs())
@settings(max_examples=60, deadline=None)
def test_boxes_and_labels_do_not_overlap_and_lines_pass_beside_boxes(graph):
    boxes, arrows = graph
    drawing = lay_out(boxes, arrows)
    assert drawing == lay_out(boxes, arrows)
    areas = [
        (x, y, x + box.width, y + box.height) for (x, y), box in zip(drawing.corners, boxes, strict=True)
    ]
    for arrow, route in zip(arrows, drawing.routes, strict=True):
        if route.label is not None:
            x, y = route.label
            half = max(arrow.label, 1) // 2 - 1
            areas.append((x - half, y - 8, x + half, y + 8))
    for left, right in combinations(areas, 2):
        assert left[2] <= right[0] or right[2] <= left[0] or left[3] <= right[1] or right[3] <= left[1]
    for x0, y0, x1, y1 in areas:
        assert x0 >= 0
        assert y0 >= 0
        assert x1 <= drawing.width + 1
        assert y1 <= drawing.height
    for arrow, route in zip(arrows, drawing.routes, strict=True):
        for (x1, y1), (x2, y2) in zip(route.points, route.points[1:], strict=False):
            # Curves stay between the heights of their ends.
            for step in range(11):
                x, y = x1 + (x2 - x1) * step / 10, y1 + (y2 - y1) * step / 10
                for index, ((left, top), box) in enumerate(zip(drawing.corners, boxes, strict=True)):
                    assert not _inside(x, y, left, top, box), (arrow, index)


@given(graphs())
@settings(max_examples=50, deadline=None)
def test_every_arrow_begins_at_its_source_and_leads_to_its_target(graph):
    boxes, arrows = graph
    drawing = lay_out(boxes, arrows)
    ends = {}
    for arrow, route in zip(arrows, drawing.routes, strict=True):
        left, top = drawing.corners[arrow.source]
        x, y = route.points[0]
        source = boxes[arrow.source]
        assert left <= x <= left + source.width + 1
        assert top <= y <= top + source.height
        if not route.is_cut and not route.is_joined:
            left, top = drawing.corners[arrow.target]
            x, y = route.points[-1]
            assert left <= x <= left + boxes[arrow.target].width + 1
            assert y in {top, top + boxes[arrow.target].height} or arrow.source == arrow.target
            ends.setdefault((arrow.target, arrow.group, route.is_back), set()).update(route.points)
    for arrow, route in zip(arrows, drawing.routes, strict=True):
        if route.is_joined:
            assert (arrow.target, arrow.group, route.is_back) in ends


@given(graphs())
@settings(max_examples=50, deadline=None)
def test_without_the_arrows_that_lead_back_all_lead_down(graph):
    boxes, arrows = graph
    ranks = rank_boxes(len(boxes), [(arrow.source, arrow.target) for arrow in arrows])
    for index, arrow in enumerate(arrows):
        if arrow.source != arrow.target:
            above, below = ranks.of_box[arrow.source], ranks.of_box[arrow.target]
            assert (above > below) if index in ranks.back else (above < below)


@given(st.lists(st.tuples(st.floats(-500, 500), st.integers(1, 80)), min_size=1, max_size=12))
@settings(deadline=None)
def test_elements_of_a_rank_keep_their_order_and_distance(elements):
    widths = [width for _, width in elements]
    layer = list(range(len(elements)))
    centers = spread([wish for wish, _ in elements], None, layer, widths, [10] * len(widths))
    for one, other in pairwise(layer):
        assert centers[other] - centers[one] >= (widths[one] + widths[other]) / 2 + 10 - 1e-6


def test_a_main_path_is_straight_whatever_leaves_it():
    boxes = [Box(200, 50)] * 61
    arrows = [Arrow(index, index + 1) for index in range(59)] + [
        Arrow(index, 60, 80 * (index % 3 == 0), "fallback") for index in range(0, 60, 2)
    ]
    drawing = lay_out(boxes, arrows)
    assert len({x for x, _ in drawing.corners[:60]}) == 1


@pytest.mark.parametrize("far", [1, 7, 1000])
def test_two_thousand_boxes_are_placed_and_their_lines_are_bounded(far):
    boxes = [Box(200, 50)] * 2_000
    arrows = [
        Arrow(index, other) for index in range(2_000) for other in (index + 1, index + far) if other < 2_000
    ]
    drawing = lay_out(boxes, arrows)
    assert len(drawing.corners) == len(set(drawing.corners)) == 2_000
    assert sum(len(route.points) for route in drawing.routes) < 40_000


def test_nothing_is_an_empty_drawing():
    assert lay_out([], []).width == 0
