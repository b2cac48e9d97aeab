"""What a chunk says of how far it is, and that finished results do not wait for those that are not."""

import asyncio
import logging
import time

import pytest

from airflow_allma.distributed.chunk_layout import list_parts
from airflow_allma.distributed.chunk_plan import ChunkSpec
from airflow_allma.distributed.chunk_progress import Progress
from airflow_allma.distributed.chunk_run import ChunkRun
from airflow_allma.distributed.result_sinks import StoredSink
from airflow_allma.engine import BranchResult, ForkRun, Services
from airflow_allma.engine.http import HttpResponse
from airflow_allma.storage import MemoryStore, OffloadLocation, Pointer
from airflow_allma.storage.manifest_ranges import ByteRange, ManifestRange
from tests.support.engine import INFO, call, fork, program_of

LOG = logging.getLogger("airflow_allma.tests.chunks")
FOLDER = OffloadLocation("bucket", "results")
MANIFEST = Pointer("bucket", "items.jsonl")


def at(seconds):
    """A clock that says 0 first, and then always the same."""
    times = iter([0.0])
    return lambda: next(times, seconds)


def lines_of(start, end):
    return ManifestRange(0, MANIFEST, etag='"1"', size=10_000, range=ByteRange(start, end))


LIST = ChunkSpec(0, "", 0, 5000)
LINES = ChunkSpec(0, "", manifest=lines_of(1000, 9000))


@pytest.mark.parametrize(
    ("chunk", "seconds", "counts", "line"),
    [
        (LIST, 4, {"ended": 1000}, "1,000 of 5,000 items done (20%), 0 failed, 250 items/s, about 16 s left"),
        (LIST, 0, {}, "0 of 5,000 items done (0%), 0 failed, 0.0 items/s"),
        (LIST, 2000, {"ended": 5000}, "5,000 of 5,000 items done (100%), 0 failed, 2.5 items/s"),
        (
            LIST,
            1,
            {"ended": 60, "reused": 4940},
            "5,000 of 5,000 items done (100%), 4,940 of them by an earlier try, 0 failed, 60 items/s",
        ),
        (
            LINES,
            60,
            {"ended": 300, "offset": 3000},
            "300 items done (25%), 0 failed, 5.0 items/s, about 3 min 0 s left",
        ),
        (
            LINES,
            3600,
            {"ended": 300, "offset": 5000},
            "300 items done (50%), 0 failed, 0.1 items/s, about 1 h 0 min left",
        ),
    ],
)
def test_progress_tells_how_much_is_done_how_fast_and_how_long_it_will_take(chunk, seconds, counts, line):
    progress = Progress(chunk, at(seconds))
    for name, count in counts.items():
        setattr(progress, name, count)
    assert str(progress) == line


class WaitingClient:
    """Answers the call for item 0 at once, and that for item 1 when the release says so."""

    def __init__(self, is_released):
        self._is_released = is_released

    async def request(self, method, url, **_):
        while url.endswith("/1") and not self._is_released():  # noqa: ASYNC110 - what it waits for tells nobody
            await asyncio.sleep(0.005)
        return HttpResponse(200, {"content-type": "application/json"}, b"{}")

    async def close(self):
        pass


def run_two_items(store, is_released, **options):
    """A chunk of two lines, the second of which waits for its release."""
    store.write(MANIFEST, b"0\n1\n")
    program = program_of({"fan": fork(), "work": call("https://api.test/{{currentItem}}")})
    chunk = ManifestRange.whole(store.head(MANIFEST))

    async def main():
        services = Services(store=store, http=WaitingClient(is_released))
        with StoredSink(store, FOLDER, part_seconds=0.01) as sink:
            forked = ForkRun(program.steps["fan"].fork, {"steps_output": {}}, INFO, services)
            running = ChunkRun(forked, ChunkSpec(0, "", manifest=chunk), sink, LOG, **options)
            async with asyncio.timeout(20):
                await running.run(2, list)
            return sink.finish(2)

    return asyncio.run(main())


def test_a_finished_result_is_written_although_no_other_comes_after_it():
    store = MemoryStore()
    written = []

    def is_released():
        written[:] = [part.name.count for part in list_parts(store, FOLDER)]
        return bool(written)

    assert run_two_items(store, is_released, tick_seconds=0.02)["items"] == 2
    assert written == [1]
    assert [part.name.count for part in list_parts(store, FOLDER)] == [1, 1]


def test_the_log_tells_of_the_progress_while_items_run(caplog):
    caplog.set_level(logging.INFO, LOG.name)
    run_two_items(MemoryStore(), lambda: bool(caplog.messages), tick_seconds=0.02, progress_seconds=0.02)
    assert caplog.messages[0].startswith("1 items done (50%), 0 failed, ")


def test_results_that_cannot_be_written_end_the_chunk_while_items_run():
    class FullStore(MemoryStore):
        def write(self, pointer, data, **options):
            if pointer != MANIFEST:
                raise OSError(28, "No space left on device")
            return super().write(pointer, data, **options)

    with pytest.raises(OSError, match="No space left"):
        run_two_items(FullStore(), lambda: False, tick_seconds=0.02)


def test_results_do_not_pile_up_before_a_slow_store():
    sizes = []

    class SlowStore(MemoryStore):
        def write(self, pointer, data, **options):
            sizes.append(len(data))
            time.sleep(0.02)
            return super().write(pointer, data, **options)

    with StoredSink(SlowStore(), FOLDER, part_bytes=2000) as sink:
        for item in range(200):
            sink.add([BranchResult(item, 0, "b", output="x" * 400)], 0, lambda _: 0)
    assert max(sizes) < 3000


def test_results_that_follow_two_parts_at_once_wait_for_a_part_of_their_own():
    store = MemoryStore()
    with StoredSink(store, FOLDER, part_bytes=2000) as sink:
        for item in range(0, 90, 3):
            for number, size in enumerate((3000, 3000, 1)):
                sink.add([BranchResult(item + number, 0, "b", output="x" * size)], 0, lambda _: 0)
            time.sleep(0.002)
    *parts, _ = list_parts(store, FOLDER)
    assert min(part.info.size for part in parts) >= 2000
