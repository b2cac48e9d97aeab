from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from airflow_allma.exceptions import (
    ObjectAccessDeniedError,
    ObjectChangedError,
    ObjectNotFoundError,
    StorageConfigurationError,
    StorageError,
    StorageUnavailableError,
)
from airflow_allma.storage.local import LocalStore
from airflow_allma.storage.memory import MemoryStore
from airflow_allma.storage.pointer import FILE_BUCKET, Pointer
from airflow_allma.storage.routed import RoutedStore


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "root")


def test_a_bucket_is_a_folder_below_the_root(store: LocalStore):
    store.write(Pointer("b", "x/y.json"), b"1")
    assert (store.root / "b" / "x" / "y.json").read_bytes() == b"1"
    assert store.head(Pointer("b", "x/y.json")).content_type == "application/json"


@pytest.mark.parametrize(
    "key", ["../secret", "x/../../secret", "/etc/passwd", "x//y", "./x", "x/", "a\\..\\b"]
)
def test_no_key_leads_out_of_the_bucket(store: LocalStore, key: str):
    (store.root / "b").mkdir(parents=True)
    (store.root / "secret").write_bytes(b"secret")
    for attempt in (
        lambda: store.read(Pointer("b", key)),
        lambda: store.write(Pointer("b", key), b""),
    ):
        with pytest.raises(StorageConfigurationError):
            attempt()
    assert (store.root / "secret").read_bytes() == b"secret"


def test_no_link_leads_out_of_the_root(store: LocalStore, tmp_path: Path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (store.root / "b").mkdir(parents=True)
    (store.root / "b" / "folder").symlink_to(outside)
    (store.root / "b" / "file").symlink_to(outside / "secret")
    for key in ("folder/secret", "file", "folder/new"):
        with pytest.raises(StorageConfigurationError, match="outside"):
            store.read(Pointer("b", key))
        with pytest.raises(StorageConfigurationError, match="outside"):
            store.write(Pointer("b", key), b"overwritten")
    assert list(store.list("b")) == []
    assert (outside / "secret").read_bytes() == b"secret"


def test_a_link_that_stays_below_the_root_is_followed(store: LocalStore):
    store.write(Pointer("b", "real"), b"1")
    (store.root / "b" / "link").symlink_to(store.root / "b" / "real")
    assert store.read(Pointer("b", "link")) == b"1"


def test_a_root_that_is_itself_a_link_is_a_root(tmp_path: Path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    store = LocalStore(tmp_path / "link")
    store.write(Pointer("b", "k"), b"1")
    assert store.read(Pointer("b", "k")) == b"1"
    assert [info.pointer.key for info in store.list("b")] == ["k"]


def test_a_file_pointer_reaches_files_below_the_root_only(store: LocalStore, tmp_path: Path):
    inside = Pointer.from_uri((store.root / "x" / "y.json").as_uri())
    store.write(inside, b"[1]")
    assert store.read(Pointer("x", "y.json")) == b"[1]"
    prefix = str(store.root / "x").lstrip("/")
    assert [info.pointer for info in store.list(FILE_BUCKET, prefix)] == [inside]
    (tmp_path / "secret").write_bytes(b"secret")
    for uri in ((tmp_path / "secret").as_uri(), "file:///etc/passwd"):
        with pytest.raises(StorageConfigurationError, match="outside"):
            store.read(Pointer.from_uri(uri))


def test_an_unfinished_file_is_neither_listed_nor_reachable(store: LocalStore):
    with store.open_writer(Pointer("b", "k")) as writer:
        writer.write(b"half")
        temporary = next((store.root / "b").iterdir()).name
        assert list(store.list("b")) == []
        with pytest.raises(StorageConfigurationError, match="reserved"):
            store.read(Pointer("b", temporary))
    assert [path.name for path in (store.root / "b").iterdir()] == ["k"]


def test_a_reader_continues_with_the_content_it_began_with_when_the_file_is_replaced(store: LocalStore):
    etag = store.write(Pointer("b", "k"), b"a" * 100).etag
    stream = store.stream(Pointer("b", "k"), if_match=etag, block_bytes=10)
    first = next(stream)
    store.write(Pointer("b", "k"), b"b" * 100)
    assert first + b"".join(stream) == b"a" * 100


def test_a_file_that_is_changed_in_place_while_it_is_read_is_an_error(store: LocalStore):
    etag = store.write(Pointer("b", "k"), b"a" * 100).etag
    stream = store.stream(Pointer("b", "k"), if_match=etag, block_bytes=10)
    next(stream)
    with (store.root / "b" / "k").open("ab") as file:
        file.write(b"more")
    with pytest.raises(ObjectChangedError) as caught:
        next(stream)
    assert etag in str(caught.value)
    assert store.head(Pointer("b", "k")).etag in str(caught.value)


def test_folders_and_files_in_the_way_are_missing_objects(store: LocalStore):
    store.write(Pointer("b", "x/y"), b"1")
    for key in ("x", "x/y/z"):
        with pytest.raises(ObjectNotFoundError):
            store.read(Pointer("b", key))


def test_versions_are_not_kept(store: LocalStore):
    store.write(Pointer("b", "k"), b"1")
    with pytest.raises(ObjectNotFoundError, match="does not keep versions"):
        store.head(Pointer("b", "k", version_id="1"))


def test_a_name_that_is_too_long_for_a_file_is_rejected(store: LocalStore):
    with pytest.raises(StorageConfigurationError, match="too long"):
        store.write(Pointer("b", "x" * 300), b"1")


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.EACCES, ObjectAccessDeniedError),
        (errno.EROFS, ObjectAccessDeniedError),
        (errno.ENOSPC, StorageUnavailableError),
        (errno.EIO, StorageUnavailableError),
    ],
)
def test_each_error_of_the_system_has_its_own_storage_error(
    store: LocalStore, number: int, expected: type[StorageError]
):
    with pytest.raises(expected, match="s3://b/k"), store._errors(Pointer("b", "k")):
        raise OSError(number, os.strerror(number))


def test_a_full_disk_leaves_the_old_content(tmp_path: Path):
    device = Path("/dev/full")
    if not device.exists():
        pytest.skip("needs /dev/full")
    store = LocalStore(tmp_path)
    store.write(Pointer("b", "k"), b"old")

    def write_to_a_full_disk() -> None:
        with store.open_writer(Pointer("b", "k")) as writer:
            writer._file.close()
            writer._file = device.open("wb")
            writer.write(b"new")

    with pytest.raises(StorageUnavailableError, match="No space"):
        write_to_a_full_disk()
    assert store.read(Pointer("b", "k")) == b"old"
    assert [info.pointer.key for info in store.list("b")] == ["k"]


def test_pointers_are_routed_by_their_kind(tmp_path: Path):
    memory, files = MemoryStore(), LocalStore(tmp_path)
    store = RoutedStore(memory, files)
    at_file = Pointer.from_uri((tmp_path / "x.json").as_uri())
    for pointer in (at_file, Pointer("b", "k")):
        store.write(pointer, b"1")
        with store.open_writer(pointer) as writer:
            writer.write(b"22")
        assert store.head(pointer).size == 2
        assert store.read(pointer, 1, if_match=writer.info.etag) == b"2"
        assert list(store.stream(pointer)) == [b"22"]
        assert [info.pointer for info in store.list(pointer.bucket, pointer.key)] == [pointer]
    assert memory.read(Pointer("b", "k")) == (tmp_path / "x.json").read_bytes() == b"22"
    assert store.description == f"memory or folder '{tmp_path}'"


def test_a_file_without_a_store_says_which_setting_is_missing():
    with pytest.raises(StorageConfigurationError, match="offload_location"):
        RoutedStore(MemoryStore(), None).read(Pointer.from_uri("file:///etc/passwd"))


def test_a_folder_of_files_that_are_named_by_their_path_can_be_listed(tmp_path: Path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "one").write_bytes(b"1")
    store = LocalStore(tmp_path)
    key = str(tmp_path / "folder").lstrip("/")
    assert [info.pointer.key for info in store.list(FILE_BUCKET, f"{key}/")] == [f"{key}/one"]


def test_folders_that_are_nested_too_deeply_are_an_error_of_the_store(tmp_path):
    folder = os.open(tmp_path, os.O_RDONLY)
    for name in ["b", *["d"] * 520]:
        os.mkdir(name, dir_fd=folder)
        inner = os.open(name, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)
    with pytest.raises(StorageConfigurationError, match="at most 1024"):
        list(LocalStore(tmp_path).list("b"))
