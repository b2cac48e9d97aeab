from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from airflow_allma.exceptions import StorageConfigurationError
from airflow_allma.storage.keys import OffloadLocation, key_segment
from airflow_allma.storage.local import LocalStore
from airflow_allma.storage.pointer import FILE_BUCKET, Pointer

INNER = {"bucket": "b", "key": "k/ü.json"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"_s3_output_pointer": INNER}, Pointer("b", "k/ü.json")),
        ({"_s3_output_pointer": INNER, "extra": 1}, Pointer("b", "k/ü.json")),
        (INNER, Pointer("b", "k/ü.json")),
        ({**INNER, "versionId": "v", "region": "r"}, Pointer("b", "k/ü.json", "v", "r")),
        ({**INNER, "versionId": None, "region": ""}, Pointer("b", "k/ü.json")),
        ({**INNER, "size": 3}, None),
        ({"bucket": "b"}, None),
        ({"bucket": 3, "key": 7}, None),
        ({"bucket": "b", "key": 7}, None),
        ({"Bucket": "b", "Key": "k"}, None),
        ({"bucket": "", "key": "", "size": 3}, None),
        ({}, None),
        ("s3://b/k", None),
        (None, None),
        ([INNER], None),
    ],
)
def test_a_pointer_is_told_apart_from_data(value: object, expected: Pointer | None):
    assert Pointer.parse(value) == expected


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            {"_s3_output_pointer": {"bucket": "data", "key": ""}},
            r"its key is empty \(its fields: 'bucket', 'key'",
        ),
        (
            {"_s3_output_pointer": {"Bucket": "data", "Key": "k"}},
            r"it has no bucket \(its fields: 'Bucket', 'Key'",
        ),
        ({"_s3_output_pointer": {"bucket": "b"}, **INNER}, "it has no key"),
        ({"_s3_output_pointer": {"bucket": None, "key": "k"}}, "its bucket is null"),
        ({"_s3_output_pointer": {"bucket": ["b"], "key": "k"}}, "its bucket is a list"),
        ({"_s3_output_pointer": {"bucket": "b", "key": 7}}, "its key is a number"),
        ({"_s3_output_pointer": {}}, r"it has no bucket \(its fields: nothing\)"),
        ({"_s3_output_pointer": None}, "this one is null"),
        ({"_s3_output_pointer": "s3://b/k"}, "this one is a string"),
        ({"_s3_output_pointer": [INNER]}, "this one is a list"),
        ({"_s3_output_pointer": 0.5}, "this one is a number"),
        ({"bucket": "b", "key": ""}, "its key is empty"),
        ({"bucket": "", "key": "k", "region": "r"}, "its bucket is empty"),
        ({"bucket": "b", "key": None}, "its key is null"),
        (
            {**INNER, "versionId": 7},
            "versionId of a pointer must be a string; it is a number. Put it in quotes",
        ),
        ({**INNER, "versionId": False}, "versionId of a pointer must be a string; it is a boolean"),
        ({**INNER, "region": {}}, "region of a pointer must be a string; it is an object"),
    ],
)
def test_a_pointer_with_a_missing_part_is_an_error_and_not_data(value: object, message: str):
    with pytest.raises(StorageConfigurationError, match=message):
        Pointer.parse(value)


def test_a_pointer_survives_its_wrapper():
    pointer = Pointer("b", "k", version_id="v", region="eu-west-1")
    assert Pointer.parse(pointer.wrap()) == Pointer.parse(pointer.inner()) == pointer
    assert Pointer("b", "k").wrap() == {"_s3_output_pointer": {"bucket": "b", "key": "k"}}


@pytest.mark.parametrize(
    ("bucket", "key"),
    [
        ("b", "a\nb"),
        ("b", "a\x00"),
        ("b", "\x85"),
        ("b", "\ud800"),
        ("b", "k" * 1025),
        ("b", "ü" * 513),
        ("b" * 256, "k"),
        ("b\r\nX-Evil: 1", "k"),
        ("a/b", "k"),
        ("..", "k"),
        ("", "k"),
        ("b", ""),
        (FILE_BUCKET, "a/../b"),
        (FILE_BUCKET, "a//b"),
        (FILE_BUCKET, "a/./b"),
        (FILE_BUCKET, "a\\b"),
    ],
)
def test_a_name_that_an_object_must_not_have_is_rejected(bucket: str, key: str):
    with pytest.raises(StorageConfigurationError):
        Pointer(bucket, key)


@pytest.mark.parametrize(
    "details", [{"version_id": "a\nb"}, {"region": "eu\x00"}, {"version_id": "v" * 2000}]
)
def test_a_version_or_region_is_checked_too(details: dict[str, str]):
    with pytest.raises(StorageConfigurationError):
        Pointer("b", "k", **details)


@pytest.mark.parametrize("key", ["k", "a//b/", "../x", "a b+c%20", "ü/€", "?x=1#y", "k" * 1024, "~.-_"])
def test_a_key_that_s3_allows_is_allowed(key: str):
    assert Pointer.from_uri(Pointer("b", key).uri) == Pointer("b", key)


def test_an_access_point_is_a_bucket():
    arn = "arn:aws:s3:eu-west-1:123456789012:accesspoint/mine"
    assert Pointer(arn, "k").bucket == arn


@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1), min_size=1, max_size=4
    )
)
def test_the_uri_of_a_local_file_leads_back_to_it(segments: list[str]):
    assume(all(segment.strip(".") and "/" not in segment and "\\" not in segment for segment in segments))
    pointer = Pointer(FILE_BUCKET, "/".join(segments))
    assert Pointer.from_uri(pointer.uri) == pointer


@pytest.mark.parametrize(
    "uri",
    ["", "b/k", "s3://", "s3://b", "s3://b/", "s3:///k", "http://b/k", "file://host/x", "file:///", "/etc/x"],
)
def test_what_is_not_the_uri_of_an_object_is_rejected(uri: str):
    with pytest.raises(StorageConfigurationError, match=r"s3://|does not name an object"):
        Pointer.from_uri(uri)


ODD = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc"]) | st.sampled_from("./%~+: "), min_size=1
)
IDENTIFIERS = st.lists(ODD, min_size=1, max_size=4)


@given(IDENTIFIERS, IDENTIFIERS)
def test_different_identifiers_never_share_a_key(one: list[str], other: list[str]):
    location = OffloadLocation.parse("s3://b/prefix")
    assume(one != other)
    assert location.pointer(*one) != location.pointer(*other)


@given(st.lists(ODD | st.text("a.~", min_size=110, max_size=400), min_size=1, max_size=4))
def test_a_key_fits_every_store_and_cannot_lead_out_of_its_prefix(tmp_path_factory, identifiers: list[str]):
    key = OffloadLocation("b", "p").pointer(*identifiers, ending=".jsonl").key
    segments = key.split("/")
    assert segments[0] == "p"
    assert len(segments) == len(identifiers) + 1
    assert all(segment.strip(".") and len(segment) <= 255 for segment in segments)
    assert key.isascii()
    store = LocalStore(tmp_path_factory.getbasetemp())
    store._path(Pointer("b", key))


def test_long_identifiers_that_differ_at_the_end_differ_in_the_key():
    assert key_segment("x" * 500 + "a") != key_segment("x" * 500 + "b")
    assert len(key_segment("ü" * 4000)) <= 120


def test_an_identifier_cannot_be_made_to_look_like_a_shortened_one():
    cut = key_segment("x" * 500)
    assert key_segment(cut) != cut


def test_an_ordinary_run_can_be_recognized_in_the_key():
    pointer = OffloadLocation.parse("s3://lake/allma/").pointer(
        "my_dag", "manual__2026-01-01T00:00:00+00:00", "fork", "00012", ending=".jsonl"
    )
    assert pointer.uri == "s3://lake/allma/my_dag/manual__2026-01-01T00%3A00%3A00%2B00%3A00/fork/00012.jsonl"


@pytest.mark.parametrize("identifier", ["", "a\nb", "\x00", "\ud800", "x" * 5000])
def test_an_impossible_identifier_is_rejected(identifier: str):
    with pytest.raises(StorageConfigurationError):
        key_segment(identifier)


def test_a_key_that_is_too_long_is_rejected_and_the_prefix_named():
    with pytest.raises(StorageConfigurationError, match="Shorten the prefix"):
        OffloadLocation("b", "p" * 900).pointer("x" * 110, "y" * 110)


@pytest.mark.parametrize(
    ("text", "bucket", "prefix"),
    [
        ("s3://b", "b", ""),
        ("s3://b/", "b", ""),
        (" s3://b/a/c/ ", "b", "a/c"),
        ("file:///data/off%20load", FILE_BUCKET, "data/off load"),
        ("file:///data/", FILE_BUCKET, "data"),
    ],
)
def test_an_offload_location_is_read(text: str, bucket: str, prefix: str):
    location = OffloadLocation.parse(text)
    assert (location.bucket, location.prefix) == (bucket, prefix)
    assert OffloadLocation.parse(location.uri) == location


@pytest.mark.parametrize(
    "text", ["", "b/p", "s3://", "file:///", "file://data", "file:///a/../b", "s3://b/\x00"]
)
def test_an_invalid_offload_location_is_rejected(text: str):
    with pytest.raises(StorageConfigurationError):
        OffloadLocation.parse(text)


def test_a_location_below_is_the_same_as_more_identifiers():
    location = OffloadLocation.parse("s3://b/p")
    assert location.below("a/b", "c").pointer("d") == location.pointer("a/b", "c", "d")


@pytest.mark.parametrize("arguments", [((), ""), (("a",), "/../x"), (("a",), "json")])
def test_a_key_needs_identifiers_and_a_plain_ending(arguments: tuple[tuple[str, ...], str]):
    with pytest.raises(StorageConfigurationError):
        OffloadLocation("b").pointer(*arguments[0], ending=arguments[1])
