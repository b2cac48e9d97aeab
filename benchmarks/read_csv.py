"""Rows per second of the CSV reader, and its memory from 10,000 to 1,000,000 rows.

``plain``, ``quoted`` and ``lines`` (quoted line breaks) are rows that the reader of a fork turns into items;
the reference is ``csv.DictReader`` over the same bytes, in turns with it. ``plan_*`` is the splitting of the
same bytes into ranges of 1 MiB, in megabytes per second; the reference is ``csv.reader`` over all of them.
``memory_N`` is the peak of a process that plans and reads a file of N rows; the reference is the smallest.
"""

from __future__ import annotations

import csv
import io
import json
import statistics
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable
from pathlib import Path

from airflow_allma.engine.readers import Split, plan_items, range_batches
from airflow_allma.flow.steps.item_reader import ItemReader
from airflow_allma.storage import LocalStore, MemoryStore, ObjectStore, Pointer
from benchmarks.measure import Measure, seconds

SIZES = (10_000, 1_000_000)
ROWS = {
    "plain": "{0},name {0},{0}.5,x{0},2026-01-01\n",
    "quoted": '{0},"name, {0}",{0}.5,x{0},"2026-01-01"\r\n',
    "lines": '{0},"name\n{0}",{0}.5,x{0},2026-01-01\n',
}
OBJECT = Pointer("bucket", "rows.csv")
READER = ItemReader()
SPLIT = Split(1 << 20, 200)


def run(rows: int = 1_000_000, rounds: int = 3) -> dict[str, Measure]:
    measures: dict[str, Measure] = {}
    for name, row in ROWS.items():
        store = MemoryStore()
        data = _file(row, rows)
        store.write(OBJECT, data)
        ours, theirs = _in_turns(lambda: _read(store), lambda: _dicts(data), rounds)  # noqa: B023 - called here
        measures[name] = Measure(rows / ours, "rows/s", rows / theirs)
        ours, theirs = _in_turns(lambda: _plan(store), lambda: _lists(data), rounds)  # noqa: B023
        measures[f"plan_{name}"] = Measure(len(data) / ours / 1e6, "MB/s", len(data) / theirs / 1e6)
    for size in SIZES:
        least = measures.get(f"memory_{SIZES[0]}")
        measures[f"memory_{size}"] = Measure(_peak_of(size), "MB", least.value if least else None)
    return measures


def _file(row: str, rows: int) -> bytes:
    return ("id,name,price,code,day\n" + "".join(map(row.format, range(rows)))).encode()


def _read(store: ObjectStore) -> int:
    ranges = plan_items(store, OBJECT, READER, Split(1 << 40, 1)).ranges
    return sum(len(batch.items) for one in ranges for batch in range_batches(store, one))


def _plan(store: ObjectStore) -> None:
    plan_items(store, OBJECT, READER, SPLIT)


def _dicts(data: bytes) -> None:
    deque(csv.DictReader(io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", newline="")), maxlen=0)


def _lists(data: bytes) -> None:
    deque(csv.reader(io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", newline="")), maxlen=0)


def _in_turns(left: Callable[[], object], right: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Return the median times of two functions, called in turns so that other load affects both equally."""
    times = [(seconds(left, 1), seconds(right, 1)) for _ in range(rounds)]
    return statistics.median(one for one, _ in times), statistics.median(one for _, one in times)


def _peak_of(rows: int) -> float:
    with tempfile.TemporaryDirectory(prefix="allma-bench-") as folder:
        file = Path(folder, OBJECT.bucket, OBJECT.key)
        file.parent.mkdir()
        file.write_bytes(_file(ROWS["quoted"], rows))
        command = [sys.executable, "-m", __name__, folder, str(rows)]
        return float(json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout))


def _peak(folder: str, rows: int) -> float:
    """Return the peak memory of this process in MB, after it has planned and read a file."""
    store = LocalStore(folder)
    ranges = plan_items(store, OBJECT, READER, SPLIT).ranges
    read = sum(len(batch.items) for one in ranges for batch in range_batches(store, one))
    assert read == rows, read
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (line,) = [line for line in status if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    print(json.dumps(_peak(sys.argv[1], int(sys.argv[2]))))
