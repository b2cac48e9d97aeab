"""Payload schemas of flows: what is wrong with them, and what fits them."""

from __future__ import annotations

import json

import pytest

from airflow_allma.flow import FlowChecks, load_file
from airflow_allma.flow.input_schema import check_input_schema, fit_payload
from tests.support.flow_checks import BracketChecks

DEEP = {
    "type": "object",
    "required": ["order"],
    "additionalProperties": False,
    "properties": {
        "order": {
            "type": "object",
            "required": ["lines"],
            "additionalProperties": False,
            "properties": {"lines": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/line"}}},
        },
        "note": {"type": "string", "minLength": 2},
        "when": {"type": "string", "format": "date"},
        "size": {"enum": ["s", "m"], "default": "m"},
        "extra": {"type": ["object", "null"]},
        "limit": {"type": "integer"},
    },
    "$defs": {
        "line": {"type": "object", "required": ["sku"], "properties": {"count": {"exclusiveMinimum": 0}}}
    },
    "if": {"required": ["limit"]},
    "then": {"required": ["note"]},
}
ORDER = {"order": {"lines": [{"sku": "a"}]}}


@pytest.mark.parametrize(
    ("schema", "where", "words"),
    [
        ({"type": "objekt"}, "$.airflow.inputSchema.type", "not a valid JSON Schema"),
        ({"properties": {"a": {"type": 7}}}, "$.airflow.inputSchema.properties.a.type", "not a valid"),
        ({"properties": {"a": 1}}, "$.airflow.inputSchema.properties.a", "not a valid"),
        ({"required": "a"}, "$.airflow.inputSchema.required", "'a' is not of type 'array'"),
        (
            {"properties": {"a": {"minimum": "1"}}},
            "$.airflow.inputSchema.properties.a.minimum",
            "not a valid",
        ),
        ({"type": "array"}, "$.airflow.inputSchema.type", "a payload is an object"),
        (
            {"properties": {"a": {"$ref": "https://example.com/a.json"}}},
            "$.airflow.inputSchema.properties.a['$ref']",
            "outside of the schema",
        ),
        (
            {"properties": {"a": {"$ref": "#/$defs/b"}}, "$defs": {}},
            "$.airflow.inputSchema.properties.a['$ref']",
            "refers to nothing",
        ),
        (
            {"properties": {"a": {"type": "integer", "default": "x"}}},
            "$.airflow.inputSchema.properties.a.default",
            "$.a: 'x' is not of type 'integer'",
        ),
    ],
)
def test_an_invalid_schema_is_a_problem_with_its_position(tmp_path, schema, where, words):
    flow = {
        "id": "f",
        "startStepInstanceId": "a",
        "steps": {"a": {"stepType": "NO_OP"}},
        "airflow": {"inputSchema": schema},
    }
    file = tmp_path / "f.json"
    file.write_text(json.dumps(flow, indent=1))
    loaded = load_file(file, FlowChecks(BracketChecks()))
    assert not loaded.flows
    by_path = {problem.path: problem for problem in loaded.problems}
    assert where in by_path, list(map(str, loaded.problems))
    assert words in by_path[where].message
    assert by_path[where].line > 1


def test_a_schema_of_an_older_draft_is_read_as_such():
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "properties": {"a": {"type": "array", "items": [{"type": "string"}], "additionalItems": False}},
    }
    assert not list(check_input_schema({"inputSchema": schema}))
    assert fit_payload(schema, {"a": ["x"]})[1] == []
    assert fit_payload(schema, {"a": [1]})[1]
    assert fit_payload(schema, {"a": ["x", "y"]})[1]


def test_a_flow_with_a_schedule_needs_a_default_for_every_required_property():
    schema = {"required": ["n"], "properties": {"n": {"type": "integer"}}}
    assert not list(check_input_schema({"inputSchema": schema}))
    (one,) = check_input_schema({"inputSchema": schema, "schedule": "@daily"})
    assert "'n' is a required property" in one.message
    assert "default" in one.message
    with_default = {**schema, "properties": {"n": {"type": "integer", "default": 3}}}
    assert not list(check_input_schema({"inputSchema": with_default, "schedule": "@daily"}))


@pytest.mark.parametrize(
    ("payload", "reasons"),
    [
        (ORDER, []),
        ({**ORDER, "note": "yes", "limit": 3, "when": "2026-02-28", "size": "s", "extra": {"a": 1}}, []),
        ({}, ["$: 'order' is a required property"]),
        ({"order": None}, ["$.order: None is not of type 'object'"]),
        ({"order": {}}, ["$.order: 'lines' is a required property"]),
        ({"order": {"lines": []}}, ["$.order.lines: [] should be non-empty"]),
        ({"order": {"lines": [{"count": 1}]}}, ["$.order.lines[0]: 'sku' is a required property"]),
        (
            {"order": {"lines": [{"sku": 1}, {"sku": 2, "count": 0}]}},
            ["$.order.lines[1].count: 0 is less than or equal to the minimum of 0"],
        ),
        ({**ORDER, "note": "n"}, ["$.note: 'n' is too short"]),
        ({**ORDER, "when": "2026-02-30"}, ["$.when: '2026-02-30' is not a 'date'"]),
        ({**ORDER, "size": "xl"}, ["$.size: 'xl' is not one of ['s', 'm']"]),
        ({**ORDER, "limit": True, "note": "ok"}, ["$.limit: True is not of type 'integer'"]),
        ({**ORDER, "limit": 1}, ["$: 'note' is a required property"]),
        (
            {**ORDER, "stray": 1},
            ["$: Additional properties are not allowed ('stray' was unexpected)"],
        ),
    ],
)
def test_a_payload_fits_or_every_reason_is_reported(payload, reasons):
    assert not list(check_input_schema({"inputSchema": DEEP}))
    assert fit_payload(DEEP, payload)[1] == reasons


def test_defaults_fill_missing_properties_and_empty_fields_count_as_missing():
    empty_form = {**ORDER, "note": None, "limit": None, "size": None, "extra": None, "when": None}
    assert fit_payload(DEEP, empty_form) == ({**ORDER, "size": "m", "extra": None}, [])
    assert fit_payload(DEEP, {**ORDER, "size": "s"})[0]["size"] == "s"


def test_a_default_is_a_new_value_for_every_run():
    schema = {"properties": {"a": {"default": []}}}
    fit_payload(schema, {})[0]["a"].append(1)
    assert fit_payload(schema, {})[0] == {"a": []}


def test_long_values_and_many_reasons_are_cut():
    schema = {"properties": {str(n): {"type": "integer"} for n in range(30)}}
    _, reasons = fit_payload(schema, {str(n): "x" * 5000 for n in range(30)})
    assert len(reasons) == 11
    assert reasons[-1] == "and 20 more"
    assert max(map(len, reasons)) < 400


def test_a_schema_that_refers_to_itself_endlessly_is_a_reason_not_a_crash():
    _, reasons = fit_payload({"$ref": "#"}, {})
    assert "without end" in reasons[0]
