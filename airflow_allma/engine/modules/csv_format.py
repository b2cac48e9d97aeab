"""Comma-separated text, as the join module reads and writes it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from airflow_allma.expressions.js_values import to_text

__all__ = ["cell_text", "read_csv", "write_csv"]

# Python's own csv module refuses fields above a length that is set for the whole process.
_FIELD: Final = re.compile(r'(?:"((?:[^"]+|"")*+)"(?=,|\r?\n|\Z)|([^,\n]*))(,|\n|\Z|\r\n)')
_SPACE: Final = " \t\n\v\f\r\u00a0\ufeff\u2028\u2029"


def read_csv(text: str) -> tuple[list[dict[str, Any]], int]:
    """The rows below the header line, and how many lines were left out.

    A line with more or fewer fields than the header is left out; so are blank lines, without being counted.
    All values are text. A quoted field may hold commas, line breaks and, doubled, quotes.
    """
    lines = _lines(text.strip(_SPACE))
    header = next(lines, [])
    rows: list[dict[str, Any]] = []
    dropped = 0
    for fields in lines:
        if len(fields) == len(header):
            rows.append(dict(zip(header, fields, strict=True)))
        elif fields != [""]:
            dropped += 1
    return rows, dropped


def _lines(text: str) -> Iterator[list[str]]:
    fields: list[str] = []
    for found in _FIELD.finditer(text):
        quoted, plain, end = found.groups()
        if quoted is not None:
            fields.append(quoted.replace('""', '"'))
        else:
            fields.append(plain if end == "," else plain.removesuffix("\r"))
        if end == ",":
            continue
        yield fields
        fields = []
        if not end:
            return


def write_csv(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Header and rows, separated by line feeds, without one at the end; empty text without rows."""
    if not rows:
        return ""
    lines = [",".join(_quoted(column) for column in columns)]
    lines.extend(",".join(_quoted(cell_text(row.get(column))) for column in columns) for row in rows)
    return "\n".join(lines)


def _quoted(text: str) -> str:
    if '"' in text or "," in text or "\n" in text or "\r" in text:
        return '"' + text.replace('"', '""') + '"'
    return text


def cell_text(value: Any) -> str:
    """A value as text: null is empty; objects and lists are compact JSON."""
    if value is None:
        return ""
    if isinstance(value, dict | list):
        return msgspec.json.encode(value).decode()
    return to_text(value)
