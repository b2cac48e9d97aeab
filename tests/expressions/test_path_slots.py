"""Templates in paths: their values are names, indexes and literals, never syntax."""

import logging
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_allma.exceptions import ExpressionSyntaxError
from airflow_allma.expressions import (
    NOTHING,
    compile_condition,
    compile_config,
    compile_path,
    compile_slotted_template,
    compile_template,
)

DATA: dict[str, Any] = {
    "m": {"a": 1, "b": {"c": 2}, "b.c": 3, "b..c": 4, "*": 5, "it's": 6, "[0]": 7, "": 8, "a b": 9},
    "rows": [{"id": "x", "n": 1, "ok": True}, {"id": "y", "n": 2, "ok": False}, {"id": "3", "n": 3}],
    "secret": "s3cret",
}


@pytest.mark.parametrize(
    ("config", "value", "expected"),
    [
        # names
        ("$.m.{{v}}", "a", 1),
        ("$.m.{{v}}", "b", {"c": 2}),
        ("$.m.{{v}}", "b.c", 3),
        ("$.m.{{v}}", "b..c", 4),
        ("$.m.{{v}}", "*", 5),
        ("$.m.{{v}}", "[0]", 7),
        ("$.m.{{v}}", "", 8),
        ("$.m.{{none}}", "", 8),
        ("$.m.{{v}}", "$.secret", NOTHING),
        ("$.m.b{{v}}", ".c", 3),
        ("$.m['{{v}}']", "it's", 6),
        ("$.m['{{v}}']", "a'] || $.secret", NOTHING),
        ("$.m[{{v}}]", "a b", 9),
        ("$.m[{{v}}]", "$.secret", NOTHING),
        ("$.m.{{v}}.c", "b", 2),
        ("$..{{v}}", "c", [2]),
        ("$..{{v}}", "*", [5]),
        ("$.{{v}}", "m.a", NOTHING),
        ("$.{{v}}.{{v}}", "secret", NOTHING),
        # indexes
        ("$.rows[{{v}}].id", 1, "y"),
        ("$.rows[{{v}}].id", "1", "y"),
        ("$.rows.{{v}}.id", 2, "3"),
        ("$.rows[{{v}}].id", "*", NOTHING),
        ("$.rows[{{v}}:].n", 1, [2, 3]),
        ("$.rows[-{{v}}:].n", 1, [3]),
        ("$.rows[:{{none}}].n", "", [1, 2, 3]),
        ("$.rows[0,{{v}}].n", 2, [1, 3]),
        ("$.rows[0:{{v}}].n", "1].n || $.secret[0", "$.rows[0:1].n || $.secret[0].n"),
        ("$.rows[{{v}},0].{{v}}", 1, NOTHING),
        ("$.['m','rows'][{{v}}].id", 1, ["y"]),
        # literals of filters
        ("$.rows[?(@.id == '{{v}}')].n", "y", [2]),
        ("$.rows[?(@.id == '{{v}}')].n", "y' || 1 == '1", NOTHING),
        ("$.rows[?(@.id == '{{v}}')].n", "\\' || @.ok || '", NOTHING),
        ("$.rows[?(@.n > {{v}})].id", 1, ["y", "3"]),
        ("$.rows[?(@.n > {{v}})].id", "1 || @.ok", NOTHING),
        ("$.rows[?(@.n == {{none}})].id", "", NOTHING),
        ("$.rows[?(@.ok === {{v}})].id", True, ["x"]),
        ("$.rows[?(@.id === {{v}})].n", "y", [2]),
        ("$.rows[?(@.{{v}})].id", "ok", ["x"]),
        ("$.rows[?(@.{{v}})].id", "n > 0 || @.id", NOTHING),
        ("$.rows[?(@.n == {{v}} || @.id == '{{v}}')].n", "3", [3]),
        ("$.rows[?(!(@.n > {{v}} && @.id))].n", 1, [1]),
        # the text inside blocks is the author's
        ("$.m.{{#if v}}b.c{{else}}a{{/if}}", True, 2),
        ("$.m.{{#if v}}b.{{key}}{{else}}a{{/if}}", True, 2),
        ("$.m{{#each keys}}.{{this}}{{/each}}", None, 2),
        ("$.m.a{{! a comment }}", None, 1),
    ],
)
def test_the_value_of_a_template_in_a_path_is_never_syntax(config: str, value: Any, expected: Any):
    context = {**DATA, "v": value, "key": "c", "keys": ["b", "c"]}
    assert compile_config(config).render(context) == expected


@pytest.mark.parametrize(
    "config", ["$.m.{{v}}", "$.m['{{v}}']", "$.m[{{v}}]", "$.m.{{#if true}}{{v}}{{/if}}"]
)
@given(key=st.text(max_size=8))
@example(key="$.secret")
@example(key="'] , ['a")
@example(key="\ufdd0")
@example(key="a\nb")
def test_any_text_is_the_name_that_it_spells(config: str, key: str):
    rendered = compile_config([config]).render({"m": {key: "found"}, "v": key, "secret": "s3cret"})
    assert rendered == ["found"]


@given(text=st.text(max_size=8) | st.sampled_from(["$.secret", "$..*", "$['secret']", "$"]))
def test_what_a_template_renders_is_text_whatever_it_is(text: str):
    config = {"a": "{{v}}", "b": ["{{v}}.secret", "{{d}}{{v}}"], "c": "{{#with v}}{{this}}{{/with}}"}
    rendered = compile_config(config).render({"v": text, "d": "$", "secret": "s3cret"})
    assert "s3cret" not in str(rendered)
    assert (rendered["a"], rendered["b"]) == (text, [f"{text}.secret", f"${text}"])


@pytest.mark.parametrize(
    ("config", "position", "reason"),
    [
        ("$.a[{{v}}", 3, "not closed"),
        ("$.a[{{v}}].", 0, "name is missing"),
        ("$.(a).{{v}}", 2, "not allowed"),
        ("$.a[?(@.n > {{v}} + 1)]", 0, "arithmetic"),
        ("$.a[?(@.n > {{v}}{{v}})]", 12, "is expected"),
        ("$.a\ufdd0{{v}}", 3, "U+FDD0"),
    ],
)
def test_a_path_that_no_value_can_complete_is_refused_at_load(config: str, position: int, reason: str):
    with pytest.raises(ExpressionSyntaxError, match=reason.replace("+", r"\+")) as caught:
        compile_config({"x": config})
    assert (caught.value.expression, caught.value.position) == (config, position)


@pytest.mark.parametrize(
    "compile_it", [compile_path, compile_condition, compile_template, compile_slotted_template]
)
def test_the_character_of_slots_is_refused_in_expressions(compile_it: Any):
    with pytest.raises(ExpressionSyntaxError, match=r"U\+FDD0"):
        compile_it("$.a[?(@.b == \ufdd0)]")


def test_text_that_looks_like_a_path_is_logged_once_without_its_value(caplog: pytest.LogCaptureFixture):
    config = compile_config({"x": "{{ user.name }} and {{default a 'hidden'}}"})
    with caplog.at_level(logging.WARNING):
        for name in ("Ada", "$.token", "$.other"):
            config.render({"user": {"name": name}})
    (record,) = caplog.records
    assert record.getMessage().startswith("{{ user.name }} renders text that begins with '$.'")
    assert "token" not in record.getMessage()
    assert "hidden" not in record.getMessage()


def test_a_path_that_is_not_evaluated_is_logged_without_its_values(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        assert compile_config("$.l[0:{{v}}]").render({"v": "token"}) == "$.l[0:token]"
        assert compile_config("$.l[$.{{v}}]").render({"v": "token"}) == "$.l[$.token]"
        assert compile_config("$.l.{{v}}").render({"v": "x" * 10_000}) == "$.l." + "x" * 10_000
    assert len(caplog.records) == 3
    assert "token" not in caplog.text
    assert len(caplog.text) < 1000
