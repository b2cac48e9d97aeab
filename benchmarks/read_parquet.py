"""Rows of Parquet as items, beside pyarrow's own conversion to Python objects.

Each row has two integers, a float, a boolean and two strings, which need no conversion. ``rows`` counts
rows a second that are read from a local file by ranges, as chunks are; the reference is
``for batch in ParquetFile(path).iter_batches(): batch.to_pylist()``. ``converted`` is the same for decimals,
dates, timestamps and lists: pyarrow converts them to Python's objects, the reader to strings. ``peak_N`` is
the peak memory of a process that reads N rows; the reference is the peak with 10,000.

The two take turns, and each value is the best of ``--rounds`` rounds.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from airflow_allma.engine.readers import Split, plan_items, range_batches
from airflow_allma.flow.steps.item_reader import ItemReader
from airflow_allma.storage import LocalStore, Pointer
from benchmarks.measure import Measure, seconds

BUCKET = "bucket"
SIZES = (10_000, 1_000_000)
SPLIT = Split(16 << 20, 200)
PLAIN, CONVERTED = "plain.parquet", "converted.parquet"
_PART = 100_000


def run(rows: int = SIZES[-1], rounds: int = 5) -> dict[str, Measure]:
    measures: dict[str, Measure] = {}
    with tempfile.TemporaryDirectory(prefix="allma-bench-") as folder:
        for measure, key in (("rows", PLAIN), ("converted", CONVERTED)):
            _write(_path(folder, key), rows, is_plain=key == PLAIN)
            assert _read(folder, key) == rows
            pairs = [
                (seconds(partial(_read, folder, key), 1), seconds(partial(_read_plainly, folder, key), 1))
                for _ in range(rounds)
            ]
            ours, theirs = map(min, zip(*pairs, strict=True))
            measures[measure] = Measure(rows / ours, "rows/s", rows / theirs)
        least = None
        for size in sorted({min(SIZES[0], rows), rows}):
            _write(_path(folder, PLAIN), size, is_plain=True)
            peak = _peak(folder)
            least = least or peak
            measures[f"peak_{size}"] = Measure(peak, "MB", least)
    return measures


def _path(folder: str, key: str) -> Path:
    return Path(folder) / BUCKET / key


def _write(file: Path, rows: int, *, is_plain: bool) -> None:
    file.parent.mkdir(exist_ok=True)
    make = _plain if is_plain else _converted
    with pq.ParquetWriter(file, make(0, 1).schema) as writer:
        for first in range(0, rows, _PART):
            writer.write_table(make(first, min(_PART, rows - first)))


def _plain(first: int, count: int) -> Any:
    numbers = range(first, first + count)
    return pa.table(
        {
            "id": pa.array(numbers, pa.int64()),
            "group": pa.array([number % 100 for number in numbers], pa.int64()),
            "price": pa.array([number * 0.25 for number in numbers], pa.float64()),
            "is_new": pa.array([number % 3 == 0 for number in numbers], pa.bool_()),
            "name": pa.array([f"user-{number}" for number in numbers], pa.string()),
            "country": pa.array([f"country-{number % 50}" for number in numbers], pa.string()),
        }
    )


def _converted(first: int, count: int) -> Any:
    numbers = pa.array(range(first, first + count), pa.int64())
    days = pc.cast(pc.cast(numbers, pa.int32()), pa.date32())
    moments = pc.cast(numbers, pa.timestamp("us", "UTC"))
    amounts = pc.cast(numbers, pa.decimal128(25, 2))
    pairs = pa.ListArray.from_arrays(pa.array(range(count + 1), pa.int32()), numbers)
    return pa.table({"amount": amounts, "day": days, "moment": moments, "numbers": pairs})


def _read(folder: str, key: str) -> int:
    store = LocalStore(folder)
    ranges = plan_items(store, Pointer(BUCKET, key), ItemReader(), SPLIT).ranges
    return sum(len(batch.items) for lines in ranges for batch in range_batches(store, lines))


def _read_plainly(folder: str, key: str) -> int:
    return sum(len(batch.to_pylist()) for batch in pq.ParquetFile(_path(folder, key)).iter_batches())


def _peak(folder: str) -> float:
    command = [sys.executable, "-m", __name__, folder]
    return float(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def _own_peak() -> float:
    """Return the peak memory of this process in MB; ``ru_maxrss`` would include the parent's before exec."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    [peak] = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(peak) / 1024


if __name__ == "__main__":
    _read(sys.argv[1], PLAIN)
    print(_own_peak())
