"""Template errors point at the position that is wrong."""

from typing import Any

import pytest

from airflow_allma.common.work_budget import own_budget
from airflow_allma.exceptions import ExpressionEvaluationError, ExpressionSyntaxError, WorkLimitError
from airflow_allma.expressions import compile_template
from airflow_allma.expressions.templates.parser import MAX_LENGTH, MAX_NESTING

# template, position of the caret, words of the reason
WRONG = [
    ("{{a", 0, "not closed; add }}"),
    ("x {{a b", 2, "not closed; add }}"),
    ("{{#", 0, "not closed"),
    ("{{", 0, "not closed"),
    ("{{#if a}}x", 0, "the block {{#if}} is not closed; add {{/if}}"),
    ("line\n  {{#each a}}\nx", 7, "add {{/each}}"),
    ("{{#if a}}x{{/unless}}", 10, "write {{/if}} first"),
    ("{{#a}}{{#b}}{{/a}}{{/b}}", 12, "write {{/b}} first"),
    ("x{{/if}}", 1, "never opened"),
    ("{{else}}", 0, "inside a block"),
    ("x{{else if a}}", 1, "inside a block"),
    ("{{#if a}}{{else}}{{else}}{{/if}}", 17, "has a second {{else}}"),
    ("{{#if a}}{{else}}{{else if b}}{{/if}}", 17, "has a second {{else}}"),
    ("{{^a}}{{else if b}}{{/a}}", 6, "{{#unless}}"),
    ("{{nope a}}", 2, "the helpers are base64, default"),
    ("{{jsn a}}", 2, "did you mean json?"),
    ("{{#eahc a}}{{/eahc}}", 3, "did you mean each?"),
    ("{{a.b c}}", 2, "unknown helper 'a.b'"),
    ("{{../json a}}", 2, "unknown helper '../json'"),
    ("{{json (nope a)}}", 8, "unknown helper 'nope'"),
    ("{{json (a)}}", 8, "unknown helper 'a'"),
    ("{{#if (ne a b)}}{{/if}}", 7, "use neq"),
    ("{{#if (and a b)}}{{/if}}", 7, "nest one {{#if}} in another"),
    ("{{#if (gte a b)}}{{/if}}", 7, "{{#unless (lt a b)}}"),
    ("{{log a}}", 2, "log already shows"),
    ("{{#eq a b}}x{{/eq}}", 3, "write {{#if (eq a b)}}"),
    ("{{#each l as |v|}}{{v 1}}{{/each}}", 20, "unknown helper 'v'"),
    ("{{if a}}", 2, "open it with '#'"),
    ("{{json (if a)}}", 8, "open it with '#'"),
    ("{{#if}}x{{/if}}", 3, "takes one argument, not 0"),
    ("{{#if a b}}{{/if}}", 3, "takes one argument, not 2"),
    ("{{#each}}{{/each}}", 3, "takes one argument, not 0"),
    ("{{#if a}}{{else if}}{{/if}}", 16, "takes one argument, not 0"),
    ("{{json}}", 2, "{{this.json}}"),
    ("{{json a b}}", 2, "takes 1 argument, not 2"),
    ("{{eq a}}", 2, "takes 2 arguments, not 1"),
    ("{{slice}}", 2, "takes 1 to 3 arguments"),
    ("{{lookup a b c}}", 2, "{{lookup container key}}"),
    ("{{json a x=1}}", 11, "no argument named 'x'"),
    ("{{#each a x=1}}{{/each}}", 12, "no argument named 'x'"),
    ("{{json x=1 a}}", 11, "must come before"),
    ("{{> p}}", 0, "partials are not supported"),
    ("{{~> p}}", 0, "partials are not supported"),
    ("{{#> p}}{{/p}}", 0, "partials are not supported"),
    ("{{* d}}", 0, "decorators are not supported"),
    ('{{#*inline "a"}}{{/inline}}', 0, "decorators are not supported"),
    ("{{a.this}}", 4, "'this' can only begin a path"),
    ("{{a/../b}}", 4, "'..' can only begin a path"),
    ("{{a..b}}", 3, "missing after this dot"),
    ("{{a.}}", 3, "missing after this dot"),
    ("{{a/}}", 4, "a name is missing"),
    ("{{@}}", 3, "a name is missing"),
    ("{{@..}}", 2, "root, index, key, first or last"),
    ("{{}}", 2, "a name is missing"),
    ("{{#}}{{/}}", 3, "a name is missing"),
    ("{{{a}}", 4, "add a brace"),
    ("{{a}}}", 3, "put a space before the third brace"),
    ('{"a":{"b":{{c}}}}', 13, "four braces"),
    ('{{json "a}}', 7, 'not closed; add "'),
    ("{{json 'a}}", 7, "not closed; add '"),
    ("{{[a}}", 2, "add ]"),
    ("{{l[0].a}}", 3, "a dot before it: l.[0]"),
    ("{{a#b}}", 3, "'#' is not allowed here"),
    ("{{a, b}}", 3, "in brackets: {{[a name]}}"),
    ("{{a {{b}} }}", 0, "not closed"),
    ("{{! x", 0, "add }}"),
    ("{{!-- x }}", 0, "add --}}"),
    ("{{{{raw}}}} x", 0, "add {{{{/raw}}}}"),
    ("{{{{x}}}} {{{{/x}}}}", 0, "unknown raw block 'x'"),
    ("{{{{{a}}}}}", 0, "raw block"),
    ("{{#each a as |x y z|}}{{/each}}", 18, "remove 'z'"),
    ("{{#if a as |x|}}{{/if}}", 12, "if allows no names"),
    ("{{#each a as |}}{{/each}}", 10, "'as |' must be followed"),
    ("{{#each a as |x}}{{/each}}", 10, "'as |' must be followed"),
    ("{{a as |b|}}", 4, "only blocks"),
    ("{{(json a)}}", 2, "parentheses are only allowed around arguments"),
    ("{{json (eq a}}", 7, "add )"),
    ("{{json a)}}", 8, "')' is not expected"),
    ("{{json =}}", 7, "'=' is not expected"),
    ("{{#with_json_path 'a' as |x|}}{{/with_json_path}}", 19, "begins with '$'"),
    ("{{#with_json_path '$.a[' as |x|}}{{/with_json_path}}", 22, "']'"),
    ("{{#with_json_path 3 as |x|}}{{/with_json_path}}", 18, "put it in quotes"),
    ("{{#with_json_path p as |x|}}{{/with_json_path}}", 18, "data cannot choose the path"),
    ("{{#with_json_path (lookup a b) as |x|}}{{/with_json_path}}", 19, "data cannot choose the path"),
    ("{{#if a}}" * (MAX_NESTING + 1), 9 * MAX_NESTING, "nested deeper"),
    ("{{json " + "(json " * (MAX_NESTING + 1) + "a" + ")" * (MAX_NESTING + 1) + "}}", 391, "nested deeper"),
    ("{{#if a}}" + "{{else if b}}" * (MAX_NESTING + 1) + "{{/if}}", 828, "nested deeper"),
    ("x" * MAX_LENGTH + "{{a}}", 0, f"at most {MAX_LENGTH} are allowed"),
]


@pytest.mark.parametrize(("text", "position", "reason"), WRONG, ids=[case[0][:50] for case in WRONG])
def test_the_error_has_a_reason_and_a_position(text: str, position: int, reason: str):
    with pytest.raises(ExpressionSyntaxError) as caught:
        compile_template(text)
    assert reason in caught.value.reason
    assert caught.value.position == position
    assert str(caught.value).endswith("^")


@pytest.mark.parametrize("value", [None, 3, ["{{a}}"]])
def test_only_a_string_can_be_a_template(value: Any):
    with pytest.raises(ExpressionSyntaxError, match="a template must be a string"):
        compile_template(value)


@pytest.mark.parametrize(
    "text",
    [
        "{{#if a}}" * MAX_NESTING + "x" + "{{/if}}" * MAX_NESTING,
        "{{#each a}}" * MAX_NESTING + "x" + "{{/each}}" * MAX_NESTING,
        "{{#if f}}" + "{{else if f}}" * (MAX_NESTING - 2) + "{{else}}x{{/if}}",
        "{{#if (default "
        + "(default " * (MAX_NESTING - 2)
        + "a 1"
        + ") 1" * (MAX_NESTING - 2)
        + ")}}x{{/if}}",
    ],
    ids=["if", "each", "else if", "parentheses"],
)
def test_nesting_up_to_the_limit_is_rendered(text: str):
    nested: Any = 1
    for _ in range(MAX_NESTING):
        nested = [{"a": nested}]
    assert compile_template(text).render({"a": nested}) == "x"


DEEP_LIST: list[Any] = []
for _ in range(100_000):
    DEEP_LIST = [DEEP_LIST]


@pytest.mark.parametrize("template", ["{{a}}", "{{json a}}", "{{base64 a}}", "{{lookup b a}}"])
def test_data_nested_too_deep_is_a_clear_error(template: str):
    with pytest.raises(ExpressionEvaluationError, match="nested too deeply"):
        compile_template(template).render({"a": DEEP_LIST, "b": {"x": 1}})


def test_nested_loops_stop_at_the_budget():
    template = compile_template("{{#each l}}{{#each ../l}}{{#each ../../l}}{{/each}}{{/each}}{{/each}}")
    with own_budget(2000):
        assert template.render({"l": [1] * 10}) == ""
    with own_budget(2000), pytest.raises(WorkLimitError, match=r"= 2000 allows at \{\{#each [./]*l\}\}"):
        template.render({"l": [1] * 100})


def test_a_loop_over_long_strings_stops_at_the_budget():
    template = compile_template("{{#each l}}{{../s}}{{/each}}")
    with own_budget(2000):
        assert len(template.render({"l": [1] * 9, "s": "x" * 1000})) == 9000
    with own_budget(2000), pytest.raises(WorkLimitError, match=r"= 2000 allows at \{\{#each l\}\}"):
        template.render({"l": [1] * 20, "s": "x" * 1000})


def test_the_error_of_a_path_that_cannot_be_evaluated_names_the_block():
    template = compile_template("{{#with_json_path '$.l[$.none]' as |x|}}{{/with_json_path}}")
    with pytest.raises(ExpressionEvaluationError, match=r"\{\{#with_json_path .*\}\}.*finds nothing"):
        template.render({"l": [1]})


def test_types_that_json_does_not_have_cannot_be_written_as_json():
    with pytest.raises(ExpressionEvaluationError, match="type bytes"):
        compile_template("{{json a}}").render({"a": {"b": b""}})
