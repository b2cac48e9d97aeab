"""Any CSV, cut anywhere and read in blocks of any size, gives the rows that Python's csv module reads."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import re
from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_allma.engine.readers import Split, all_batches, count_items, plan_items, range_batches
from airflow_allma.engine.readers.csv_form import CsvForm, StateReader
from airflow_allma.engine.readers.csv_ranges import record_ranges
from airflow_allma.engine.readers.csv_records import read_records
from airflow_allma.exceptions import StorageError
from airflow_allma.flow.steps.item_reader import ItemReader
from airflow_allma.storage import ManifestRange, MemoryStore, Pointer
from airflow_allma.storage.manifest_ranges import plan_ranges

OBJECT = Pointer("bucket", "rows.csv")
SPOOLED = Pointer("bucket", "spooled.csv")

PIECES = [
    "a",
    "b",
    ",",
    ",",
    '"',
    '"',
    '""',
    "\n",
    "\r",
    "\r\n",
    "\n",
    'x"y',
    '"q\r\n"',
    ",",
    "é",
    "\0",
    " ",
    ";",
    "\u2028\x0b",
]
TEXT = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)
FORMS = st.sampled_from(
    [CsvForm(), CsvForm(";", "'"), CsvForm(",", ""), CsvForm("^", "]"), CsvForm("\\", "-"), CsvForm("\t")]
)


class SmallBlocks(MemoryStore):
    """A store whose streams have blocks of a few bytes."""

    def __init__(self, block_bytes):
        super().__init__()
        self.block_bytes = block_bytes

    def stream(self, pointer, start=0, end=None, *, if_match=None, block_bytes=0):
        return super().stream(pointer, start, end, if_match=if_match, block_bytes=self.block_bytes)


def stored(data, block_bytes=1 << 20, pointer=OBJECT):
    store = SmallBlocks(block_bytes)
    store.write(pointer, data)
    return store


def options(form=None, **reader):
    csv_options = {} if form is None else {"delimiter": form.delimiter, "quote": form.quote}
    return ItemReader.model_validate(
        {"format": "CSV", "csv": {**csv_options, **reader.pop("csv", {})}, **reader}
    )


def translated(text, form):
    return text.translate(str.maketrans({",": form.delimiter, '"': form.quote or '"'}))


def python_rows(text, form):
    """Return the rows of Python's csv module, without blank ones; None if a quote stays open."""
    quoting = {"quotechar": form.quote} if form.quote else {"quoting": csv.QUOTE_NONE}
    lines = itertools.chain(io.StringIO(text, newline=""), ["sentinel"])
    if text and not text.endswith(("\r", "\n")):
        lines = itertools.chain(io.StringIO(text + "\n", newline=""), ["sentinel"])
    rows = list(csv.reader(lines, delimiter=form.delimiter, **quoting))
    return [row for row in rows[:-1] if row] if rows[-1] == ["sentinel"] else None


def records_of(data, form, block_bytes):
    blocks = [data[at : at + block_bytes] for at in range(0, len(data), block_bytes)]
    return list(read_records(blocks, form))


@given(TEXT, FORMS, st.integers(1, 60))
@example('",","""', CsvForm(), 1)
def test_records_are_those_of_python(text, form, block_bytes):
    text = translated(text, form)
    expected = python_rows(text, form)
    data = text.encode()
    if expected is None:
        with pytest.raises(StorageError, match="is not closed") as caught:
            records_of(data, form, block_bytes)
        at = int(str(caught.value).split("at byte ")[1].split()[0])
        # Closed there, everything is complete.
        assert data[at : at + 1] == form.quote.encode()
        assert python_rows(data[:at].decode() + form.quote * 2, form) is not None
        return
    batches = records_of(data, form, block_bytes)
    assert [row for batch in batches for row in batch.rows if row] == expected
    for batch in batches:
        assert len(batch.offsets) == len(batch.rows) + 1
        for index, row in enumerate(batch.rows):
            start, end = batch.offsets[index], batch.offsets[index + 1]
            again = python_rows(data[start:end].decode(), form)
            assert again == ([row] if row else [])
            number = len(list(io.StringIO(data[:start].decode(), newline="")))
            assert batch.line + batch.lines[index] == number


@given(TEXT, FORMS)
def test_the_reader_of_long_fields_is_that_of_python(text, form):
    text = translated(text, form)
    ours, theirs = StateReader(io.StringIO(text, newline=""), form), form.rows(io.StringIO(text, newline=""))
    for row in theirs:
        assert next(ours) == row
        assert ours.line_num == theirs.line_num
    assert list(ours) == []


def outcome(call):
    """Return what a call returns, or the message of its error."""
    try:
        return call()
    except StorageError as error:
        return str(error)


def record_starts(text, form):
    """Return all bytes at which a record begins, blank ones included, by Python's csv module."""
    data = text.encode()
    ends = [match.end() for match in re.finditer(rb"\r\n?|\n", data)]
    return [0, *(at for at in ends if python_rows(data[:at].decode(), form) is not None)]


@given(TEXT, FORMS, st.integers(1, 60), st.integers(1, 40), st.integers(1, 20))
def test_ranges_begin_with_the_first_record_at_or_after_their_targets(text, form, range_bytes, blocks, most):
    text = translated(text, form)
    data = text.encode()
    store = stored(data, blocks)
    info = store.head(OBJECT)
    found = outcome(
        lambda: record_ranges(store, info, form, start=0, range_bytes=range_bytes, max_ranges=most)
    )
    if python_rows(text, form) is None and isinstance(found, str):
        assert found.replace(str(OBJECT), "the object") == outcome(lambda: records_of(data, form, blocks))
        return
    starts = record_starts(text, form)
    targets = [one.start for one in plan_ranges(len(data), range_bytes, most)]
    expected = {next((at for at in starts if at >= target), len(data)) for target in targets} - {len(data)}
    assert [one.start for one in found] == sorted(expected)
    assert [one.end for one in found] == [*sorted(expected), len(data)][1:] or not data


NAMES = ["one", "two"]
CELL = st.lists(st.sampled_from(["a", '"', ",", "\n", "\r", "\r\n", "é", "", "x" * 30]), max_size=4).map(
    "".join
)
ROWS = st.lists(st.tuples(CELL, CELL), max_size=12)


def written(rows, ending, *, quotes_all):
    def cell(value):
        must = quotes_all or re.search('[",\r\n]', value)
        return '"' + value.replace('"', '""') + '"' if must else value

    return "".join(",".join(map(cell, row)) + ending for row in [NAMES, *rows])


class Cut(NamedTuple):
    """How a file is written, stored and cut."""

    ending: str
    quotes_all: bool
    encoding: str
    is_packed: bool
    has_given_names: bool
    range_bytes: int
    block_bytes: int


CUTS = st.builds(
    Cut,
    st.sampled_from(["\n", "\r\n", "\r", "\n\n"]),
    st.booleans(),
    st.sampled_from(["utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-32-be", "gb18030"]),
    st.booleans(),
    st.booleans(),
    st.integers(1, 200),
    st.integers(1, 40),
)


@given(ROWS, CUTS)
def test_any_cut_gives_each_row_once_and_in_order(rows, cut):
    text = written(rows, cut.ending, quotes_all=cut.quotes_all)
    data = text.encode(cut.encoding)
    store = stored(gzip.compress(data) if cut.is_packed else data, cut.block_bytes)
    names = NAMES if cut.has_given_names else None
    reader = options(csv={"encoding": cut.encoding, **({"header": names} if names else {})})
    expected = list(csv.DictReader(io.StringIO(text, newline=""), names))
    plan = plan_items(store, OBJECT, reader, Split(cut.range_bytes, 50, lambda *_: SPOOLED))
    ranges = [ManifestRange.from_dict(json.loads(json.dumps(one.to_dict()))) for one in plan.ranges]
    assert len(ranges) <= 50
    found = [list(range_batches(store, one)) for one in ranges]
    assert [item for batches in found for batch in batches for item in batch.items] == expected
    for one, batches in zip(ranges, found, strict=True):
        sizes = [len(batch.items) for batch in batches]
        assert 0 not in sizes
        assert [batch.first for batch in batches] == list(itertools.accumulate(sizes, initial=0))[:-1]
        assert count_items(store, one) == sum(sizes)
        assert all(one.range.start <= at < one.range.end for batch in batches for at in batch.offsets)
    assert [item for batch in all_batches(store, OBJECT, reader) for item in batch.items] == expected
