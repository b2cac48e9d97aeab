"""The run's state is put together only for expressions that can read it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_allma.engine.mappings import can_read_state
from airflow_allma.exceptions import AllmaError
from airflow_allma.expressions import compile_path, compile_template
from airflow_allma.expressions.templates.helpers import HELPERS
from airflow_allma.flow.state_names import STATE_NAMES

_DATA = {"order": {"id": "o-1", "status": "paid"}, "currentItem": {"userId": "u-1"}}
_STATE = dict.fromkeys(STATE_NAMES, "state")
_NAMES = st.sampled_from([*sorted(STATE_NAMES), *sorted(HELPERS), "order", "this", "id", "json", "missing"])
_LOOKUPS = st.lists(_NAMES, min_size=1, max_size=3).map(".".join)
_PIECES = st.one_of(
    st.sampled_from(["/a/", "{{json this}}", "{{#each this}}{{@key}}{{/each}}", "{{@root.status}}", "{{"]),
    _LOOKUPS.map(lambda lookup: f"{{{{ {lookup}}}}}"),
    _LOOKUPS.map(lambda lookup: f"{{{{json {lookup}}}}}"),
)
_TEMPLATES = st.lists(_PIECES, max_size=4).map("".join)
_PATHS = st.one_of(
    _LOOKUPS.map(lambda lookup: f"$.{lookup}"),
    st.sampled_from(["$", "$..status", "$.*", "$['status']", "$.order[?(@.id == $.status)]", "$.order.id"]),
)


@pytest.mark.parametrize(
    "source", ["https://a.test/{{order.id}}/", "$.order.status", "plain", "{{ order.id }}"]
)
def test_plain_lookups_of_other_names_cannot_read_it(source: str) -> None:
    assert not can_read_state(source)


@pytest.mark.parametrize("source", ["{{status}}", "{{json this}}", "{{this}}", "$", "$.branchId", "$..id"])
def test_names_of_the_state_and_everything_at_once_can(source: str) -> None:
    assert can_read_state(source)


@given(st.one_of(_TEMPLATES, _PATHS))
def test_what_cannot_read_it_is_the_same_without_it(source: str) -> None:
    assert can_read_state(source) or _result(source, _DATA) == _result(source, {**_DATA, **_STATE})


def _result(source: str, data: dict[str, object]) -> object:
    try:
        if source.startswith("$"):
            return compile_path(source).find(data)
        return compile_template(source).render(data)
    except AllmaError as error:
        return type(error), str(error)
