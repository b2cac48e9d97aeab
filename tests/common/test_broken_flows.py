"""The line that names broken flows: written by the Dag processor, read by the API server."""

from __future__ import annotations

import pytest

from airflow_allma.common.broken_flows import broken_flows_line, read_broken_flows


def text(flows, *problems):
    return "\n\n".join(["FlowError: 2 flow files have errors.", broken_flows_line(flows), *problems])


def test_what_is_written_is_read_with_the_problems_of_each_file():
    flows = {"a.json": ["ü", "it's\n{"], "b.json": ["b"]}
    problems = [
        "a.json:1:2: error: $: bad",
        "a.json:3:4: error: $: worse\nin two lines",
        "b.json: error: $: no",
    ]
    found = read_broken_flows(text(flows, *problems))
    assert [(flow.flow_id, flow.file) for flow in found] == [
        ("ü", "a.json"),
        ("it's\n{", "a.json"),
        ("b", "b.json"),
    ]
    assert found[0].problem == "\n\n".join(problems[:2])
    assert found[2].problem == problems[2]


def test_many_flows_are_cut_at_a_whole_file():
    line = broken_flows_line({f"{number}.json": ["x" * 100] for number in range(1000)})
    assert 3_500 < len(line) <= 4_000
    assert len(read_broken_flows(line)) > 30


@pytest.mark.parametrize(
    "broken", ["", "Flows with errors: {", "Flows with errors: [1]", "Flows with errors: {}"]
)
def test_other_texts_name_none(broken):
    assert read_broken_flows(broken) == []


def test_no_flows_make_no_line():
    assert broken_flows_line({}) == ""
