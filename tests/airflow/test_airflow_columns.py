"""The table of limits agrees with the columns and checks of the Airflow that is installed."""

from __future__ import annotations

import zoneinfo
from datetime import datetime

import pytest

from airflow_allma.dag_factory.acceptance import _MAX_TASK_NAME_LENGTH, _PLAIN_SCHEDULE_LENGTH
from airflow_allma.dag_factory.plan import TaskRole
from airflow_allma.engine.items import _MAX_LABEL_LENGTH
from airflow_allma.flow.airflow_limits import (
    DISPLAY_NAME,
    INT_MAX,
    MAX_ALIAS_LENGTH,
    MAX_ASSET_LENGTH,
    MAX_TIMETABLE_LENGTH,
    PRIORITY_WEIGHT,
    Kind,
)
from airflow_allma.flow.ids import MAX_KEY_LENGTH, safe_dag_id
from tests.support.hostile_flows import ROWS

pytestmark = pytest.mark.airflow

MYSQL_TEXT = 65_535
MAX_CHARACTER = 4
"""In bytes, both."""


@pytest.fixture(scope="module")
def tables():
    from airflow.models import import_all_models
    from airflow.models.base import Base

    import_all_models()
    return Base.metadata.tables


def column(tables, name):
    table, _, field = name.partition(".")
    return tables[table].columns[field].type


def capacity(kind):
    """Return how many characters a column holds in the strictest database; None if it holds no strings."""
    from sqlalchemy import String, Text

    if isinstance(kind, Text):
        return MYSQL_TEXT // MAX_CHARACTER
    return kind.length if isinstance(kind, String) else None


COLUMNS = [
    pytest.param(limit, name, id=f"{limit.field}-{name}")
    for limit in {limit.field: limit for _, limit in ROWS}.values()
    for name in limit.columns
]


@pytest.mark.parametrize(("limit", "name"), COLUMNS)
def test_a_value_at_its_limit_fits_into_its_columns(tables, limit, name):
    from airflow.utils.sqlalchemy import UtcDateTime
    from sqlalchemy import JSON, Integer

    kind = column(tables, name)
    match limit.kind:
        case Kind.TEXT:
            assert limit.maximum <= capacity(kind)
        case Kind.NUMBER:
            assert isinstance(kind, Integer)
            assert limit.maximum <= INT_MAX
        case Kind.DATE:
            assert isinstance(kind, UtcDateTime)
        case Kind.JSON:
            assert isinstance(kind, JSON) or "JSON" in type(kind).__name__


@pytest.mark.parametrize(
    ("limit", "name"),
    [
        (MAX_ASSET_LENGTH, "asset.uri"),
        (MAX_ASSET_LENGTH, "asset.name"),
        (MAX_ALIAS_LENGTH, "asset_alias.name"),
        (MAX_TIMETABLE_LENGTH, "dag.timetable_description"),
        (MAX_TIMETABLE_LENGTH, "dag.timetable_summary"),
        (_MAX_LABEL_LENGTH + len(", 1000000 failed"), "task_instance.rendered_map_index"),
        (_MAX_TASK_NAME_LENGTH, "task_instance.task_display_name"),
        (
            DISPLAY_NAME.maximum + max(len(f" ({role})") for role in TaskRole),
            "task_instance.task_display_name",
        ),
        (MAX_KEY_LENGTH, "task_instance.task_id"),
        (MAX_KEY_LENGTH, "dag_run.run_id"),
        (len(safe_dag_id("x" * 1000)), "dag.dag_id"),
    ],
)
def test_what_the_package_makes_fits_into_its_column(tables, limit, name):
    assert limit <= capacity(column(tables, name))


def test_an_asset_fits_into_an_entry_of_postgresql_s_index(tables):
    indexed = [[one.name for one in index.columns] for index in tables["asset"].indexes]
    assert ["name", "uri"] in indexed
    most, header = 2704, 64
    assert 2 * MAX_ASSET_LENGTH + header <= most


def test_the_priority_of_the_first_of_many_tasks_is_an_integer():
    tasks = 20_000
    assert PRIORITY_WEIGHT.maximum * tasks <= INT_MAX


def test_airflow_reads_every_time_zone_that_flows_can_name():
    from airflow._shared.timezones.timezone import parse_timezone
    from airflow.sdk import DAG
    from airflow.serialization.encoders import encode_timezone

    names = sorted(zoneinfo.available_timezones())
    assert len(names) > 400
    for name in names:
        start = datetime(2020, 1, 1, tzinfo=zoneinfo.ZoneInfo(name))
        assert parse_timezone(encode_timezone(DAG("zone", schedule=None, start_date=start).timezone))


@pytest.mark.parametrize(
    "schedule", ["3-3,", "1-2,", "3,", "0,", "59,", "*/3,", "1/2,", "23,", "1-1/2,"], ids=lambda one: one[:-1]
)
@pytest.mark.parametrize("position", range(5))
def test_a_short_cron_expression_has_a_description_that_airflow_stores(schedule, position):
    from airflow.timetables.trigger import CronTriggerTimetable

    from airflow_allma.timetables import schedule_problem

    words = ["0", "0", "*", "*", "*"]
    room = _PLAIN_SCHEDULE_LENGTH - 8
    words[position] = (schedule * (room // len(schedule))).rstrip(",")
    written = " ".join(words)
    if schedule_problem(written) is None:
        assert len(CronTriggerTimetable(written, timezone="UTC").description) <= MAX_TIMETABLE_LENGTH
