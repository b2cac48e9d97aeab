"""The small pieces that every layer shares."""

from __future__ import annotations

import binascii
import sys
import threading
import time
import weakref
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_allma.common.aws_clients import ClientCache
from airflow_allma.common.aws_errors import is_transient
from airflow_allma.common.base64_text import from_base64, to_base64, to_base64url
from airflow_allma.common.batching import batched
from airflow_allma.common.merging import merge_deep
from airflow_allma.common.misspelling import differ_in_one_letter
from airflow_allma.common.nearest import nearest
from airflow_allma.common.timestamps import iso_milliseconds

OBJECTS = st.recursive(
    st.none() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from("abc"), inner)
)


@pytest.mark.parametrize(
    ("base", "override", "merged"),
    [
        ({"a": 1, "b": 2}, {"b": 3, "c": 4}, {"a": 1, "b": 3, "c": 4}),
        ({"a": {"x": 1, "y": {"z": 1}}}, {"a": {"y": {"w": 2}}}, {"a": {"x": 1, "y": {"z": 1, "w": 2}}}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": {"x": 1}}, {"a": None}, {"a": None}),
        ({"a": None}, {"a": {"x": 1}}, {"a": {"x": 1}}),
        ({"a": {"x": 1}}, {"a": {}}, {"a": {"x": 1}}),
    ],
)
def test_objects_merge_and_other_values_are_replaced(base, override, merged):
    before = repr((base, override))
    assert merge_deep(base, override) == merged
    assert repr((base, override)) == before


@given(st.dictionaries(st.sampled_from("abc"), OBJECTS), st.dictionaries(st.sampled_from("abc"), OBJECTS))
def test_merging_twice_changes_nothing(base, override):
    once = merge_deep(base, override)
    assert merge_deep(once, override) == once
    assert list(once) == [*base, *(key for key in override if key not in base)]


@given(st.lists(st.integers()), st.integers(1, 5))
def test_batches_hold_all_values_in_order(values, size):
    batches = list(batched(iter(values), size))
    assert [value for batch in batches for value in batch] == values
    assert all(len(batch) == size for batch in batches[:-1])
    assert all(batches)


@given(st.binary())
def test_base64_is_decoded_in_all_its_forms(data):
    assert from_base64(to_base64(data)) == data
    assert from_base64(to_base64url(data)) == data
    assert from_base64(f" {to_base64(data)}\n".replace("=", "")) == data


@pytest.mark.parametrize("encoded", ["a", "a*bc", "äbcd"])
def test_what_is_not_base64_is_refused(encoded):
    with pytest.raises(binascii.Error):
        from_base64(encoded)


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("sped", ["speed", "special"], "speed"),
        ("SPEED", ["speed"], "speed"),
        ("tree", ["forest"], None),
        ("x" * 61, ["x" * 61], None),
        ("step", [], None),
    ],
)
def test_the_hint_is_the_most_similar_name(name, known, hint):
    assert nearest(name, known) == hint
    assert nearest(name, reversed(known)) == hint


@pytest.mark.parametrize(
    ("code", "status", "transient"),
    [
        ("SlowDown", 503, True),
        ("ThrottlingException", 400, True),
        ("", 429, True),
        ("Unknown", 500, True),
        ("AccessDenied", 403, False),
        ("", 0, False),
        ("", 600, False),
    ],
)
def test_an_aws_error_is_transient_by_code_or_status(code, status, transient):
    assert is_transient(code, status) is transient


def test_threads_that_need_the_same_client_get_the_same_one():
    made = []

    def make(service, region, retries):
        time.sleep(0.01)
        made.append((service, region, retries))
        return object()

    cache = ClientCache(make)
    found = []

    def get():
        found.append(cache.get("s3", None, retries=True))

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=get) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert made == [("s3", None, True)]
    assert len(set(map(id, found))) == 1
    assert cache.get("s3", "us-west-2", retries=True) is not found[0]
    assert cache.get("s3", None, retries=False) is not found[0]


def test_a_client_that_could_not_be_made_is_made_at_the_next_call():
    answers = iter([ValueError("not yet"), "client"])

    def make(service, region, retries):
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    cache = ClientCache(make)
    with pytest.raises(ValueError, match="not yet"):
        cache.get("s3", None, retries=True)
    assert cache.get("s3", None, retries=True) == "client"


def test_clients_of_regions_that_data_makes_up_do_not_pile_up():
    made = []

    class Client:
        pass

    def make(service, region, retries):
        made.append(weakref.ref(client := Client()))
        return client

    cache = ClientCache(make)
    for number in range(200):
        assert cache.get("sns", f"xx-{number}", retries=False) is made[-1]()
    assert len([one for one in made if one() is not None]) == 64
    assert cache.get("sns", "xx-199", retries=False) is made[-1]()


@pytest.mark.parametrize(
    ("moment", "timestamp"),
    [
        (datetime(2026, 3, 1, 8, 30, tzinfo=UTC), "2026-03-01T08:30:00.000Z"),
        (datetime(2026, 3, 1, 8, 30, 0, 1999, timezone(timedelta(hours=2))), "2026-03-01T06:30:00.001Z"),
        (datetime(1, 1, 1, tzinfo=UTC), "0001-01-01T00:00:00.000Z"),
    ],
)
def test_a_timestamp_is_in_utc_with_milliseconds(moment, timestamp):
    assert iso_milliseconds(moment) == timestamp


@pytest.mark.parametrize(
    ("name", "other", "differ"),
    [
        ("url", "uri", True),
        ("key", "keys", True),
        ("keys", "key", True),
        ("kye", "key", False),
        ("key", "key", False),
        ("k", "key", False),
        ("", "a", True),
    ],
)
def test_names_differ_in_one_letter_if_one_is_another_or_missing(name, other, differ):
    assert differ_in_one_letter(name, other) is differ
