"""What holds for all templates and all data."""

import contextlib
import json
import threading
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from airflow_allma.exceptions import ExpressionSyntaxError
from airflow_allma.expressions import compile_template
from airflow_allma.expressions.json_text import json_text

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
def test_any_text_is_a_template_or_a_syntax_error_within_it(text: str):
    try:
        compile_template(text)
    except ExpressionSyntaxError as error:
        assert 0 <= error.position <= len(text)  # noqa: PT017 (most texts raise nothing)
        assert error.expression == text  # noqa: PT017


@given(FRAGMENTS, JSON)
def test_what_compiles_is_rendered_over_any_data(text: str, data: Any):
    try:
        template = compile_template(text)
    except ExpressionSyntaxError:
        assume(False)
    assert isinstance(template.render(data), str)


@given(st.text(), JSON)
def test_text_without_braces_is_written_as_it_is(text: str, data: Any):
    assume("{{" not in text)
    assert compile_template(text).render(data) == text


PATHS = st.lists(NAMES, min_size=1, max_size=4).map(lambda names: ".".join(f"[{name}]" for name in names))
PLAIN = st.lists(PATHS, min_size=1, max_size=5)


@given(PLAIN, st.dictionaries(NAMES, JSON, max_size=4))
def test_the_direct_way_writes_what_the_general_way_writes(paths: list[str], data: dict[str, Any]):
    plain = "-".join(f"{{{{{path}}}}}" for path in paths)
    assert compile_template(plain).render(data) == compile_template("{{#if 1}}" + plain + "{{/if}}").render(
        data
    )


@given(st.lists(SCALARS, max_size=5))
def test_a_loop_writes_each_item_as_it_would_be_written_alone(items: list[Any]):
    alone = [compile_template("{{a}};").render({"a": item}) for item in items]
    assert compile_template("{{#each l}}{{this}};{{/each}}").render({"l": items}) == "".join(alone)


@given(JSON)
def test_json_text_can_be_read_again(data: Any):
    assert json.loads(json_text(data), parse_int=float) == data


@given(JSON, st.sampled_from(["{{", "}}", "{{a}}", "\\{{", "{{#if}}"]))
def test_data_is_never_read_as_a_template(data: Any, braces: str):
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
def test_long_templates_take_no_longer_than_their_length(text: str):
    # A search that goes back and forth over these would not end within the patience of any test run.
    with contextlib.suppress(ExpressionSyntaxError):
        compile_template(text).render({"a": 1})
