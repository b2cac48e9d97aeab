"""Context mappings: a path, a format and selected fields."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Any

import pytest

from airflow_allma.exceptions import ExpressionEvaluationError, ExpressionSyntaxError
from airflow_allma.expressions import compile_context_mappings

VECTORS = FilePath(__file__).parents[1] / "conformance" / "vectors" / "template_context.jsonl"
RECORDED = [
    pytest.param(case, id=case["id"])
    for case in map(json.loads, VECTORS.read_text(encoding="utf-8").splitlines())
]
CONTEXT = {
    "n": 3,
    "s": "text",
    "nul": None,
    "o": {"b": 1, "a": [1.0, "x"], "c": None},
    "list": [{"id": 1, "name": "x"}, {"id": 2, "name": "y"}, 5, None],
    "json": ' [{"id": 1, "name": "x"}]',
    "half": "[1, ",
    "big": {"_s3_output_pointer": {"bucket": "b", "key": "list"}},
    "items": [{"_s3_output_pointer": {"bucket": "b", "key": "item"}}],
}
CONTENTS = {"list": [{"id": 7}, {"id": 8}], "item": {"id": 9}}


def load(inner: Mapping[str, Any]) -> Any:
    return CONTENTS[inner["key"]]


def resolve(**entry: Any) -> dict[str, Any]:
    return compile_context_mappings({"x": entry}).resolve(CONTEXT, load)


@pytest.mark.parametrize("case", RECORDED)
def test_the_recorded_variables_are_resolved(case: dict[str, Any]):
    inputs = case["given"]
    assert compile_context_mappings(inputs["mappings"]).resolve(inputs["context"]) == case["expected"]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"sourceJsonPath": "$.n"}, 3),
        ({"sourceJsonPath": "$.nul"}, None),
        ({"sourceJsonPath": "$.o", "formatAs": "RAW"}, {"b": 1, "a": [1.0, "x"], "c": None}),
        ({"sourceJsonPath": "$.n", "formatAs": None, "selectFields": None, "joinSeparator": None}, 3),
        ({"sourceJsonPath": "$.s", "formatAs": "JSON"}, '"text"'),
        ({"sourceJsonPath": "$.nul", "formatAs": "JSON"}, "null"),
        ({"sourceJsonPath": "$.o", "formatAs": "JSON"}, '{"b":1,"a":[1,"x"],"c":null}'),
        ({"sourceJsonPath": "$.big"}, [{"id": 7}, {"id": 8}]),
        ({"sourceJsonPath": "$.big", "formatAs": "JSON"}, '[{"id":7},{"id":8}]'),
        ({"sourceJsonPath": "$.big[1].id"}, 8),
        # selectFields
        ({"sourceJsonPath": "$.o", "selectFields": ["a", "zzz", "b"]}, {"a": [1.0, "x"], "b": 1}),
        ({"sourceJsonPath": "$.o", "selectFields": []}, {}),
        ({"sourceJsonPath": "$.list", "selectFields": ["id"]}, [{"id": 1}, {"id": 2}, 5, None]),
        ({"sourceJsonPath": "$.json", "selectFields": ["name"]}, [{"name": "x"}]),
        ({"sourceJsonPath": "$.half", "selectFields": ["name"]}, "[1, "),
        ({"sourceJsonPath": "$.s", "selectFields": ["length"]}, "text"),
        ({"sourceJsonPath": "$.n", "selectFields": ["a"]}, 3),
        ({"sourceJsonPath": "$.o", "selectFields": ["b", "a"], "formatAs": "JSON"}, '{"b":1,"a":[1,"x"]}'),
    ],
)
def test_values_are_formatted(entry: dict[str, Any], expected: Any):
    assert resolve(**entry) == {"x": expected}


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"sourceJsonPath": "$.list[*].id", "itemTemplate": "- {{this}}"}, "- 1\n- 2"),
        ({"sourceJsonPath": "$.list", "itemTemplate": "{{id}}{{name}}", "joinSeparator": ", "}, "1x, 2y, , "),
        ({"sourceJsonPath": "$.list", "itemTemplate": "{{id}}", "joinSeparator": ""}, "12"),
        ({"sourceJsonPath": "$.list", "itemTemplate": "{{id}}{{name}}", "selectFields": ["id"]}, "1\n2\n\n"),
        ({"sourceJsonPath": "$.big", "itemTemplate": "{{id}}"}, "7\n8"),
        ({"sourceJsonPath": "$.items", "itemTemplate": "{{id}}"}, "9"),
        ({"sourceJsonPath": "$.o", "itemTemplate": "{{id}}"}, {"b": 1, "a": [1.0, "x"], "c": None}),
        ({"sourceJsonPath": "$.s", "itemTemplate": "{{this}}!"}, "text"),
        ({"sourceJsonPath": "$.list[?(@.id > 9)]", "itemTemplate": "{{id}}"}, None),
    ],
)
def test_the_items_of_a_list_are_rendered_through_a_template(entry: dict[str, Any], expected: Any):
    resolved = resolve(formatAs="CUSTOM_STRING", **entry)
    assert resolved == ({} if expected is None else {"x": expected})


@pytest.mark.parametrize("path", ["$.missing", "$.s.a", "$.list[9]"])
@pytest.mark.parametrize("form", ["RAW", "JSON", "CUSTOM_STRING"])
def test_an_entry_that_finds_nothing_sets_no_variable(path: str, form: str):
    assert resolve(sourceJsonPath=path, formatAs=form, itemTemplate="{{this}}") == {}


def test_an_entry_that_cannot_be_evaluated_is_omitted_and_logged(caplog: pytest.LogCaptureFixture):
    mappings = compile_context_mappings(
        {"bad": {"sourceJsonPath": "$.o[$.nul]"}, "good": {"sourceJsonPath": "$.n"}}
    )
    with caplog.at_level(logging.WARNING):
        assert mappings.resolve(CONTEXT) == {"good": 3}
    assert "$.o[$.nul] is not evaluated" in caplog.text


@pytest.mark.parametrize(
    ("string", "found"),
    [
        ('[{"a": NaN}]', '[{"a": NaN}]'),
        ('[{"a": Infinity}]', '[{"a": Infinity}]'),
        ('{"a": "\\ud800"}', {"a": "\ufffd"}),
    ],
)
def test_a_string_of_json_is_read_as_all_json_that_comes_from_outside(string, found):
    mappings = compile_context_mappings({"x": {"sourceJsonPath": "$.s", "selectFields": ["a"]}})
    assert mappings.resolve({"s": string}) == {"x": found}


@pytest.mark.parametrize("string", ['{"a": 1e400}', '{"a": ' + "9" * 5_000 + "}"])
def test_a_number_that_nothing_can_hold_is_an_error_of_the_entry(string):
    mappings = compile_context_mappings({"x": {"sourceJsonPath": "$.s", "selectFields": ["a"]}})
    with pytest.raises(ExpressionEvaluationError, match=r"\$\.s finds JSON that cannot be read: the number"):
        mappings.resolve({"s": string})


def test_nothing_is_shared_with_the_context():
    context = {"o": {"a": [1]}}
    mappings = compile_context_mappings(
        {"all": {"sourceJsonPath": "$.o"}, "some": {"sourceJsonPath": "$.o", "selectFields": ["a"]}}
    )
    resolved = mappings.resolve(context)
    resolved["all"]["a"].append(2)
    resolved["some"]["a"].append(3)
    assert context == {"o": {"a": [1]}}


@pytest.mark.parametrize("path", ["$.big", "$.big[0].id"])
def test_a_pointer_without_a_loader_is_an_error(path: str):
    with pytest.raises(ExpressionEvaluationError, match="s3://b/list"):
        compile_context_mappings({"x": {"sourceJsonPath": path}}).resolve(CONTEXT)


def test_names_are_those_of_the_entries():
    mappings = compile_context_mappings({"b": {"sourceJsonPath": "$.n"}, "a": {"sourceJsonPath": "$.s"}})
    assert mappings.names == ("b", "a")


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({}, "'x' needs a sourceJsonPath"),
        ({"sourceJsonPath": 3}, "'x' needs a sourceJsonPath"),
        ({"sourceJsonPath": "n"}, "begins with '\\$'"),
        ({"sourceJsonPath": "$.n", "formatAs": "XML"}, "one of RAW, JSON, CUSTOM_STRING, not 'XML'"),
        ({"sourceJsonPath": "$.n", "formatAs": ["RAW"]}, "one of RAW"),
        ({"sourceJsonPath": "$.n", "selectFields": "a"}, "selectFields of 'x' must be a list"),
        ({"sourceJsonPath": "$.n", "selectFields": [1]}, "selectFields of 'x' must be a list"),
        ({"sourceJsonPath": "$.n", "formatAs": "CUSTOM_STRING"}, "'x' needs an itemTemplate"),
        ({"sourceJsonPath": "$.n", "formatAs": "CUSTOM_STRING", "itemTemplate": "{{a"}, "not closed"),
    ],
)
def test_errors_in_an_entry_are_raised_when_it_is_compiled(entry: dict[str, Any], reason: str):
    with pytest.raises(ExpressionSyntaxError, match=reason):
        compile_context_mappings({"x": entry})
