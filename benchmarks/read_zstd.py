"""Lines per second of compressed JSON Lines, and the pass that writes them plain.

``zstd``, ``gzip`` and ``bzip2`` are lines that a fork in one process turns into items as a stream; the
reference is bare decompression and decoding of each line with the same libraries, in turns with it.
``plan_zstd`` is the pass that writes the lines plain, in megabytes per second of plain bytes; the reference
is decompression alone.
"""

from __future__ import annotations

import bz2
import gzip
import statistics
from collections.abc import Callable
from typing import Any

import msgspec

from airflow_allma.engine.readers import Split, all_batches, plan_items
from airflow_allma.flow.steps.item_reader import ItemReader
from airflow_allma.storage import MemoryStore, Pointer
from benchmarks.measure import Measure, seconds

OBJECT = Pointer("bucket", "lines.jsonl.packed")
LINE = '{"id": %d, "name": "name %d", "price": %d.5, "code": "x%d", "day": "2026-01-01"}\n'
SPLIT = Split(1 << 20, 200, lambda name, ending: Pointer("bucket", f"{name}{ending}"))


def run(lines: int = 1_000_000, rounds: int = 3) -> dict[str, Measure]:
    from backports import zstd

    plain = "".join(LINE % ((number,) * 4) for number in range(lines)).encode()
    measures: dict[str, Measure] = {}
    packers: dict[str, tuple[Callable[[bytes], bytes], Callable[[], Any]]] = {
        "zstd": (zstd.compress, zstd.ZstdDecompressor),
        "gzip": (lambda data: gzip.compress(data, 6), _Gzip),
        "bzip2": (bz2.compress, bz2.BZ2Decompressor),
    }
    for name, (pack, new_decoder) in packers.items():
        # Decoding bzip2 takes ten times as long; less of it shows the same.
        size = len(plain) if name != "bzip2" else len(plain) // 10
        data = pack(plain[: plain.rindex(b"\n", 0, size) + 1])
        store = MemoryStore()
        store.write(OBJECT, data)
        count = _items(store)
        assert count == _bare(new_decoder(), data)
        times = [
            (seconds(lambda: _items(store), 1), seconds(lambda: _bare(new_decoder(), data), 1))  # noqa: B023
            for _ in range(rounds)
        ]
        ours, theirs = (statistics.median(one) for one in zip(*times, strict=True))
        measures[name] = Measure(count / ours, "lines/s", count / theirs)
        if name == "zstd":
            planning = seconds(lambda: plan_items(store, OBJECT, ItemReader(), SPLIT), rounds)  # noqa: B023
            alone = seconds(lambda: _unpack(new_decoder(), data), rounds)  # noqa: B023
            measures["plan_zstd"] = Measure(len(plain) / planning / 1e6, "MB/s", len(plain) / alone / 1e6)
    return measures


class _Gzip:
    """zlib's decoder with the method that the other two have."""

    def __init__(self) -> None:
        import zlib

        self._stream = zlib.decompressobj(31)

    def decompress(self, data: bytes) -> bytes:
        return self._stream.decompress(data)


def _items(store: MemoryStore) -> int:
    return sum(len(batch.items) for batch in all_batches(store, OBJECT))


def _bare(decoder: Any, data: bytes) -> int:
    decode = msgspec.json.Decoder().decode
    count, rest = 0, b""
    for start in range(0, len(data), 1 << 18):
        lines = (rest + decoder.decompress(data[start : start + (1 << 18)])).split(b"\n")
        rest = lines.pop()
        count += len([decode(line) for line in lines])
    return count


def _unpack(decoder: Any, data: bytes) -> None:
    for start in range(0, len(data), 1 << 18):
        decoder.decompress(data[start : start + (1 << 18)])
