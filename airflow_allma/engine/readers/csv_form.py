"""The form of CSV: what separates and quotes fields, the encoding, and the names of the fields."""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final, Protocol, Self

from airflow_allma.common.charsets import known_encoding
from airflow_allma.engine.readers.format_reader import Source
from airflow_allma.exceptions import StorageConfigurationError
from airflow_allma.storage.compression import without_compression

__all__ = ["UTF_8", "CsvForm", "RowReader", "StateReader"]

UTF_8: Final = "utf-8"
_FIRST_ROW: Final = "FIRST_ROW"
_TAB_ENDINGS: Final = (".tsv", ".tab")
_TAB_TYPE: Final = "text/tab-separated-values"


class RowReader(Protocol):
    """Splits lines into rows; a row is a list of fields, of a blank line an empty list."""

    @property
    def line_num(self) -> int:
        """The lines read so far."""

    def __iter__(self) -> Iterator[list[str]]: ...

    def __next__(self) -> list[str]: ...


@dataclass(frozen=True, slots=True)
class CsvForm:
    """The form of the CSV that an object holds, with nothing left to find out.

    Attributes:
        delimiter: one ASCII character.
        quote: one ASCII character; empty: there are no quotes.
        encoding: Python's name of the encoding.
        names: the names of the fields; None: the first row has them.
        converted_from: the encoding of the object that this one was converted from; empty: it was not.
    """

    delimiter: str = ","
    quote: str = '"'
    encoding: str = UTF_8
    names: tuple[str, ...] | None = None
    converted_from: str = ""

    @classmethod
    def of(cls, source: Source) -> Self:
        """Return the form of a source: as the flow says, else as its name or its media type says.

        Raises:
            StorageConfigurationError: quote and delimiter are the same.
        """
        options = source.options.csv
        delimiter = options.delimiter or ("\t" if _has_tabs(source) else ",")
        if options.quote == delimiter:
            raise StorageConfigurationError(
                f"itemReader.csv.quote and itemReader.csv.delimiter are both {delimiter!r}. They must differ."
            )
        names = None if options.header == _FIRST_ROW else tuple(options.header)
        return cls(delimiter, options.quote, _encoding(options.encoding), names)

    @classmethod
    def from_reader(cls, reader: Mapping[str, Any]) -> Self:
        """Return the form of a planned range; see ``to_reader``."""
        header = reader["header"]
        return cls(
            reader["delimiter"],
            reader["quote"],
            reader["encoding"],
            tuple(header) if isinstance(header, list) else None,
            reader.get("convertedFrom", ""),
        )

    def to_reader(self, header_end: int) -> dict[str, Any]:
        """Return what a planned range says of its reader.

        Args:
            header_end: the byte at which the first row ends, if that row has the names.
        """
        reader: dict[str, Any] = {
            "format": "CSV",
            "delimiter": self.delimiter,
            "quote": self.quote,
            "encoding": self.encoding,
            "header": header_end if self.names is None else list(self.names),
        }
        return {**reader, "convertedFrom": self.converted_from} if self.converted_from else reader

    def in_utf_8(self) -> Self:
        """Return the form of the object after it is converted to UTF-8."""
        return self if self.has_plain_bytes else replace(self, encoding=UTF_8, converted_from=self.encoding)

    @property
    def original_encoding(self) -> str:
        """The encoding of the object that the flow names."""
        return self.converted_from or self.encoding

    @property
    def has_plain_bytes(self) -> bool:
        """Whether delimiters, quotes and line breaks can be found without decoding anything."""
        return self.encoding == UTF_8 or _is_single_byte(self.encoding)

    def rows(self, lines: Iterable[str]) -> RowReader:
        """Split lines, each with its line break, into rows. Can raise ``csv.Error`` for a long field."""
        if not self.quote:
            return csv.reader(lines, delimiter=self.delimiter, quoting=csv.QUOTE_NONE)
        return csv.reader(lines, delimiter=self.delimiter, quotechar=self.quote)


class StateReader:
    """Splits lines into rows as Python's ``csv`` does, with fields of any length.

    That module limits the length of fields by a setting for the whole process. This is slower.
    """

    def __init__(self, lines: Iterable[str], form: CsvForm) -> None:
        self.line_num = 0
        self._lines = iter(lines)
        self._quote = form.quote
        quote, delimiter = re.escape(form.quote), re.escape(form.delimiter)
        self._plain = re.compile(rf"([^{delimiter}\r\n]*+)({delimiter}?+)")
        self._quoted = (
            re.compile(rf"([^{quote}]*+(?:{quote}{quote}[^{quote}]*+)*+)({quote}?+)") if quote else None
        )

    def __iter__(self) -> Iterator[list[str]]:
        return self

    def __next__(self) -> list[str]:
        line, position = self._next_line(), 0
        if not line.rstrip("\r\n"):
            return []
        fields: list[str] = []
        while True:
            parts: list[str] = []
            if self._quoted is not None and line.startswith(self._quote, position):
                position += 1
                while match := self._quoted.match(line, position):
                    parts.append(match[1].replace(self._quote * 2, self._quote))
                    position = match.end()
                    if match[2]:
                        break
                    try:
                        line, position = self._next_line(), 0
                    except StopIteration:
                        return [*fields, "".join(parts)]
            plain = self._plain.match(line, position)
            if plain is None:
                raise AssertionError("an empty field matches everywhere")
            fields.append("".join([*parts, plain[1]]))
            position = plain.end()
            if not plain[2]:
                return fields

    def _next_line(self) -> str:
        line = next(self._lines)
        self.line_num += 1
        return line


def _has_tabs(source: Source) -> bool:
    if without_compression(source.pointer.key).endswith(_TAB_ENDINGS):
        return True
    media = (source.info.content_type if source.info else None) or ""
    return media.lower().startswith(_TAB_TYPE)


def _encoding(name: str) -> str:
    # A byte order mark of UTF-8 is skipped in any case.
    known = known_encoding(name) or UTF_8
    return UTF_8 if known == "utf-8-sig" else known


@lru_cache
def _is_single_byte(encoding: str) -> bool:
    """Return whether each byte is a character, and the first 128 are those of ASCII."""
    try:
        decoders = codecs.getincrementaldecoder(encoding)
    except LookupError:
        return False
    for number in range(256):
        try:
            character = decoders().decode(bytes([number]))
        except UnicodeDecodeError:
            character = "\ufffd" if number >= 128 else ""
        # A few encodings have a second comma or quote among the other bytes.
        if len(character) != 1 or (ord(character) != number if number < 128 else character.isascii()):
            return False
    return True
