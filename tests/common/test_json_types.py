"""The names of types in messages."""

from __future__ import annotations

import datetime as dt
from types import MappingProxyType

import pytest

from airflow_allma.common.json_types import type_name


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (None, "null"),
        (True, "a boolean"),
        (1, "a number"),
        (1.5, "a number"),
        ("", "a string"),
        ([], "a list"),
        ({}, "an object"),
        (MappingProxyType({}), "an object"),
        (dt.date(2026, 1, 1), "date"),
    ],
)
def test_a_type_has_the_name_that_json_gives_it(value, name):
    assert type_name(value) == name
