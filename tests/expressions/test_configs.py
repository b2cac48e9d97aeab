"""Configs and literals: templates, then whole strings as paths, and data that stays data."""

import json
import logging
from pathlib import Path as FilePath
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_allma.exceptions import ExpressionEvaluationError, ExpressionSyntaxError
from airflow_allma.expressions import NOTHING, compile_config
from airflow_allma.expressions.configs import MAX_NESTING

VECTORS = FilePath(__file__).parents[1] / "conformance" / "vectors" / "config_rendering.jsonl"
RECORDED = [
    pytest.param(case, id=case["id"])
    for case in map(json.loads, VECTORS.read_text(encoding="utf-8").splitlines())
]
CONTEXT = {
    "n": 3,
    "f": 1.5,
    "t": True,
    "nul": None,
    "s": "text",
    "path": "$.n",
    "dollar": "$",
    "price": "$.50 (each)",
    "braces": "{{n}}",
    "name": "n",
    "list": [{"id": 1}, {"id": 2}],
    "object": {"a": {"b": "$.n", "c": "{{n}}"}},
    "big": {"_s3_output_pointer": {"bucket": "b", "key": "k"}},
}


@pytest.mark.parametrize("case", RECORDED)
def test_the_recorded_object_is_rendered(case: dict[str, Any]):
    config, context = case["given"]["config"], case["given"]["context"]
    assert compile_config(config).render(context) == case["expected"]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        # strings
        ("plain", "plain"),
        ("{{s}} {{n}}", "text 3"),
        ("{{n}}", "3"),
        ("$.n", 3),
        ("$.f", 1.5),
        ("$.t", True),
        ("$.nul", None),
        ("$.list[*].id", [1, 2]),
        ("$.list[?(@.id > 1)]", [{"id": 2}]),
        ("$.missing", NOTHING),
        ("$", "$"),
        ("$n", "$n"),
        ("a $.n", "a $.n"),
        ("$.n\n$.s", "$.n\n$.s"),
        (" $.n", " $.n"),
        # templates in a path that the author wrote
        ("$.{{name}}", 3),
        ("$.object.{{s}}", NOTHING),
        # what a template renders is text
        ("{{path}}", "$.n"),
        ("{{dollar}}.n", "$.n"),
        ("{{#if t}}$.n{{/if}}", "$.n"),
        ("{{path}}\nand more", "$.n\nand more"),
        ("{{price}}", "$.50 (each)"),
        # the value that is found is data
        ("$.braces", "{{n}}"),
        ("$.path", "$.n"),
        ("$.object", {"a": {"b": "$.n", "c": "{{n}}"}}),
        ("{{braces}}", "{{n}}"),
        ("$.big", {"_s3_output_pointer": {"bucket": "b", "key": "k"}}),
        # other values
        (1, 1),
        (1.5, 1.5),
        (True, True),
        (None, None),
        ({}, {}),
        ([], []),
        # objects and lists
        (
            {"a": "$.n", "b": {"c": ["{{s}}", 1, {"d": "$.t"}]}},
            {"a": 3, "b": {"c": ["text", 1, {"d": True}]}},
        ),
        ({"{{s}}": "{{s}}", "$.n": 1}, {"{{s}}": "text", "$.n": 1}),
        ({"a": "$.missing", "b": "$.nul"}, {"b": None}),
        (["$.missing", "$.nul", "$.n"], [None, None, 3]),
        ([["$.missing"], {"a": "$.missing"}], [[None], {}]),
        (MappingProxyType({"a": "{{n}}"}), {"a": "3"}),
    ],
)
def test_values_are_rendered_deep(config: Any, expected: Any):
    assert compile_config(config).render(CONTEXT) == expected


@pytest.mark.parametrize(
    ("config", "is_static"),
    [
        ({"a": [1, {"b": "c"}], "d": None}, True),
        ("plain", True),
        ({"a": [1, {"b": "{{c}}"}]}, False),
        ({"a": "$.b"}, False),
        ("$.a\nb", True),
    ],
)
def test_configs_without_templates_and_paths_are_static(config: Any, is_static: bool):
    assert compile_config(config).is_static is is_static


def test_nothing_is_shared_with_the_config_or_the_context():
    config = {"fixed": {"list": [1]}, "empty": [], "found": "$.object", "item": ["$.list[0]", {"x": [2]}]}
    context = {"object": {"a": [1]}, "list": [{"id": 1}]}
    compiled = compile_config(config)
    before = json.dumps([compiled.render(context), context])
    rendered = compiled.render(context)
    rendered["fixed"]["list"].append(2)
    rendered["empty"].append(1)
    rendered["found"]["a"].append(2)
    rendered["item"][0]["id"] = 9
    rendered["item"][1]["x"].append(3)
    config["fixed"]["list"].append(7)
    assert json.dumps([compiled.render(context), context]) == before


def test_a_static_config_returns_a_new_copy_each_time():
    compiled = compile_config({"a": [1]})
    compiled.render({})["a"].append(2)
    assert compiled.render({}) == {"a": [1]}


@pytest.mark.parametrize("config", ["$.object[$.nul]", "$.object[$.missing]", "$.object[$.{{none}}nul]"])
def test_a_path_without_its_key_stays_a_string_and_is_logged(config: str, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        assert compile_config({"a": config}).render(CONTEXT) == {"a": config.replace("{{none}}", "")}
    assert "is not evaluated" in caplog.text


def test_pointers_on_the_way_are_loaded():
    config = compile_config({"a": "$.big.name", "b": "{{big.name}}"})
    assert config.render(CONTEXT, lambda inner: {"name": inner["key"]}) == {"a": "k", "b": "k"}


@pytest.mark.parametrize("config", ["$.big.name", "{{big.name}}", "$.big.{{name}}"])
def test_a_pointer_without_a_loader_is_an_error(config: str):
    with pytest.raises(ExpressionEvaluationError, match="s3://b/k"):
        compile_config([config]).render(CONTEXT)


@pytest.mark.parametrize("raised", [KeyError("k"), OSError("broken"), KeyboardInterrupt()])
def test_exceptions_of_the_loader_pass_through(raised: BaseException):
    def load(inner: Any) -> Any:
        raise raised

    with pytest.raises(type(raised)) as caught:
        compile_config({"a": "$.big.name"}).render(CONTEXT, load)
    assert caught.value is raised


@pytest.mark.parametrize(
    "config", ["{{#if a}}", "$.a[", "$.list[{{s}}", "$.50 a piece'", {"a": [{"b": "{{nope a}}"}]}]
)
def test_syntax_errors_are_raised_when_the_config_is_compiled(config: Any):
    with pytest.raises(ExpressionSyntaxError):
        compile_config(config)


def test_a_config_nested_too_deep_is_rejected():
    config: Any = "{{n}}"
    for _ in range(MAX_NESTING):
        config = [config]
    rendered = compile_config(config).render(CONTEXT)
    for _ in range(MAX_NESTING):
        (rendered,) = rendered
    assert rendered == "3"
    with pytest.raises(ExpressionSyntaxError, match="nested deeper"):
        compile_config([config])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(JSON)
def test_data_that_a_path_finds_is_returned_unchanged(data: Any):
    assert compile_config({"a": "$.x"}).render({"x": data}) == {"a": data}


@given(JSON)
def test_a_config_without_braces_and_dollars_is_returned_unchanged(config: Any):
    text = json.dumps(config).replace("{{", "").replace("$", "")
    assert compile_config(json.loads(text)).render({}) == json.loads(text)
