"""Manifests of S3 Inventory and Athena as items: the files that they list, one after another."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import closing
from io import BytesIO
from typing import Any, Final

from airflow_allma.common.json_reader import NotJsonError, UnreadableJsonError, decode_json
from airflow_allma.common.json_types import type_name
from airflow_allma.common.printable import printable
from airflow_allma.engine.readers.file_parts import FileSet, ListedFile
from airflow_allma.engine.readers.format_reader import Source
from airflow_allma.engine.readers.read_files import FilesReader, options_of_files
from airflow_allma.exceptions import ObjectDecodeError, StorageConfigurationError
from airflow_allma.flow.steps.item_reader import CsvOptions, ItemFormat
from airflow_allma.storage import ObjectStore, Pointer
from airflow_allma.storage.compression import decompressed
from airflow_allma.storage.decoding import BOM

__all__ = ["MAX_MANIFEST_BYTES", "ManifestReader"]

MAX_MANIFEST_BYTES: Final = 64 << 20
"""Larger manifests are not read: this one is held in memory, as its files are planned."""

_BUCKET_ARN: Final = re.compile(r"arn:aws[a-z-]*:s3:::([A-Za-z0-9._-]{1,255})")
_KEY: Final = "Key"


class ManifestReader(FilesReader):
    """Reads the files that a manifest lists."""

    def file_set(self, store: ObjectStore, source: Source) -> FileSet:
        """Return the files of a manifest: JSON is of S3 Inventory, lines with URIs are of Athena.

        Raises:
            ObjectDecodeError: it is neither, or too large.
            StorageError: it cannot be read.
        """
        data = _content(store, source).removeprefix(BOM)
        name = str(source.pointer)
        if data.lstrip()[:1] == b"{":
            return _inventory(_decoded(data, name), source, name)
        return FileSet(list(_uris(data, name)), options_of_files(source.options))


def _content(store: ObjectStore, source: Source) -> bytes:
    blocks = store.stream(source.pointer, if_match=source.object_info.etag)
    with closing(blocks):
        data = bytearray()
        for block in decompressed(blocks, str(source.pointer), source.compression, max_ratio=0):
            data += block
            if len(data) > MAX_MANIFEST_BYTES:
                raise ObjectDecodeError(
                    f"{source.pointer} is larger than {MAX_MANIFEST_BYTES >> 20} MiB, the most that a "
                    "manifest of files may have. If it holds the items themselves, set itemReader.format to "
                    "what it is."
                )
    return bytes(data)


def _decoded(data: bytes, name: str) -> Mapping[str, Any]:
    try:
        manifest = decode_json(data)
    except (NotJsonError, UnreadableJsonError) as error:
        raise ObjectDecodeError(f"The manifest {name} is not valid JSON: {error.reason}.") from error
    return manifest if isinstance(manifest, dict) else {}


def _inventory(manifest: Mapping[str, Any], source: Source, name: str) -> FileSet:
    files = manifest.get("files")
    if not isinstance(files, list) or "fileFormat" not in manifest:
        fields = ", ".join(printable(str(field))[:40] for field in list(manifest)[:10]) or "no fields"
        raise ObjectDecodeError(
            f"{name} is not a manifest of S3 Inventory, which has fileFormat and files; it has {fields}. "
            "Name the manifest.json of an inventory, or set itemReader.format to what the object is."
        )
    bucket = _bucket(manifest.get("destinationBucket"), name)
    listed = [_file(bucket, entry, f"files[{number}] of {name}") for number, entry in enumerate(files)]
    options = options_of_files(source.options)
    match manifest["fileFormat"]:
        case "CSV":
            csv = CsvOptions(header=_names(manifest.get("fileSchema"), name))
            options = options.model_copy(update={"format": ItemFormat.CSV, "csv": csv})
            return FileSet(listed, options, _KEY)
        case "Parquet":
            return FileSet(listed, options.model_copy(update={"format": ItemFormat.PARQUET}))
        case other:
            raise ObjectDecodeError(
                f"fileFormat of {name} is {printable(str(other))[:40]!r}, which cannot be read. Set the "
                "output format of the inventory to CSV or Apache Parquet."
            )


def _bucket(arn: object, name: str) -> str:
    match = _BUCKET_ARN.fullmatch(arn) if isinstance(arn, str) else None
    if match is None:
        shown = printable(arn)[:80] if isinstance(arn, str) else type_name(arn)
        raise ObjectDecodeError(
            f"destinationBucket of {name} is {shown}; it must be the ARN of the bucket with the files, such "
            "as arn:aws:s3:::my-inventory."
        )
    return match[1]


def _file(bucket: str, entry: object, place: str) -> ListedFile:
    key = entry.get("key") if isinstance(entry, dict) else None
    size = entry.get("size") if isinstance(entry, dict) else None
    # An exact type: a boolean is an integer, too.
    if not isinstance(key, str) or (size is not None and (type(size) is not int or size < 0)):
        raise ObjectDecodeError(
            f'{place} is not a file. Each must be an object such as {{"key": "data/1.csv.gz", "size": 2048}}.'
        )
    return ListedFile(_pointer(bucket, key, place), size)


def _names(schema: object, name: str) -> tuple[str, ...]:
    names = tuple(map(str.strip, schema.split(","))) if isinstance(schema, str) else ()
    if not names or not all(names) or len(set(names)) != len(names):
        raise ObjectDecodeError(
            f"fileSchema of {name} must be the names of the columns, such as 'Bucket, Key, Size', each once."
        )
    return names


def _uris(data: bytes, name: str) -> Iterator[ListedFile]:
    # Not split at once: a list of millions of lines would take several times the memory of the manifest.
    for number, line in enumerate(BytesIO(data), 1):
        place = f"line {number} of {name}"
        try:
            uri = line.decode().strip()
        except UnicodeDecodeError as error:
            raise _not_a_uri(place, repr(line[:80])) from error
        if len(uri) > 1 and uri[0] == uri[-1] == '"':
            uri = uri[1:-1]
        if not uri:
            continue
        bucket, slash, key = uri.removeprefix("s3://").partition("/")
        if not uri.startswith("s3://") or not slash:
            raise _not_a_uri(place, repr(printable(uri[:80])))
        yield ListedFile(_pointer(bucket, key, place))


def _not_a_uri(place: str, found: str) -> ObjectDecodeError:
    return ObjectDecodeError(
        f"{place} is {found}, not the URI of a file. A manifest has one s3://bucket/key a line, as Athena "
        "writes it, or is the manifest.json of S3 Inventory; for items themselves set another "
        "itemReader.format."
    )


def _pointer(bucket: str, key: str, place: str) -> Pointer:
    try:
        return Pointer(bucket, key)
    except StorageConfigurationError as error:
        raise ObjectDecodeError(f"{place} does not name an object: {error}") from error
