"""What it costs to keep an index, labels and traces of items beside the results of ``map-compose``.

All measures are items per second of CPU time of one process that runs all chunks: the best of some rounds in
which the variants alternate, since other work on the machine only makes a round slower. The reference of each
is the same flow in the same call without index, labels and tracer. ``spread`` is how much faster the best
round of that reference was than its median, a noise below which a ratio says little.

``kept`` is the default: an index, labels (the items have none here) and traces of items that failed (none
here). ``labelled`` has items with labels. ``three_steps`` runs three steps for each item, two of which are
noted. ``all_traces`` keeps the traces of all items. ``..._bytes`` are bytes per million items.
"""

from __future__ import annotations

import logging
import multiprocessing
import shutil
import statistics
import tempfile
from collections.abc import Callable
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from time import process_time
from typing import Any, Final
from unittest import mock

from airflow_allma.distributed import result_writer
from airflow_allma.engine.secret_masks import SecretMasks
from airflow_allma.engine.tracing import Tracer
from airflow_allma.storage import LocalStore
from benchmarks.chunk_work import BUCKET, COMPOSE, ChunkWorker, folder_of, fork_flow, plan, write_lines
from benchmarks.measure import Measure

KEY: Final = "users.jsonl"
CHUNK_BYTES: Final = 1 << 20
VARIANTS: Final = ("bare", "kept", "labelled", "bare_three_steps", "three_steps", "all_traces")


def run(items: int = 200_000, rounds: int = 5) -> dict[str, Measure]:
    speeds: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    kept: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="allma-bench-") as folder:
        root = Path(folder)
        write_lines(root / BUCKET / KEY, items)
        for number in range(rounds):
            # The order alternates too.
            for variant in VARIANTS if number % 2 else VARIANTS[::-1]:
                shutil.rmtree(root / BUCKET / "bench", ignore_errors=True)
                speeds[variant].append(items / _seconds(root, variant))
                kept[variant] = _bytes_kept(root) / items * 1_000_000
    best = {variant: max(found) for variant, found in speeds.items()}
    report = {
        variant: Measure(
            best[variant],
            "items per CPU second",
            best["bare_three_steps" if variant == "three_steps" else "bare"],
        )
        for variant in ("kept", "labelled", "three_steps", "all_traces")
    }
    spread = best["bare"] / statistics.median(speeds["bare"]) - 1
    return {
        **report,
        "spread": Measure(spread, "of the reference"),
        **{f"{name}_bytes": Measure(kept[name], "bytes") for name in ("kept", "labelled", "all_traces")},
        "items": Measure(items, "items"),
    }


def _seconds(root: Path, variant: str) -> float:
    spawn = multiprocessing.get_context("spawn")
    answer: SimpleQueue[float] = spawn.SimpleQueue()
    process = spawn.Process(target=_work, args=(root, variant, answer))
    process.start()
    process.join()
    assert process.exitcode == 0
    return answer.get()


def _work(root: Path, variant: str, answer: SimpleQueue[float]) -> None:
    store = LocalStore(root)
    is_bare = variant.startswith("bare")
    traced = "all" if variant == "all_traces" else "failed"
    tracer = None if is_bare else Tracer.of_settings(traced, 4096, SecretMasks(), logging.getLogger())
    labels = {"itemLabelPath": "$.userId"} if variant == "labelled" else {}
    flow = fork_flow(COMPOSE, **labels)
    if variant.endswith("three_steps"):
        flow["steps"]["work"] = {**COMPOSE, "defaultNextStepInstanceId": "more"}
        flow["steps"]["more"] = {**COMPOSE, "defaultNextStepInstanceId": "last"}
        flow["steps"]["last"] = COMPOSE
    worker = ChunkWorker(store, flow, labels=not is_bare, tracer=tracer)
    chunks = plan(store, KEY, 1000, CHUNK_BYTES)

    def work() -> None:
        for chunk in chunks:
            worker.run(chunk, folder_of(chunk.number))

    before = process_time()
    if is_bare:
        _without_index(work)
    else:
        work()
    answer.put(process_time() - before)


def _without_index(work: Callable[[], Any]) -> None:
    """Run with a writer that does what it did before it had an index."""
    writer = result_writer.ResultWriter

    def encode(self: Any, results: Any) -> tuple[list[bytes], list[int]]:
        return [self._encoder.encode_lines(results)], [len(results)]

    with (
        mock.patch.object(writer, "_write_index"),
        mock.patch.object(writer, "_encode", encode),
    ):
        work()


def _bytes_kept(root: Path) -> float:
    files = (file for file in (root / BUCKET / "bench").rglob("*") if file.is_file())
    return sum(
        file.stat().st_size
        for file in files
        if file.parent.name == "traces" or file.name in {"index.json", "failures.jsonl", "labels.gz"}
    )
