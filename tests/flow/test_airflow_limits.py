"""What Airflow does not accept is found when a flow is loaded: each row of the table, inside and outside."""

from __future__ import annotations

import json
import typing

import pytest

from airflow_allma.flow import AirflowOptions, load_file
from airflow_allma.flow.airflow_limits import (
    DESCRIPTION,
    DISPLAY_NAME,
    FLOW_LIMITS,
    NAME,
    PRIORITY_WEIGHT,
    TAG,
    Effect,
    Kind,
    check_airflow_limits,
    unstorable,
)
from airflow_allma.flow.diagnostics import Severity
from airflow_allma.flow.tree_walk import scopes
from airflow_allma.loading import FLOW_CHECKS
from tests.support.flow_files import write
from tests.support.hostile_flows import ROWS, beyond, hostile_flows, path_of, with_value, within


def findings(owner, field, value):
    flow = with_value("f", owner, field, value)
    return list(check_airflow_limits(flow, scopes(flow)))


def rows(*kinds):
    return [
        pytest.param(owner, limit, id=f"{owner}-{limit.field}")
        for owner, limit in ROWS
        if not kinds or limit.kind in kinds
    ]


SEVERITIES = {Effect.ERROR: Severity.ERROR, Effect.BOUNDED: Severity.WARNING}


@pytest.mark.parametrize(("owner", "limit"), rows())
def test_a_value_at_the_limit_is_fine_and_the_next_one_is_found_at_its_path(owner, limit):
    assert findings(owner, limit.field, within(limit)) == []
    (found,) = findings(owner, limit.field, beyond(limit))
    assert found.path == path_of(owner, limit.field)
    assert found.severity is SEVERITIES[limit.effect]
    assert f"{limit.maximum}" in found.message


@pytest.mark.parametrize("value", [2**63, 2**64, 10**400])
@pytest.mark.parametrize(("owner", "limit"), rows(Kind.NUMBER))
def test_no_number_is_too_high_to_be_found(owner, limit, value):
    (found,) = findings(owner, limit.field, value)
    assert len(found.message) < 200


def test_a_number_below_the_lowest_is_found():
    assert findings("flow", PRIORITY_WEIGHT.field, PRIORITY_WEIGHT.minimum) == []
    (found,) = findings("flow", PRIORITY_WEIGHT.field, PRIORITY_WEIGHT.minimum - 1)
    assert found.severity is Severity.WARNING


@pytest.mark.parametrize("day", ["1970-01-02", "1970-01-02T00:00:00+14:00", "2037-12-31T23:59:59-12:00"])
def test_a_start_date_that_all_databases_store_is_fine(day):
    assert findings("flow", "airflow.startDate", day) == []


@pytest.mark.parametrize(
    "day", ["0001-01-01", "1970-01-01T23:59:59", "2038-01-01", "9999-12-31T23:59:59-23:59"]
)
def test_a_start_date_that_some_database_does_not_store_is_found(day):
    (found,) = findings("flow", "airflow.startDate", day)
    assert found.severity is Severity.ERROR


@pytest.mark.parametrize("char", ["\x00", "\x1b", "\x7f", "\x9b", "\u202e", "\u2028", "\ufeff", "\ud800"])
@pytest.mark.parametrize(("owner", "limit"), rows(Kind.TEXT))
def test_a_control_character_is_named_and_either_refused_or_replaced(owner, limit, char):
    value = f"a{char}b"
    (found,) = findings(owner, limit.field, value)
    assert found.severity is SEVERITIES[limit.effect]
    assert f"U+{ord(char):04X}" in found.message
    assert char not in found.message
    if limit.effect is Effect.BOUNDED:
        assert limit.fit(value) == f"a{char!r}b".replace("'", "")


@pytest.mark.parametrize(
    "value",
    [
        "Größe",
        "注文\u3000一覧",
        "a\u00a0b",
        "👩\u200d👧",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "a & b/c: 'd'",
    ],
)
@pytest.mark.parametrize(("owner", "limit"), rows(Kind.TEXT))
def test_characters_of_any_language_are_fine(owner, limit, value):
    assert findings(owner, limit.field, value) == []


def test_a_description_can_have_several_lines_and_a_name_cannot():
    assert findings("flow", "description", "one\n\ttwo\r\n") == []
    assert [one.path for one in findings("flow", "name", "one\ntwo")] == [("name",)]


@pytest.mark.parametrize("limit", [NAME, DESCRIPTION, TAG, DISPLAY_NAME], ids=lambda limit: limit.field)
def test_a_long_text_is_cut_to_the_limit_and_escapes_count(limit):
    assert limit.fit("x" * limit.maximum) == "x" * limit.maximum
    assert len(limit.fit("x" * (limit.maximum + 1))) == limit.maximum
    assert len(limit.fit("\x00" * limit.maximum)) == limit.maximum


def test_a_priority_is_set_to_the_nearest_that_fits():
    assert [PRIORITY_WEIGHT.fit(value) for value in (-(2**70), -1, 7, 2**70)] == [-100_000, -1, 7, 100_000]


def test_a_schema_at_the_limit_of_64_bits_is_fine():
    schema = {"properties": {"a": {"minimum": -(2**63), "maximum": 2**63 - 1, "default": 1.5e308}}}
    assert findings("flow", "airflow.inputSchema", schema) == []


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"a": ["x\x00"]}, ("a", 0)),
        ({"a": {"b\x00": 1}}, ("a", "b\x00")),
        ({"a": "\udfff"}, ("a",)),
        ({"a": 2**63}, ("a",)),
        ({"a": -(2**63) - 1}, ("a",)),
        ({"a": float("inf")}, ("a",)),
        (float("nan"), ()),
    ],
)
def test_what_no_database_stores_is_found_at_any_depth(value, path):
    found = unstorable(value)
    assert found is not None
    assert found[0] == path


def test_values_of_wrong_types_are_left_to_the_checks_of_types():
    for owner, limit in ROWS:
        for value in (None, True, [], {}, [[]]):
            assert findings(owner, limit.field, value) == [], (limit.field, value)


def _is_open(annotation):
    """Return whether a field can have any string or number."""
    inside = typing.get_args(annotation)
    return annotation in {str, int, float, dict} or any(_is_open(part) for part in inside)


def test_every_option_that_can_be_any_text_or_number_has_a_row():
    known = {limit.field.split(".")[1] for limit in FLOW_LIMITS if limit.field.startswith("airflow.")}
    options = {
        field.alias or name
        for name, field in AirflowOptions.model_fields.items()
        if _is_open(field.annotation)
    }
    # A time zone is one of a list.
    assert options - known == {"timezone"}


def test_no_hostile_flow_raises_and_each_problem_is_located(tmp_path):
    flows = list(hostile_flows())
    assert len(flows) >= 200
    for hostile in flows:
        file = write(tmp_path, "f.json", json.dumps(hostile, indent=1))
        loaded = load_file(file, FLOW_CHECKS)
        assert all(problem.line for problem in loaded.problems), hostile["id"]
        assert loaded.flows or loaded.has_errors
        assert all(len(str(problem)) < 4000 for problem in loaded.problems)
