"""Campaign: manifests of awkward lines, read as a whole, in ranges, and by a reader of the test's own."""

from __future__ import annotations

import gzip
import itertools
import json
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_allma.engine.items import ItemError
from airflow_allma.engine.readers import all_batches, range_items
from airflow_allma.exceptions import ObjectDecodeError, StepError
from airflow_allma.storage import MemoryStore, Pointer, plan_manifest
from airflow_allma.storage.jsonl import read_line_batches
from airflow_allma.storage.manifest_ranges import ByteRange, ManifestRange
from tests.fuzz import awkward
from tests.fuzz.campaign import Campaign, UnlocatedError, WrongError, hidden_characters

BOM = b"\xef\xbb\xbf"
MAX_MESSAGE = 1_000
MAX_DEPTH = 400
"""Values of this depth can be read everywhere; deeper ones may be refused."""


@dataclass(frozen=True)
class Manifest:
    """An object and what it contains.

    Attributes:
        name: its key.
        data: its bytes.
        lines: the lines or elements that were written, blank ones included.
        is_array: whether they are the elements of one array.
        is_whole: whether nothing was cut off or damaged, so that each line is an item.
        ranges: the sizes of ranges to try.
        cuts: where to split the bytes at random.
    """

    name: str
    data: bytes
    lines: tuple[bytes, ...]
    is_array: bool
    is_whole: bool
    ranges: tuple[int, ...]
    cuts: tuple[float, ...]


def make(rng: random.Random) -> Manifest:
    is_array = rng.random() < 0.3
    is_gzipped = rng.random() < 0.35
    lines = tuple(_line(rng, is_array=is_array) for _ in range(rng.choice((0, 1, 2, 3, 10, 60))))
    data = _joined_array(rng, lines) if is_array else _joined_lines(rng, lines)
    # Without a name that says so, a line that begins with a bracket can be an array.
    starts_as_array = data.lstrip().startswith(b"[")
    if rng.random() < 0.15:
        data = BOM + data
    is_whole = True
    if is_gzipped:
        data = _gzipped(rng, data)
    if rng.random() < 0.2 and data:
        is_whole = False
        data = _damaged(rng, data)
    name = rng.choice(("m", "m.json") if is_array else ("m.jsonl", "m.ndjson"))
    if not is_array and not starts_as_array and rng.random() < 0.3:
        name = "m"
    name += ".gz" if is_gzipped and rng.random() < 0.7 else ""
    ranges = tuple(rng.choice((1, 2, 7, 50, 1_000, 100_000)) for _ in range(2))
    return Manifest(name, data, lines, is_array, is_whole, ranges, tuple(rng.random() for _ in range(6)))


_BAD_LINES = (
    *(
        b"{",
        b"nope",
        b"{'a': 1}",
        b"[1, 2",
        b'"a',
        b"\0",
        b'{"a": "\0"}',
        b"\xff\xfe",
        b'"\xed\xa0\x80"',
        b"NaN",
    ),
    *(
        b"1e400",
        b'"\\ud800"',
        b"{} {}",
        b'{"a": 1}]',
        b"1,",
        b",",
        b" \xef\xbb\xbf1",
        b"01",
        b"[" * 3_000,
        b"--",
    ),
    *(
        b"[" * 500 + b"]" * 500,
        b"[" * 100_000 + b"]" * 100_000,
        b'"\x1b"',
        b"\xc2\x85",
        b"-",
        b"nul",
        b"1 2",
    ),
)
_BLANK_LINES = (b"", b"", b" ", b"\t", b"  \t ")


def _line(rng: random.Random, *, is_array: bool) -> bytes:
    choice = rng.random()
    if choice < 0.1 and not is_array:
        return rng.choice(_BLANK_LINES)
    if choice < 0.25:
        line = rng.choice(_BAD_LINES)
        # In an array these would change which brackets and commas belong together.
        return b"nope" if is_array and any(sign in line for sign in b'[]{},"') else line
    if choice < 0.3:
        return json.dumps("x" * rng.choice((70_000, 200_000))).encode()
    line = json.dumps(
        awkward.value(rng, 3),
        ensure_ascii=rng.random() < 0.5,
        indent=1 if is_array and rng.random() < 0.3 else None,
    ).encode()
    return line if rng.random() < 0.9 else rng.choice((b" ", b"\t")) + line + b" "


def _joined_lines(rng: random.Random, lines: tuple[bytes, ...]) -> bytes:
    ends = [rng.choice((b"\n", b"\n", b"\r\n"))] * len(lines)
    if rng.random() < 0.2:
        ends = [rng.choice((b"\n", b"\r\n")) for _ in lines]
    if ends and rng.random() < 0.5:
        ends[-1] = b""
    return b"".join(line + end for line, end in zip(lines, ends, strict=True))


def _joined_array(rng: random.Random, lines: tuple[bytes, ...]) -> bytes:
    comma, opening, closing = rng.choice(
        ((b",", b"[", b"]"), (b", ", b"[ ", b" ]"), (b",\n", b"[\n", b"\n]\n"), (b"\r\n,", b"\n[", b"]"))
    )
    return opening + comma.join(lines) + closing


def _gzipped(rng: random.Random, data: bytes) -> bytes:
    if rng.random() < 0.7:
        return gzip.compress(data, 1, mtime=0)
    # Several members, some of them empty, and padding.
    at = rng.randrange(len(data) + 1)
    members = (data[:at], b"", data[at:])
    packed = b"".join(gzip.compress(member, 1, mtime=0) for member in members)
    return packed + rng.choice((b"", b"\0" * 100))


def _damaged(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data))
    return rng.choice(
        (
            data[:at],
            data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :],
            data[at:],
            data + data[at:],
            data + b"x",
        )
    )


def check(manifest: Manifest, folder: Path) -> str:
    store = MemoryStore()
    pointer = Pointer("b", manifest.name)
    info = store.write(pointer, manifest.data)
    whole = _read(store, pointer)
    if manifest.is_whole and not isinstance(whole, str):
        _check_items(manifest, whole)
    for size in manifest.ranges:
        planned = _read_planned(store, pointer, size)
        if isinstance(whole, str) != isinstance(planned, str):
            raise WrongError(f"whole and in ranges of {size} bytes: {_shown(whole)} and {_shown(planned)}")
        if not isinstance(whole, str) and not isinstance(planned, str) and not _same(whole, planned):
            raise WrongError(f"other items in ranges: {_shown(whole)} and {_shown(planned)}")
    _check_any_ranges(store, info, manifest)
    if isinstance(whole, str):
        return f"refused: {whole}"
    failed = sum(isinstance(item, ItemError) for item in whole)
    return "items" if not failed else "items and failed items"


def _read(store: MemoryStore, pointer: Pointer) -> list[Any] | str:
    """Return all items of an object, or the name of the error."""
    try:
        return [item for batch in all_batches(store, pointer) for item in batch.items]
    except StepError as error:
        _check_message(error, pointer)
        return error.error_name


def _read_planned(store: MemoryStore, pointer: Pointer, size: int) -> list[Any] | str:
    spool = Pointer("b", "spooled.jsonl")
    try:
        plan = plan_manifest(store, pointer, range_bytes=size, max_ranges=200, spool_to=spool)
        return [item.item for one in plan.ranges for item in range_items(store, one)]
    except ObjectDecodeError as error:
        _check_message(error, pointer)
        return type(error).__name__


def _check_any_ranges(store: MemoryStore, info: Any, manifest: Manifest) -> None:
    """Compare the lines of ranges that end anywhere, which plans have only by chance, with all lines."""
    size = len(manifest.data)
    cuts = sorted({0, size, *(int(size * cut) for cut in manifest.cuts)})
    whole = list(_lines(store, ManifestRange.whole(info), 1 << 20))
    parts = [
        line
        for start, end in itertools.pairwise(cuts)
        for line in _lines(
            store, ManifestRange(0, info.pointer, info.etag, size, ByteRange(start, end)), 1 + end % 5_000
        )
    ]
    if whole != parts:
        raise WrongError(f"other lines in ranges that end at {cuts}")


def _lines(store: MemoryStore, one: ManifestRange, block_bytes: int) -> Iterator[tuple[int, bytes]]:
    for batch in read_line_batches(store, one, block_bytes=block_bytes):
        yield from zip(batch.offsets, batch.lines, strict=True)


def _check_items(manifest: Manifest, items: list[Any]) -> None:
    """Compare the items with those of Python's own reader; a line that only one of them reads is a fault."""
    lines = [line for line in manifest.lines if line.strip(b" \t\r\n") or manifest.is_array]
    if len(lines) != len(items):
        raise WrongError(f"other number of items: {len(items)} of {len(lines)} lines")
    for number, (line, item) in enumerate(zip(lines, items, strict=True)):
        is_readable, expected = _decoded(line)
        if isinstance(item, ItemError):
            _check_message(item.error, None)
            if is_readable and not _is_deep(expected):
                raise WrongError(f"a good line fails: line {number}: {line[:200]!r}: {item.error}")
        elif not is_readable:
            raise WrongError(f"a bad line is read: line {number}: {line[:200]!r}: {item!r:.200}")
        elif not _same([expected], [item]):
            raise WrongError(f"another value: line {number}: {line[:200]!r}: {item!r:.200}")


def _decoded(line: bytes) -> tuple[bool, Any]:
    """Return whether Python's reader accepts a line without its extensions, and the value."""
    try:
        value = json.loads(line.decode(), parse_constant=_refuse, parse_float=_finite)
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return False, None
    return True, value


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        inside = [
            one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)
        ]
        level = [member for members in inside for member in members]
    return bool(level)


def _refuse(word: str) -> None:
    raise ValueError(word)


def _finite(digits: str) -> float:
    if math.isinf(float(digits)):
        raise ValueError(digits)
    return float(digits)


def _same(left: list[Any], right: list[Any]) -> bool:
    """Compare items; two failed ones are equal, whatever their errors say."""
    if len(left) != len(right):
        return False
    return all(
        (isinstance(ours, ItemError) and isinstance(theirs, ItemError))
        or (type(ours) is type(theirs) and ours == theirs)
        for ours, theirs in zip(left, right, strict=True)
    )


def _check_message(error: Exception, pointer: Pointer | None) -> None:
    message = str(error)
    if len(message) > MAX_MESSAGE or hidden_characters(message):
        raise UnlocatedError(f"an error that cannot be shown: {len(message)} characters: {message[:300]!r}")
    if pointer is not None and pointer.key not in message:
        raise UnlocatedError(f"an error that does not name its object: {message[:300]}")
    if pointer is None and "byte" not in message:
        raise UnlocatedError(f"an error that does not name its byte: {message[:300]}")


def _shown(items: list[Any] | str) -> str:
    return items if isinstance(items, str) else f"{len(items)} items"


def show(manifest: Manifest) -> str:
    return f"{manifest.name} {manifest.data[:1500]!r} ({len(manifest.data)} bytes) {manifest.ranges}"


CAMPAIGN = Campaign("manifests", make, check, show=show)
