"""Any path and any template over any data ends within the budget, or with an error that says so."""

from __future__ import annotations

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_allma.common.work_budget import own_budget
from airflow_allma.exceptions import ExpressionError, WorkLimitError
from airflow_allma.expressions import compile_config, compile_path, compile_template

LIMIT = 2_000
LARGEST_STEP = 4_000
"""Units that may be counted at once, before the limit is compared: those of one value of the data below."""

keys = st.sampled_from(["a", "b", "length", "0", "1"])
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from(["", "a", "é" * 30, "$.a", "0"])
)
data = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=8), st.dictionaries(keys, inner, max_size=4)),
    max_leaves=60,
)
segments = st.deferred(
    lambda: st.one_of(
        keys.map(lambda key: f"['{key}']"),
        st.sampled_from(
            ["[*]", "[0]", "[0,0,0,1]", "['a','a','b']", "[0:9]", "..*", "..[0]", "..['a']", "[::2]"]
        ),
        st.lists(segments, min_size=1, max_size=3).map(lambda parts: f"[?(@{''.join(parts)})]"),
        st.lists(segments, min_size=1, max_size=2).map(lambda parts: f"[?(@{''.join(parts)} > 1)]"),
    )
)
paths = st.lists(segments, min_size=1, max_size=7).map(lambda parts: "$" + "".join(parts))
templates = st.recursive(
    st.sampled_from(
        ["{{a}}", "{{this}}", "{{json @root}}", "{{@index}}", "{{b.a}}", "text ", "{{../a}}", "{{length}}"]
    ),
    lambda inner: st.one_of(
        st.lists(inner, min_size=2, max_size=6).map("".join),
        st.tuples(st.sampled_from(["a", "this", "@root", "b", "../a"]), inner).map(
            lambda pair: f"{{{{#each {pair[0]}}}}}{pair[1]}{{{{/each}}}}"
        ),
        inner.map(lambda part: f"{{{{#if (eq (json @root) 1)}}}}{{{{else}}}}{part}{{{{/if}}}}"),
        inner.map(lambda part: f'{{{{#with_json_path "$..*" as |q|}}}}{part}{{{{/with_json_path}}}}'),
        inner.map(lambda part: f"{{{{#each (slice a 0 5)}}}}{part}{{{{/each}}}}"),
    ),
    max_leaves=8,
)


def spends_at_most_the_budget(evaluate):
    with own_budget(LIMIT) as budget:
        try:
            evaluate()
        except WorkLimitError as error:
            exceeded = error
        except ExpressionError:
            exceeded = None
        else:
            exceeded = None
    assert (exceeded is not None) == (budget.spent > LIMIT)
    assert exceeded is None or exceeded.location is not None
    assert budget.spent <= LIMIT + LARGEST_STEP


@settings(deadline=None)
@given(paths, data)
def test_every_path_ends_within_the_budget(path, value):
    try:
        compiled = compile_path(path)
    except ExpressionError:
        return
    spends_at_most_the_budget(lambda: compiled.find(value))


@settings(deadline=None)
@given(templates, st.dictionaries(keys, data, min_size=1))
def test_every_template_ends_within_the_budget(template, value):
    compiled = compile_template(template)
    spends_at_most_the_budget(lambda: compiled.render(value))


@settings(deadline=None)
@given(st.lists(st.one_of(templates, paths), min_size=1, max_size=4), st.dictionaries(keys, data, min_size=1))
def test_every_config_ends_within_the_budget(values, value):
    try:
        compiled = compile_config(values)
    except ExpressionError:
        return
    with own_budget(LIMIT) as budget:
        with contextlib.suppress(WorkLimitError, ExpressionError):
            compiled.render(value)
        assert budget.spent <= LIMIT + LARGEST_STEP


def test_each_lookup_counts():
    data = {"rows": list(range(100)), "names": {}}
    spent = []
    for body in ("", "{{lookup ../names this}}"):
        with own_budget(LIMIT) as budget:
            compile_template("{{#each rows}}" + body + "{{/each}}").render(data)
            spent.append(budget.spent)
    assert spent[1] - spent[0] == 100
