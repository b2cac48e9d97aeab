"""Payload schemas of others: nothing is fetched, and neither loading nor checking takes unbounded work."""

from __future__ import annotations

import pytest

from airflow_allma.dag_factory.plan.payload_params import plan_params
from airflow_allma.flow import parse_flow
from airflow_allma.flow.input_schema import check_input_schema, fit_payload
from airflow_allma.flow.schema_tree import SchemaTree, expand

OUTSIDE = "http://127.0.0.1:9/x"


def problems(schema):
    return list(check_input_schema({"inputSchema": schema}))


def params_of(schema):
    document = {
        "id": "f",
        "startStepInstanceId": "a",
        "steps": {"a": {"stepType": "NO_OP"}},
        "airflow": {"inputSchema": schema},
    }
    return {plan.name: plan.schema for plan in plan_params(parse_flow(document), is_scheduled=False)}


@pytest.mark.parametrize("name", ["default", "enum", "const", "examples", "$ref", "properties", "items"])
@pytest.mark.parametrize(
    "around",
    [
        lambda part: {"properties": part},
        lambda part: {"$defs": part},
        lambda part: {"patternProperties": part},
        lambda part: {"dependentSchemas": part},
        lambda part: {"properties": {"a": {"type": "object", "properties": part}}},
        lambda part: {"properties": {"a": {"anyOf": [{"items": {"properties": part}}]}}},
    ],
)
@pytest.mark.parametrize("reference", [OUTSIDE, "file:///etc/hostname", "other.json", "https://x/y#/$defs/a"])
def test_a_reference_to_the_outside_is_found_below_every_property_name(name, around, reference):
    if name == "$ref":
        name = "\\$ref"  # as the name of a pattern it must be a pattern
    (problem,) = problems(around({name: {"$ref": reference}}))
    assert "is outside of the schema" in problem.message
    assert problem.path[-2:] == (name, "$ref")


def test_data_that_looks_like_a_reference_is_data():
    value = {"$ref": OUTSIDE}
    schema = {"properties": {"a": {"type": "object", "default": value, "examples": [value]}}}
    assert problems(schema) == []


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": {"$ref": "#/x-parts/b"}}, "x-parts": {"b": {"$ref": OUTSIDE}}},
        {"properties": {"a": {"$ref": "#/properties/b/default"}, "b": {"default": {"$ref": OUTSIDE}}}},
        {"properties": {"a": {"$dynamicRef": OUTSIDE}}},
    ],
)
def test_a_reference_to_the_outside_is_found_where_other_references_lead(schema):
    assert any("is outside of the schema" in problem.message for problem in problems(schema))


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"properties": {"a": {"$id": "http://x/", "$ref": "#/$defs/b"}}, "$defs": {"b": {}}}, "`$id`"),
        ({"properties": {"a": {"$ref": "#/x"}}, "x": {"type": 7}}, "not a valid JSON Schema"),
        ({"properties": {"a": {"$ref": "#/x"}}, "x": "text"}, "refers to nothing"),
        ({"properties": {"a": {"$ref": "#nowhere"}}}, "refers to nothing"),
    ],
)
def test_other_ways_to_change_what_references_mean_are_refused(schema, words):
    assert any(words in problem.message for problem in problems(schema))


def bomb(levels, width, keyword="allOf"):
    defs = {f"d{level}": {keyword: [{"$ref": f"#/$defs/d{level + 1}"}] * width} for level in range(levels)}
    return {"$defs": {**defs, f"d{levels}": {"type": "string"}}}


@pytest.mark.parametrize("keyword", ["allOf", "anyOf", "oneOf"])
@pytest.mark.parametrize("default", [{}, {"default": "x"}])
def test_references_that_multiply_are_one_problem(keyword, default):
    schema = bomb(9, 10, keyword) | {"properties": {"a": {"$ref": "#/$defs/d0", **default}}}
    (problem,) = problems(schema)
    assert "multiply to more than 10000 subschemas" in problem.message


def test_references_that_do_not_multiply_much_are_fine():
    schema = bomb(3, 5) | {"properties": {"a": {"$ref": "#/$defs/d0", "default": "x"}}}
    assert problems(schema) == []
    assert expand(SchemaTree(schema), schema)[0] < 500


def test_a_long_chain_of_references_is_a_problem_not_a_crash():
    schema = bomb(1_500, 1) | {"properties": {"a": {"$ref": "#/$defs/d0"}}}
    assert "nested too deeply" in problems(schema)[0].message


@pytest.mark.parametrize(
    ("schema", "last"),
    [
        ({"properties": {"a": {"pattern": "^(a+)+$", "default": "a" * 40 + "!"}}}, "pattern"),
        ({"properties": {"a": {"items": {"pattern": "(a|ab|b)*$"}}}}, "pattern"),
        ({"patternProperties": {"(x+x+)+y": {}}}, "(x+x+)+y"),
        ({"$defs": {"b": {"pattern": "("}}}, "pattern"),
    ],
)
def test_a_dangerous_pattern_is_a_problem_with_its_place(schema, last):
    (problem,) = problems(schema)
    assert problem.path[-1] == last


TREE = {
    "$defs": {
        "node": {
            "anyOf": [
                {"properties": {"a": {"$ref": "#/$defs/node"}}, "required": [f"k{n}"]} for n in range(9)
            ]
        }
    },
    "properties": {"a": {"$ref": "#/$defs/node"}},
}


def nested(depth):
    return {"a": nested(depth - 1)} if depth else {}


@pytest.mark.parametrize(
    ("schema", "payload"),
    [
        (TREE, nested(14)),
        ({"properties": {"a": {"pattern": "^.*x.*y.*z$"}}}, {"a": "x" * 20_000}),
        ({"properties": {"a": {"uniqueItems": True}}}, {"a": [{"n": number} for number in range(60_000)]}),
        ({"patternProperties": {"^.*x.*y$": {}}}, {"x" * 50_000: 1}),
        (
            {**TREE, "unevaluatedProperties": False, "$ref": "#/$defs/node"},
            nested(14),
        ),
    ],
)
def test_a_payload_that_takes_too_much_work_does_not_match(schema, payload):
    assert problems(schema) == []
    _, reasons = fit_payload(schema, payload, max_work=200_000)
    assert reasons == ["checking it takes too much work; use less data, or fewer references and alternatives"]


def test_values_that_jsonschema_cannot_handle_are_a_reason():
    _, reasons = fit_payload({"properties": {"a": {"multipleOf": 0.1}}}, {"a": 10**400})
    assert len(reasons) == 1


def test_a_payload_with_very_many_errors_has_a_few_reasons():
    _, reasons = fit_payload({"properties": {"a": {"items": {"type": "string"}}}}, {"a": [1] * 5_000})
    assert (len(reasons), reasons[-1]) == (11, "and 90 or more more")


@pytest.mark.parametrize(
    "part",
    [
        {"$ref": "#/$defs/node"},
        {"type": "string", "pattern": "^.*a.*b.*c$"},
        {"type": "array", "uniqueItems": True},
        {"type": "object", "properties": {"b": {"$ref": "#/properties/a"}}},
        {"type": "object", "patternProperties": {"^.*a.*b.*c$": {}}},
    ],
)
def test_airflow_gets_only_rules_that_are_cheap_for_every_value(part):
    schema = {"$defs": TREE["$defs"], "properties": {"a": part}}
    assert problems(schema) == []
    assert set(params_of(schema)["a"]) <= {"title", "type"}


def test_a_field_has_only_the_definitions_that_it_needs():
    defs = {"used": {"$ref": "#/$defs/deeper"}, "deeper": {"type": "string"}, "other": {"type": "string"}}
    schema = {"$defs": defs, "properties": {"a": {"$ref": "#/$defs/used"}}}
    assert set(params_of(schema)["a"]["$defs"]) == {"used", "deeper"}


def test_definitions_that_every_field_repeats_have_a_limit():
    definition = {"enum": ["x" * 1_000 + str(number) for number in range(60)]}
    schema = {
        "$defs": {"big": definition},
        "properties": {f"p{number}": {"$ref": "#/$defs/big"} for number in range(50)},
    }
    plans = params_of(schema)
    assert sum(len(str(rules)) for rules in plans.values()) < 1_500_000
    assert "$defs" in plans["p0"]
    assert "$defs" not in plans["p49"]
