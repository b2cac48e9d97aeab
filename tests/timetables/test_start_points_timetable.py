"""The serialized form of the start points' timetable, and which modules need Airflow."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime

from airflow_allma.timetables import StartPoint
from airflow_allma.timetables.aws_timetables import StartPointsTimetable

START = datetime(2026, 3, 1, tzinfo=UTC)


def test_the_serialized_form_keeps_its_keys():
    points = [
        StartPoint("nightly", 0, "cron(0 6 * * ? *)", "Europe/Berlin"),
        StartPoint("hourly", 2, "rate(1 hour)", "UTC"),
    ]
    serialized = {
        "points": [
            {
                "step_id": "nightly",
                "place": 0,
                "expression": "cron(0 6 * * ? *)",
                "timezone": "Europe/Berlin",
            },
            {"step_id": "hourly", "place": 2, "expression": "rate(1 hour)", "timezone": "UTC"},
        ],
        "start": "2026-03-01T00:00:00+00:00",
    }
    timetable = StartPointsTimetable(points, START)
    assert timetable.serialize() == serialized
    assert StartPointsTimetable.deserialize(serialized) == timetable


IMPORT_ALL_BUT_THE_CLASSES = """
import importlib, pkgutil, sys
import airflow_allma.timetables as package
for module in pkgutil.iter_modules(package.__path__):
    if module.name != "aws_timetables":
        importlib.import_module(f"{package.__name__}.{module.name}")
sys.exit("airflow" in sys.modules)
"""


def test_only_the_timetable_classes_need_airflow():
    subprocess.run([sys.executable, "-c", IMPORT_ALL_BUT_THE_CLASSES], check=True)
