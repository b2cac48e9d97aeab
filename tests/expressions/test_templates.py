"""The output of templates: the recorded results, and a table of small cases by subject."""

import json
from dataclasses import replace
from pathlib import Path as FilePath
from types import MappingProxyType
from typing import Any

import pytest

from airflow_allma.exceptions import ExpressionError
from airflow_allma.expressions import compile_slotted_template, compile_template
from airflow_allma.expressions.templates.runtime import to_output

VECTORS = FilePath(__file__).parents[1] / "conformance" / "vectors" / "template.jsonl"
RECORDED = [
    pytest.param(case, id=case["id"])
    for case in map(json.loads, VECTORS.read_text(encoding="utf-8").splitlines())
]

TABLE = json.loads(FilePath(__file__).with_name("template_cases.json").read_text(encoding="utf-8"))
CASES = [
    pytest.param(case, id=f"{subject}:{case['template'][:60]}")
    for subject, cases in TABLE["subjects"].items()
    for case in cases
]


@pytest.mark.parametrize("case", RECORDED)
def test_the_recorded_text_is_rendered(case: dict[str, Any]):
    inputs = case["given"]
    if case.get("error"):
        with pytest.raises(ExpressionError, match=r"\w+ \w+"):
            compile_template(inputs["template"]).render(inputs["context"])
    else:
        assert compile_template(inputs["template"]).render(inputs["context"]) == case["expected"]


@pytest.mark.parametrize("case", CASES)
def test_the_text_of_the_table_is_rendered(case: dict[str, Any]):
    context = case.get("context", TABLE["context"])
    assert compile_template(case["template"]).render(context) == case["expected"]


@pytest.mark.parametrize("case", CASES)
def test_a_template_inside_a_block_renders_the_same(case: dict[str, Any]):
    # The block disables the fast path; the bars keep blocks from having a line to themselves.
    context = case.get("context", TABLE["context"])
    plain = compile_template(f"|{case['template']}|").render(context)
    assert compile_template("{{#if true}}|" + case["template"] + "|{{/if}}").render(context) == plain


OWN_RULES = [
    ("adjacent numbers are concatenated", "{{a}}{{b}}", {"a": 1, "b": 2}, "12"),
    ("numbers in a loop are concatenated", "{{#each l}}{{@index}}{{this}}{{/each}}", {"l": [5, 6]}, "0516"),
    (
        "an index at the end of a path",
        "{{l.0}}{{l.1.a}}{{m.0.1}}",
        {"l": [5, {"a": 6}], "m": [[1, 2]]},
        "562",
    ),
    ("a word at the end of a path", "{{a.true}}", {"a": {"true": 1}}, "1"),
    ("integers are exact", "{{a}}", {"a": 12345678901234567890}, "12345678901234567890"),
    ("large integers have an exponent", "{{a}}", {"a": 10**21}, "1e+21"),
    ("slice without bounds", "{{slice l}}", {"l": [1, 2]}, "1,2"),
    ("base64 of an object is of its JSON", "{{base64 o}}", {"o": {"a": 1}}, "eyJhIjoxfQ=="),
    ("a lone surrogate is replaced", "{{base64 s}}", {"s": "\ud800"}, "77+9"),
    ("a lone surrogate in JSON", "{{json l}}", {"l": ["\ud800é"]}, '["\\ud800é"]'),
    ("a raw block", "{{{{raw}}}} {{x}} \\{{y}}\n{{{{/raw}}}}", {"x": 1}, " {{x}} \\{{y}}\n"),
    (
        "the current item of an enclosing loop",
        "{{#each l}}{{#each ../l}}{{../id}}{{id}} {{/each}}{{/each}}",
        {"l": [{"id": 1}, {"id": 2}]},
        "11 12 21 22 ",
    ),
    (
        "a path to the data",
        "{{#with_json_path '$.l[?(@.ok)].id' as |x|}}{{x}}{{/with_json_path}}",
        None,
        "1,3",
    ),
    (
        "a path and this",
        "{{#with a}}{{#with_json_path '$.l.length' as |x|}}{{b}}{{x}}{{../c}}{{/with_json_path}}{{/with}}",
        {"a": {"b": 1}, "l": [1, 2], "c": 3},
        "123",
    ),
    (
        "a path that finds nothing",
        "{{#with_json_path '$.no' as |x|}}{{x}}{{else}}none{{/with_json_path}}",
        {},
        "none",
    ),
    (
        "a path that finds null",
        "[{{#with_json_path '$.a' as |x|}}{{x}}{{/with_json_path}}]",
        {"a": None},
        "[]",
    ),
    (
        "block parameters through a section",
        "{{#t as |x|}}{{#with a as |y|}}{{x}}{{y.b}}{{/with}}{{/t}}",
        {"t": True, "a": {"b": 1}},
        "true1",
    ),
]
LIST = {"l": [{"id": 1, "ok": True}, {"id": 2}, {"id": 3, "ok": True}]}


@pytest.mark.parametrize(
    ("template", "context", "expected"),
    [case[1:] for case in OWN_RULES],
    ids=[case[0] for case in OWN_RULES],
)
def test_rules_that_differ_from_handlebars(template: str, context: Any, expected: str):
    assert compile_template(template).render(LIST if context is None else context) == expected


@pytest.mark.parametrize(
    "template", ["{{a.b}} {{c}}", "{{#each a}}{{@key}}{{this}}{{/each}} {{c}}", "{{a.b}} {{json this}}"]
)
def test_any_mapping_may_be_the_context(template: str):
    context = {"a": {"b": "x"}, "c": 1}
    frozen = MappingProxyType({"a": MappingProxyType({"b": "x"}), "c": 1})
    assert compile_template(template).render(frozen) == compile_template(template).render(context)


@pytest.mark.parametrize("name", ["__class__", "__dict__", "real", "get", "append", "upper", "_load"])
@pytest.mark.parametrize("value", [{}, [], "", 1, 1.5, True, None])
def test_python_attributes_are_out_of_reach(name: str, value: Any):
    template = f"{{{{a.{name}}}}}{{{{lookup a '{name}'}}}}{{{{#with a}}}}{{{{{name}}}}}{{{{/with}}}}"
    falsy = "" if value in ("", None) or isinstance(value, dict | list) else to_output(value)
    # lookup returns a false value unchanged
    assert compile_template(template).render({"a": value}) == ("" if value else falsy)


@pytest.mark.parametrize(
    "text", ["", "plain", "a } b {", "\\", "a\\\nb", "{{! only a comment }}", "{{{{raw}}}}x{{{{/raw}}}}"]
)
def test_a_template_without_values_is_static(text: str):
    template = compile_template(text)
    assert template.is_static
    assert template.render({}) == template.render({"a": 1})


def test_a_template_with_values_is_not_static():
    assert not compile_template("{{a}}").is_static


def test_the_same_template_is_compiled_once():
    assert compile_template("{{a}} once") is compile_template("{{a}} once")


def test_a_long_template_is_compiled_and_rendered():
    assert compile_template("{{a}}," * 10_000).render({"a": "x"}) == "x," * 10_000


def test_rendering_does_not_change_the_context():
    context = {"l": [{"a": 1}], "o": {"b": {"c": 2}}}
    compile_template(
        "{{#each l}}{{json this}}{{/each}}{{#with o}}{{slice ../l 0}}{{json b}}{{/with}}"
    ).render(context)
    assert context == {"l": [{"a": 1}], "o": {"b": {"c": 2}}}


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("text", ["", "text"]),
        ("{{a}}", ["1"]),
        ("{{none}}", [""]),
        ("x{{a}}", ["", "x", "1"]),
        ("{{a}}x{{none}}", ["1", "x", ""]),
        ("{{a}}{{b}}x", ["12", "x"]),
        ("x{{! a comment }}y", ["", "xy"]),
        ("x{{#if a}}y{{b}}{{else}}z{{/if}}-", ["", "xy", "2", "-"]),
        ("{{#each list}}{{this}};{{/each}}", ["3", ";", "4", ";"]),
    ],
)
def test_values_and_own_text_of_a_slotted_template_alternate(source: str, parts: list[str]):
    spans = compile_slotted_template(source).spans({"a": 1, "b": 2, "list": [3, 4]})
    assert [span.text for span in spans] == parts
    assert [span.is_authored for span in spans] == [bool(number % 2) for number in range(len(parts))]


@pytest.mark.parametrize(("block_slots", "parts"), [(False, ["", "x/y"]), (True, ["", "x/", "", "y"])])
def test_a_block_that_renders_to_nothing_can_count_as_an_empty_value(block_slots: bool, parts: list[str]):
    template = compile_slotted_template("x/{{#if none}}z{{none}}{{/if}}y", block_slots=block_slots)
    assert [span.text for span in template.spans({})] == parts


@pytest.mark.parametrize(
    "source",
    [
        "",
        "a",
        "{{a}}",
        "{{a}}{{b}}",
        "x{{a}}y{{b}}",
        "{{a}}x{{b}}y",
        "x{{a}}",
        "{{b}}x",
        "x{{#if a}}y{{/if}}z",
    ],
)
def test_the_parts_are_the_same_whether_or_not_they_are_known_in_advance(source):
    template = compile_slotted_template(source, block_slots=True)
    values = {"a": "1", "b": ""}
    assert template.spans(values) == replace(template, texts=None).spans(values)


def test_the_value_of_a_slot_can_contain_the_character_of_slots():
    spans = compile_slotted_template("x{{a}}y").spans({"a": "1\ufdd02"})
    assert [span.text for span in spans] == ["", "x", "1\ufdd02", "y"]
