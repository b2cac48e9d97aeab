"""Comma-separated values, as the join module reads and writes them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from airflow_allma.engine.modules.plain_string import plain_string

__all__ = ["read_csv", "write_csv"]

# Python's csv module rejects fields above a length that is set for the whole process.
_FIELD: Final = re.compile(r'(?:"((?:[^"]+|"")*+)"(?=,|\r?\n|\Z)|([^,\n]*))(,|\n|\Z|\r\n)')
_WHITESPACE: Final = " \t\n\v\f\r\u00a0\ufeff\u2028\u2029"


def read_csv(content: str) -> tuple[list[dict[str, Any]], int]:
    """Return the rows below the header line, and the number of lines that were dropped.

    Lines with more or fewer fields than the header are dropped; blank lines are ignored and not counted. All
    values are strings. A quoted field can contain commas, line breaks and doubled quotes.
    """
    lines = _lines(content.strip(_WHITESPACE))
    header = next(lines, [])
    rows: list[dict[str, Any]] = []
    dropped = 0
    for fields in lines:
        if len(fields) == len(header):
            rows.append(dict(zip(header, fields, strict=True)))
        elif fields != [""]:
            dropped += 1
    return rows, dropped


def _lines(content: str) -> Iterator[list[str]]:
    fields: list[str] = []
    for match in _FIELD.finditer(content):
        quoted, plain, end = match.groups()
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
    """Return the header and the rows, separated by line feeds, without a final one; "" without rows."""
    if not rows:
        return ""
    lines = [",".join(_quote(column) for column in columns)]
    lines.extend(",".join(_quote(plain_string(row.get(column))) for column in columns) for row in rows)
    return "\n".join(lines)


def _quote(cell: str) -> str:
    if '"' in cell or "," in cell or "\n" in cell or "\r" in cell:
        return '"' + cell.replace('"', '""') + '"'
    return cell
