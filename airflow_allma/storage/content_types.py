"""The kinds of media types (text, JSON or JSON Lines), and the media types of key endings."""

from __future__ import annotations

import mimetypes
from enum import StrEnum
from typing import Final

__all__ = ["ContentKind", "guess_type", "is_json_type", "kind_of"]


class ContentKind(StrEnum):
    """How to read an object's content."""

    JSON_LINES = "json-lines"
    """One JSON value per line, according to type or name."""
    TEXT = "text"
    """Text, perhaps JSON."""
    BINARY = "binary"
    """Neither."""
    UNKNOWN = "unknown"
    """Neither type nor name identifies the kind; the bytes decide."""


_LINES_ENDINGS: Final = (".jsonl", ".ndjson", ".jsonlines")
_OWN_TYPES: Final = {
    ".json": "application/json",
    ".jsonl": "application/x-ndjson",
    ".ndjson": "application/x-ndjson",
    ".jsonlines": "application/x-ndjson",
    ".md": "text/markdown",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".log": "text/plain",
}
_GZIP_TYPES: Final = frozenset({"application/gzip", "application/x-gzip"})
_LINES_MARKS: Final = ("jsonl", "ndjson", "jsonlines", "json-seq")
_TEXT_MARKS: Final = ("json", "xml", "yaml", "javascript", "csv", "x-www-form-urlencoded")
# S3 sets binary/octet-stream on objects that are uploaded without a type, so it does not describe them.
_DEFAULT_TYPES: Final = frozenset({"", "binary/octet-stream"})


def _ending(key: str) -> str:
    name = key.rsplit("/", 1)[-1].lower().removesuffix(".gz")
    return "." + name.rsplit(".", 1)[-1] if "." in name else ""


def guess_type(key: str) -> str | None:
    """Return the media type of a key's ending (before ``.gz``), or None if it has no known one."""
    ending = _ending(key)
    return _OWN_TYPES.get(ending) or mimetypes.types_map.get(ending)


def kind_of(key: str, content_type: str | None) -> ContentKind:
    """Return how to read an object, by its type first and its key's ending second."""
    media = (content_type or "").split(";", 1)[0].strip().lower()
    if media in _DEFAULT_TYPES or media in _GZIP_TYPES:
        guessed = guess_type(key)
        return ContentKind.UNKNOWN if guessed is None or guessed in _GZIP_TYPES else _kind_of_type(guessed)
    if media == "application/octet-stream":
        return _kind_of_type(guess_type(key) or media)
    kind = _kind_of_type(media)
    named_lines = _ending(key) in _LINES_ENDINGS
    return ContentKind.JSON_LINES if kind is ContentKind.TEXT and named_lines else kind


def is_json_type(key: str, content_type: str | None) -> bool:
    """Return whether an object's type, or its key's ending, is that of JSON."""
    media = (content_type or "").split(";", 1)[0].strip().lower()
    return "json" in media or _ending(key) == ".json"


def _kind_of_type(media: str) -> ContentKind:
    if any(mark in media for mark in _LINES_MARKS):
        return ContentKind.JSON_LINES
    if media.startswith("text/") or any(mark in media for mark in _TEXT_MARKS):
        return ContentKind.TEXT
    return ContentKind.BINARY
