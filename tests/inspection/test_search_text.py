"""Texts that people search for in JSON."""

from __future__ import annotations

import json
import time

import pytest

from airflow_allma.inspection.search_text import SearchText

VALUE = {"customer": "c17", "name": "Ada, Bo: 5", "said": 'a "b" c', "list": [1, 2, {"x": None}], "n": 12}


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" ,  ", " :\t")])
@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        ("c17", True),
        ("C17", True),
        ('"c17"', True),
        ('"c1"', False),
        ('"customer": "c17"', True),
        ('"customer":"c17"', True),
        ('"CUSTOMER" :  "c17" ,', True),
        ('customer": "c17', True),
        ('"customer": "c18"', False),
        ('c17", "name', True),
        ('{"customer"', True),
        ("Ada, Bo: 5", True),
        ("Ada,Bo", False),
        ("Bo:5", False),
        ('"Ada,  Bo: 5"', False),
        ('a "b" c', True),
        (r'a \"b\" c"', True),
        ("[1, 2, {", True),
        ("[1,2,{", True),
        ("1 2", False),
        ('"n": 12}', True),
        ('"n": 1 2', False),
        ('null}], "n"', True),
    ],
)
def test_a_text_is_found_as_the_pages_show_json(text, is_found, separators):
    data = json.dumps(VALUE, separators=separators).encode()
    search = SearchText(text)
    assert search.is_in(data) is is_found
    assert search.may_be_in(b'{"item":1,"output":' + data + b"}") or not is_found


@pytest.mark.parametrize("unit", [b'"', b'\\"', b", ", b'"\\', b'"a" : '])
def test_a_search_in_awkward_data_takes_linear_time(unit):
    data = unit * (4_000_000 // len(unit))
    started = time.monotonic()
    for text in (", : z", '"' * 200, ",", '\\"' * 90 + "z"):
        SearchText(text).is_in(data)
    assert time.monotonic() - started < 20
