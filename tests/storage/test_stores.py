"""What every store must do."""

from __future__ import annotations

import itertools

import pytest

from airflow_allma.exceptions import ObjectChangedError, ObjectNotFoundError, StorageConfigurationError
from airflow_allma.storage.object_store import ObjectStore
from airflow_allma.storage.pointer import Pointer
from tests.storage.conftest import World

BIG = b"".join(
    b"%015d\n" % number for number in range(1_200_000)
)  # 19.2 MB: three parts of a multipart upload


def test_a_store_implements_the_protocol(world: World):
    assert isinstance(world.store, ObjectStore)


def test_what_is_written_is_read_back_with_its_size_and_etag(world: World):
    written = world.store.write(world.at("a/b.json"), b'{"a":1}', content_type="application/json")
    found = world.store.head(world.at("a/b.json"))
    assert world.store.read(world.at("a/b.json")) == b'{"a":1}'
    assert (found.size, found.etag, found.content_type) == (7, written.etag, "application/json")
    assert found.last_modified is not None
    assert found.last_modified.tzinfo is not None


def test_an_empty_object_is_an_object(world: World):
    info = world.store.write(world.at("empty"), b"")
    assert (info.size, world.store.read(world.at("empty"))) == (0, b"")
    assert list(world.store.stream(world.at("empty"), if_match=info.etag)) == []


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0, None, b"0123456789"),
        (3, 5, b"34"),
        (8, 99, b"89"),
        (10, None, b""),
        (10, 20, b""),
        (50, 60, b""),
        (4, 4, b""),
        (0, 1, b"0"),
    ],
)
def test_a_range_beyond_the_end_is_what_exists(world: World, start: int, end: int | None, expected: bytes):
    etag = world.store.write(world.at("digits"), b"0123456789").etag
    assert world.store.read(world.at("digits"), start, end) == expected
    assert world.store.read(world.at("digits"), start, end, if_match=etag) == expected
    blocks = list(world.store.stream(world.at("digits"), start, end, if_match=etag, block_bytes=3))
    assert b"".join(blocks) == expected
    assert all(blocks)


def test_a_replaced_object_is_not_reported_as_missing_and_both_etags_are_named(world: World):
    old = world.store.write(world.at("m"), b"first content").etag
    new = world.store.write(world.at("m"), b"other content").etag
    assert old != new
    with pytest.raises(ObjectChangedError) as caught:
        world.store.read(world.at("m"), 2, 5, if_match=old)
    assert old in str(caught.value)
    assert new in str(caught.value)
    with pytest.raises(ObjectChangedError):
        list(world.store.stream(world.at("m"), if_match=old))
    with pytest.raises(ObjectNotFoundError):
        world.store.read(world.at("gone"), if_match=old)


def test_a_range_after_the_end_of_a_replaced_object_is_a_change_too(world: World):
    old = world.store.write(world.at("m"), b"a long first content").etag
    world.store.write(world.at("m"), b"short")
    with pytest.raises(ObjectChangedError):
        world.store.read(world.at("m"), 10, 12, if_match=old)


@pytest.mark.parametrize("operation", ["head", "read", "stream"])
def test_a_missing_object_is_named_with_bucket_and_key(world: World, operation: str):
    with pytest.raises(ObjectNotFoundError) as caught:
        list(getattr(world.store, operation)(world.at("no/such.json")))
    assert f"{world.bucket}/no/such.json" in str(caught.value)
    assert world.store.description.removeprefix("S3 through ") in str(caught.value)


def test_a_missing_bucket_is_a_missing_object(world: World):
    for attempt in (
        lambda: world.store.head(Pointer("no-such-bucket", "k")),
        lambda: world.store.read(Pointer("no-such-bucket", "k")),
        lambda: list(world.store.list("no-such-bucket")),
    ):
        with pytest.raises(ObjectNotFoundError, match="no-such-bucket"):
            attempt()


def test_a_listing_is_ordered_by_the_bytes_of_the_keys_and_bounded(world: World):
    keys = ["a-b", "a/b", "a/b/c" if world.bucket != "bucket" else "a/c/d", "a", "z/ü", "z/z", "a0"]
    if world.bucket == "bucket":  # a folder cannot contain a file and a folder of the same name
        keys.remove("a")
    for key in keys:
        world.store.write(world.at(key), key.encode())
    ordered = sorted(keys, key=str.encode)
    listed = list(world.store.list(world.bucket))
    assert [found.pointer.key for found in listed] == ordered
    assert [found.size for found in listed] == [len(key.encode()) for key in ordered]
    assert [found.etag for found in listed] == [world.store.head(found.pointer).etag for found in listed]
    for prefix in ("a", "a/", "a/b", "z/", "none", "a-"):
        expected = [key for key in ordered if key.startswith(prefix)]
        assert [found.pointer.key for found in world.store.list(world.bucket, prefix)] == expected
        assert [found.pointer.key for found in world.store.list(world.bucket, prefix, 2)] == expected[:2]


@pytest.mark.parametrize("size", [0, 10, 6 << 20, len(BIG)])
def test_a_writer_joins_what_is_written(world: World, size: int):
    data = BIG[:size]
    with world.store.open_writer(world.at("w.jsonl"), content_type="application/x-ndjson") as writer:
        for start in range(0, size, 1_000_003):
            writer.write(data[start : start + 1_000_003])
        assert writer.position == size
    assert world.store.read(world.at("w.jsonl")) == data
    found = world.store.head(world.at("w.jsonl"))
    assert (found.etag, found.size) == (writer.info.etag, size)
    assert found.content_type == "application/x-ndjson"


@pytest.mark.parametrize("size", [10, len(BIG)])
def test_nothing_appears_when_the_writer_s_block_raises(world: World, size: int):
    def write() -> None:
        with world.store.open_writer(world.at("w")) as writer:
            writer.write(BIG[:size])
            raise ZeroDivisionError

    world.store.write(world.at("other"), b"")
    with pytest.raises(ZeroDivisionError):
        write()
    assert [found.pointer.key for found in world.store.list(world.bucket)] == ["other"]


def test_an_unfinished_writer_has_no_info_and_a_closed_one_takes_no_bytes(world: World):
    writer = world.store.open_writer(world.at("w"))
    with pytest.raises(RuntimeError):
        writer.write(b"not open")
    with writer, pytest.raises(RuntimeError):
        _ = writer.info
    with pytest.raises(RuntimeError):
        writer.write(b"closed")


def test_a_large_object_is_streamed_block_by_block(world: World):
    etag = world.store.write(world.at("big"), BIG).etag
    blocks = list(world.store.stream(world.at("big"), 100, len(BIG) - 5, if_match=etag, block_bytes=1 << 20))
    assert b"".join(blocks) == BIG[100:-5]
    assert max(map(len, blocks)) <= 1 << 20


def test_a_stream_can_be_left_early(world: World):
    world.store.write(world.at("big"), BIG)
    stream = world.store.stream(world.at("big"), block_bytes=1000)
    assert b"".join(itertools.islice(stream, 3)) == BIG[:3000]
    stream.close()
    assert next(stream, None) is None


def test_a_version_cannot_be_written(world: World):
    versioned = Pointer(world.bucket, "k", version_id="1")
    with pytest.raises(StorageConfigurationError):
        world.store.write(versioned, b"")
    with pytest.raises(StorageConfigurationError):
        world.store.open_writer(versioned)


def test_an_unknown_version_does_not_exist(world: World):
    world.store.write(world.at("k"), b"x")
    with pytest.raises(ObjectNotFoundError):
        world.store.read(Pointer(world.bucket, "k", version_id="3sL4kqtJlcpXroDTDmJ.rmSpXd3dIbrHY"))
