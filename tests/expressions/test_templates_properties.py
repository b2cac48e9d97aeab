"""Properties of all templates with all data."""

import contextlib
import json
import threading
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from airflow_allma.exceptions import ExpressionSyntaxError
from airflow_allma.expressions import compile_template
from airflow_allma.expressions.json_stringify import stringify

NAMES = st.sampled_from(["a", "b", "c", "0", "1", "length", "x y"])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3)
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
BITS = (
    "{{ }} {{{ }}} {{{{ {{# {{/ {{^ {{else}} {{! -- ~ #if if each a b.c .. . / ( ) [ ] | @ index = \" ' \\ 1 "
    "{{#if&a}} {{/if}} {{#each&a}} {{/each}} {{a}} true > * json raw as&| & \n"
)
FRAGMENTS = st.lists(st.sampled_from([bit.replace("&", " ") for bit in BITS.split(" ")]), max_size=14).map(
    "".join
)


@given(st.text(max_size=60) | FRAGMENTS)
def test_any_string_is_a_template_or_has_a_located_syntax_error(text: str):
    try:
        compile_template(text)
    except ExpressionSyntaxError as error:
        assert 0 <= error.position <= len(text)  # noqa: PT017 (most strings raise nothing)
        assert error.expression == text  # noqa: PT017


@given(FRAGMENTS, JSON)
def test_a_template_that_compiles_renders_with_any_data(text: str, data: Any):
    try:
        template = compile_template(text)
    except ExpressionSyntaxError:
        assume(False)
    assert isinstance(template.render(data), str)


@given(st.text(), JSON)
def test_text_without_braces_is_written_unchanged(text: str, data: Any):
    assume("{{" not in text)
    assert compile_template(text).render(data) == text


PATHS = st.lists(NAMES, min_size=1, max_size=4).map(lambda names: ".".join(f"[{name}]" for name in names))
PLAIN = st.lists(PATHS, min_size=1, max_size=5)


@given(PLAIN, st.dictionaries(NAMES, JSON, max_size=4))
def test_the_fast_path_writes_what_the_full_renderer_writes(paths: list[str], data: dict[str, Any]):
    plain = "-".join(f"{{{{{path}}}}}" for path in paths)
    assert compile_template(plain).render(data) == compile_template("{{#if 1}}" + plain + "{{/if}}").render(
        data
    )


@given(st.lists(SCALARS, max_size=5))
def test_a_loop_writes_each_item_as_it_would_be_written_alone(items: list[Any]):
    alone = [compile_template("{{a}};").render({"a": item}) for item in items]
    assert compile_template("{{#each l}}{{this}};{{/each}}").render({"l": items}) == "".join(alone)


@given(JSON)
def test_stringified_json_can_be_parsed_again(data: Any):
    assert json.loads(stringify(data), parse_int=float) == data


@given(JSON, st.sampled_from(["{{", "}}", "{{a}}", "\\{{", "{{#if}}"]))
def test_data_is_never_parsed_as_a_template(data: Any, braces: str):
    assert compile_template("{{a}}|{{b}}").render({"a": braces, "b": data}).startswith(f"{braces}|")


def test_threads_share_compiled_templates():
    template = compile_template(
        "{{#each l as |v|}}{{@index}}{{v}}{{#each ../l}}{{@../index}}{{/each}} {{/each}}"
    )
    expected = {n: template.render({"l": list(range(n))}) for n in range(12)}
    wrong: list[int] = []

    def render_all() -> None:
        for _ in range(50):
            wrong.extend(n for n, text in expected.items() if template.render({"l": list(range(n))}) != text)

    threads = [threading.Thread(target=render_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


LONG = [
    "\n" * 50_000 + "x{{a}}",
    "{{#if a}}" + " \n" * 50_000 + "{{/if}}",
    "{{" * 50_000,
    "\\{{" * 50_000,
    "{{a '" + "\\'" * 50_000,
    "{{" + " " * 50_000 + "a",
    "{{" + "a" * 50_000,
    "{{" + "a." * 20_000 + "a}}",
    "{{![" * 50_000,
    "{{[" + "\\]" * 50_000,
    "{{a}}{{!x}}" * 10_000,
]


@pytest.mark.parametrize("text", LONG, ids=lambda text: f"{text[:12]!r}...")
def test_compile_time_is_linear_in_the_length_of_a_template(text: str):
    # With a quadratic search these would take longer than any test run can wait.
    with contextlib.suppress(ExpressionSyntaxError):
        compile_template(text).render({"a": 1})
