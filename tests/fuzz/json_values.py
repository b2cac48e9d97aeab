"""Campaign: the readers of JSON, of data and of flow files, compared with Python's own."""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_allma.exceptions import ObjectDecodeError
from airflow_allma.flow.documents import Document, UnreadableDocumentError
from airflow_allma.flow.json_scan import MAX_DEPTH
from airflow_allma.storage.decoding import decode_line
from tests.fuzz import awkward
from tests.fuzz.campaign import Campaign, UnlocatedError, WrongError, hidden_characters

DEEP = 900
"""Python's reader and ours have other limits from about this depth on."""
UNREADABLE = object()


@dataclass(frozen=True)
class Source:
    """Bytes that are JSON, or nearly."""

    data: bytes


def make(rng: random.Random) -> Source:
    value = awkward.value(rng, 4) if rng.random() < 0.5 else _with_extremes(rng, 3)
    data = awkward.dump(value, indent=rng.choice((None, 1))).encode()
    if rng.random() < 0.3:
        data = _unescaped(data)
    for _ in range(rng.choice((0, 0, 1, 2))):
        at = rng.randrange(len(data) + 1)
        data = data[:at] + rng.choice(_PIECES) + data[at + rng.choice((0, 0, 1, 3)) :]
    return Source(data)


def _with_extremes(rng: random.Random, depth: int) -> Any:
    choice = rng.random()
    if depth <= 0 or choice < 0.4:
        return awkward.extreme(rng)
    count = rng.randrange(4)
    if choice < 0.6:
        return [_with_extremes(rng, depth - 1) for _ in range(count)]
    pairs = tuple((rng.choice("abc"), _with_extremes(rng, depth - 1)) for _ in range(count))
    return awkward.Members(pairs)


def _unescaped(data: bytes) -> bytes:
    try:
        return json.dumps(json.loads(data), ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return data


_PIECES = (
    *(
        b"",
        b" ",
        b"\n",
        b"\r",
        b"\t",
        b"\x0b",
        b"\xc2\xa0",
        b"\0",
        b",",
        b":",
        b'"',
        b"\\",
        b"\\u",
        b"\\ud800",
    ),
    *(
        b"e9",
        b"E+1",
        b".5",
        b"-",
        b"+",
        b"0",
        b"00",
        b"9",
        b"true",
        b"nul",
        b"NaN",
        b"[",
        b"]",
        b"{",
        b"}",
        b"/**/",
    ),
    *(
        b"\xff",
        b"\xed\xa0\x80",
        b"\xef\xbb\xbf",
        b"\xf4\x90\x80\x80",
        b"\xc0\xaf",
        b"\xe2\x80\xa8",
        b"9" * 320,
    ),
)


def check(source: Source, folder: Path) -> str:
    expected = _python(source.data)
    data = _data(source.data)
    document = _document(source.data)
    _compare("data", expected, data, DEEP)
    # A flow file may begin with a byte order mark, cannot repeat a key, and has limits of its own.
    if document is not UNREADABLE:
        _compare("a flow file", _python(source.data.removeprefix(b"\xef\xbb\xbf")), document, MAX_DEPTH)
    return "both refuse" if expected is UNREADABLE else "both read"


def _compare(what: str, expected: Any, found: Any, deepest: int) -> None:
    if expected is UNREADABLE and found is not UNREADABLE:
        raise WrongError(f"{what}: bad JSON is read: {found!r:.200}")
    if expected is not UNREADABLE and found is UNREADABLE and _depth(expected) < deepest:
        raise WrongError(f"{what}: good JSON is refused: {expected!r:.200}")
    if found is not UNREADABLE and not _same(expected, found):
        raise WrongError(f"{what}: another value: {expected!r:.200} and {found!r:.200}")


def _python(data: bytes) -> Any:
    """Return what Python's reader makes of standard JSON whose numbers and characters exist."""
    try:
        value = json.loads(
            data.decode(), parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_encodable
        )
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return UNREADABLE
    return value


def _encodable(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object; also a member that a later one of the same name replaces must be readable."""
    json.dumps([pair for pair in pairs if isinstance(pair[1], str | list)], ensure_ascii=False).encode()
    return dict(pairs)


def _refuse(word: str) -> None:
    raise ValueError(word)


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(digits)
    return number


def _data(data: bytes) -> Any:
    try:
        return decode_line(data, 7, "s3://b/k")
    except ObjectDecodeError as error:
        message = str(error)
        if len(message) > 500 or "s3://b/k" not in message or hidden_characters(message):
            raise UnlocatedError(f"an error that does not say where: {message[:300]!r}") from error
        return UNREADABLE


def _document(data: bytes) -> Any:
    try:
        source = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return UNREADABLE
    try:
        document = Document("f.json", source)
        # Whatever is read has a position.
        document.position(("a", "b", 0))
    except UnreadableDocumentError as error:
        for problem in error.problems:
            if problem.line < 1 or hidden_characters(problem.message) or len(problem.message) > 500:
                raise UnlocatedError(f"a problem that does not say where: {problem!r:.300}") from error
        return UNREADABLE
    return document.value


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level:
        containers = [one for one in level if isinstance(one, dict | list)]
        depth += 1 if containers else 0
        level = [inner for one in containers for inner in (one.values() if isinstance(one, dict) else one)]
    return depth


def _same(left: Any, right: Any) -> bool:
    waiting = [(left, right)]
    while waiting:
        ours, theirs = waiting.pop()
        if type(ours) is not type(theirs):
            return False
        if isinstance(ours, dict):
            if ours.keys() != theirs.keys():
                return False
            waiting += [(ours[key], theirs[key]) for key in ours]
        elif isinstance(ours, list):
            if len(ours) != len(theirs):
                return False
            waiting += zip(ours, theirs, strict=True)
        elif ours != theirs:
            return False
    return True


CAMPAIGN = Campaign("json", make, check)
