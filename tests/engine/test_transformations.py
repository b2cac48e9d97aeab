"""Transformations, as far as the conformance vectors do not cover them."""

from __future__ import annotations

import re
import sys
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_allma.engine.modules import run_module
from airflow_allma.engine.modules.arrays import MAX_GENERATED
from airflow_allma.exceptions import PermanentStepError


def run(name, **inputs):
    return run_module(f"system/{name}", inputs)


@pytest.mark.parametrize(
    ("inputs", "result"),
    [
        ({"array": [2**70, 1], "operation": "sum"}, 2**70 + 1),
        ({"array": [float("nan"), float("inf"), 4], "operation": "max"}, 4),
        ({"array": [{"v": True}, {"v": "7"}, {"w": 9}, None], "path": "v", "operation": "avg"}, 1),
        ({"array": [1e308, 1e308], "operation": "sum"}, None),
        ({"array": [10**400, 10**400], "operation": "avg"}, None),
        ({"array": [], "operation": "min", "path": None, "unknown": 1}, None),
        ({"array": [0.1, 0.2, 0.3], "operation": "sum"}, 0.1 + 0.2 + 0.3),
    ],
)
def test_numbers_are_aggregated_exactly_if_possible(inputs, result):
    assert run("array-aggregator", **inputs) == {"result": result}


@pytest.mark.parametrize(
    ("inputs", "result"),
    [
        ({"array": [[1, [2]], None, "a", {}]}, [1, [2], None, "a", {}]),
        (
            {"array": [{"p": [1, [2]]}, {"p": None}, {"p": 0}, {"p": {}}, ["p"], "p"], "path": "p"},
            [1, [2], 0, {}],
        ),
        ({"array": [{"a.b": 1, "a": {"b": 2}}], "path": "a.b"}, [1]),
    ],
)
def test_one_level_of_an_array_is_flattened(inputs, result):
    assert run("flatten-array", **inputs) == {"result": result}


def test_the_flattened_list_is_a_new_one():
    array = [1, 2]
    assert run("flatten-array", array=array)["result"] is not array


@pytest.mark.parametrize(("count", "array"), [(0, []), (3.0, [0, 1, 2])])
def test_generated_arrays_start_at_zero(count, array):
    assert run("generate-array", count=count) == {"array": array}


@pytest.mark.parametrize("count", [MAX_GENERATED + 1, 10**30, 1e300])
def test_an_array_that_is_too_long_is_rejected_with_the_limit(count):
    with pytest.raises(PermanentStepError, match=rf"\$\.count: .*{MAX_GENERATED}"):
        run("generate-array", count=count)


@pytest.mark.parametrize("count", ["3", 2.5, -1, True, None, [3]])
def test_a_count_that_is_not_a_whole_number_is_rejected(count):
    with pytest.raises(PermanentStepError, match=r"system/generate-array is invalid: \$\.count"):
        run("generate-array", count=count)


@pytest.mark.parametrize(
    ("base", "operation", "offset", "result"),
    [
        ("2026-03-01T08:30Z", "add", 0, "2026-03-01T08:30:00.000Z"),
        ("2026-03-01T08:30:00.1Z", "add", 0, "2026-03-01T08:30:00.100Z"),
        ("2026-03-01T08:30:00.123999999Z", "add", 0, "2026-03-01T08:30:00.123Z"),
        ("1969-12-31T23:59:59.500Z", "add", -0.0005, "1969-12-31T23:59:59.500Z"),
        ("2000-02-28T23:59:59Z", "add", 1, "2000-02-29T00:00:00.000Z"),
        ("0001-01-02T00:00:00Z", "subtract", 86400, "0001-01-01T00:00:00.000Z"),
    ],
)
def test_times_are_exact_to_the_millisecond(base, operation, offset, result):
    assert run("date-time-calculator", baseTime=base, operation=operation, offsetSeconds=offset) == {
        "result": result
    }


@given(
    st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)),  # noqa: DTZ001 (UTC is added below)
    st.integers(-(10**9), 10**9),
)
def test_subtracting_undoes_adding(moment, seconds):
    moment = moment.replace(tzinfo=UTC, microsecond=moment.microsecond // 1000 * 1000)
    text = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    moved = run("date-time-calculator", baseTime=text, operation="add", offsetSeconds=seconds)["result"]
    assert datetime.fromisoformat(moved) == moment + timedelta(seconds=seconds)
    back = run("date-time-calculator", baseTime=moved, operation="subtract", offsetSeconds=seconds)
    assert back == {"result": text}


@pytest.mark.parametrize(
    "base",
    [
        "2026-03-01T08:30:00+00:00",
        "2026-03-01",
        "2026-02-29T00:00:00Z",
        "2026-03-01T24:00:00Z",
        "2026-03-01 08:30:00Z",
        "٢٠٢٦-03-01T08:30:00Z",
        "2026-03-01T08:30:00Z\n",
        1700000000,
    ],
)
def test_a_base_time_that_is_not_utc_and_iso_is_rejected(base):
    with pytest.raises(PermanentStepError, match=r"\$\.baseTime"):
        run("date-time-calculator", baseTime=base, operation="add", offsetSeconds=1)


@pytest.mark.parametrize("offset", [1e12, -1e15, sys.float_info.max])
def test_a_result_out_of_range_is_an_error_that_names_the_unit(offset):
    with pytest.raises(PermanentStepError, match="unit is seconds"):
        run("date-time-calculator", baseTime="2026-03-01T00:00:00Z", operation="add", offsetSeconds=offset)


def test_compose_object_returns_its_input_object():
    inputs = {"a": {"b": 1}, "_meta": 2}
    assert run_module("system/compose-object-from-input", inputs) is inputs


def test_uuids_are_random_and_between_prefix_and_suffix():
    found = [run("generate-uuid", prefix="p-", suffix="-s")["uuid"] for _ in range(2)]
    assert found[0] != found[1]
    for text in found:
        assert uuid.UUID(re.fullmatch(r"p-(.*)-s", text)[1]).version == 4
    assert uuid.UUID(run("generate-uuid", prefix=None)["uuid"]).version == 4


@pytest.mark.parametrize(
    ("module", "inputs", "words"),
    [
        (
            "array-aggregator",
            {"array": [1, "2", None, "x"], "operation": "sum"},
            "left out 3 of 4 elements without a number",
        ),
        (
            "array-aggregator",
            {"array": [{"n": 1}], "operation": "sum", "path": "nn"},
            "1 of 1 elements without a number at the key 'nn'",
        ),
        (
            "flatten-array",
            {"array": [{"n": 1}, {}], "path": "n"},
            "left out 1 of 2 elements without a value at the key 'n'",
        ),
    ],
)
def test_what_a_list_module_leaves_out_is_a_warning(module, inputs, words, caplog):
    run(module, **inputs)
    (record,) = caplog.records
    assert words in record.message


@pytest.mark.parametrize(
    ("module", "inputs"),
    [
        ("array-aggregator", {"array": [1, 2.5, True], "operation": "sum"}),
        ("array-aggregator", {"array": [], "operation": "sum"}),
        ("flatten-array", {"array": [[1], 2]}),
    ],
)
def test_a_list_module_that_uses_all_elements_warns_of_nothing(module, inputs, caplog):
    run(module, **inputs)
    assert caplog.records == []
