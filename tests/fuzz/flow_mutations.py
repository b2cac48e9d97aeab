"""Mutations of flow files: of their JSON, of their expressions, and of their bytes."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from airflow_allma.flow.schema import json_schema
from tests.fuzz import awkward, expression_grammar
from tests.fuzz.flow_corpus import corpus, step_ids

Place = tuple[Any, Any]
"""A container and the key or index of a value in it."""

_NOT_FOR_DUMP = (awkward.Raw, awkward.Members)


def mutated_document(rng: random.Random) -> str:
    """Return the JSON of a document with some mutations."""
    root = {"root": json.loads(rng.choice(corpus()))}
    for _ in range(rng.choice((0, 1, 1, 1, 1, 1, 2, 2, 3, 5))):
        places = list(_places(root))
        _MUTATIONS[rng.randrange(len(_MUTATIONS))](rng, rng.choice(places), places)
    return awkward.dump(root["root"], indent=rng.choice((None, 1, 2)))


def mutated_bytes(rng: random.Random, source: str) -> bytes:
    """Return a document's bytes, a quarter of the time damaged."""
    data = source.encode()
    if rng.random() < 0.75:
        return data
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        data = rng.choice(_BYTE_MUTATIONS)(rng, data)
    return data


def _places(root: dict[str, Any]) -> Iterator[Place]:
    waiting: list[Any] = [root]
    while waiting:
        container = waiting.pop()
        keys = list(container) if isinstance(container, dict) else range(len(container))
        for key in keys:
            yield container, key
            if isinstance(container[key], dict | list):
                waiting.append(container[key])


@cache
def _field_names() -> tuple[str, ...]:
    """Return the names of all fields of the language."""
    names: set[str] = set()
    waiting: list[Any] = [json_schema()]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            names.update(part.get("properties") or ())
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part
    return tuple(sorted(names))


def _replace(rng: random.Random, place: Place, _: list[Place]) -> None:
    container, key = place
    container[key] = awkward.extreme(rng)


def _replace_by_own_kind(rng: random.Random, place: Place, places: list[Place]) -> None:
    """Replace a value by an extreme one of its own type, which the checks of types let through."""
    scalars = [one for one in places if isinstance(one[0][one[1]], str | int | float)]
    container, key = rng.choice(scalars) if scalars else place
    value = container[key]
    if isinstance(value, bool):
        container[key] = not value
    elif isinstance(value, str):
        container[key] = rng.choice((awkward.text(rng), value + awkward.text(rng), awkward.text(rng) + value))
    else:
        container[key] = rng.choice((*awkward.NUMBERS, 1, 2, 3, 5))


def _change_free_text(rng: random.Random, place: Place, places: list[Place]) -> None:
    """Change a value that may be any string, and so reaches Airflow as it is."""
    free = [one for one in places if one[1] in _FREE_TEXT and isinstance(one[0][one[1]], str)]
    if free:
        container, key = rng.choice(free)
        container[key] = rng.choice((awkward.text(rng), container[key] + awkward.text(rng)))
    else:
        _replace_by_own_kind(rng, place, places)


_FREE_TEXT = frozenset(
    {
        *(
            "id",
            "name",
            "description",
            "displayName",
            "owner",
            "pool",
            "queue",
            "label",
            "awsConnId",
            "content",
        ),
        *(
            "createdAt",
            "updatedAt",
            "exportedAt",
            "branchId",
            "by",
            "region",
            "subject",
            "body",
            "url",
            "tags",
        ),
    }
)


def _remove(rng: random.Random, place: Place, _: list[Place]) -> None:
    container, key = place
    if key != "root":
        del container[key]


def _rename(rng: random.Random, place: Place, _: list[Place]) -> None:
    container, key = place
    if isinstance(container, dict) and key != "root":
        new = rng.choice((awkward.text(rng), rng.choice(_field_names()), f"{key}s", key.upper(), ""))
        container[new] = container.pop(key)


def _swap(rng: random.Random, place: Place, places: list[Place]) -> None:
    (container, key), (other, other_key) = place, rng.choice(places)
    container[key], other[other_key] = _copy(other[other_key]), _copy(container[key])


def _repeat_key(rng: random.Random, place: Place, _: list[Place]) -> None:
    container, key = place
    value = container[key]
    if isinstance(value, dict) and value:
        again = rng.choice(list(value))
        container[key] = awkward.Members((*value.items(), (again, value[again])))


def _wrap(rng: random.Random, place: Place, _: list[Place]) -> None:
    container, key = place
    value = container[key]
    container[key] = rng.choice(([value], {"a": value}, [value, value], json.dumps(value, default=str)))


def _add_field(rng: random.Random, place: Place, _: list[Place]) -> None:
    container, _key = place
    if isinstance(container, dict) and "root" not in container:
        name = rng.choice(_field_names()) if rng.random() < 0.8 else awkward.text(rng)
        container[name] = awkward.extreme(rng)


def _refer(rng: random.Random, place: Place, places: list[Place]) -> None:
    """Make references that lead nowhere, to the wrong place or in a circle."""
    container, key = place
    ids = step_ids(places[0][0].get("root")) or ["x"]
    targets = [one for one in places if str(one[1]).endswith(("StepInstanceId", "stepInstanceId"))]
    if targets:
        container, key = rng.choice(targets)
    container[key] = rng.choice((rng.choice(ids), rng.choice(ids), "nowhere", awkward.text(rng)))


def _change_expression(rng: random.Random, place: Place, places: list[Place]) -> None:
    strings = [one for one in places if isinstance(one[0][one[1]], str)]
    container, key = rng.choice(strings) if strings else place
    value = container[key]
    if isinstance(value, str) and rng.random() < 0.6:
        container[key] = expression_grammar.mutate(rng, value)
    else:
        container[key] = rng.choice(expression_grammar.GENERATORS)(rng)


def _move_step(rng: random.Random, place: Place, places: list[Place]) -> None:
    """Copy a step under another name, perhaps into a branch."""
    maps = [one[0][one[1]] for one in places if one[1] == "steps" and isinstance(one[0][one[1]], dict)]
    maps = [one for one in maps if one]
    if maps:
        step = _copy(rng.choice(list(rng.choice(maps).values())))
        rng.choice(maps)[rng.choice((awkward.text(rng), "copy", "a"))] = step


def _copy(value: Any) -> Any:
    if isinstance(value, _NOT_FOR_DUMP):
        return value
    if isinstance(value, dict):
        return {key: _copy(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_copy(element) for element in value]
    return value


_MUTATIONS: tuple[Callable[[random.Random, Place, list[Place]], None], ...] = (
    *(_replace_by_own_kind,) * 4,
    *(_change_free_text,) * 6,
    *(_replace, _replace, _replace, _remove, _rename, _swap, _repeat_key, _wrap),
    *(_add_field, _add_field, _refer, _change_expression, _change_expression, _move_step),
)


def _flip(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 3, 20))):
        if changed:
            changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def _insert(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice(_PIECES) * rng.choice((1, 1, 1, 50)) + data[at:]


def _repeat(rng: random.Random, data: bytes) -> bytes:
    start, end = sorted((rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)))
    return data[:end] + data[start:end] * rng.choice((1, 1, 3)) + data[end:]


def _encode(rng: random.Random, data: bytes) -> bytes:
    charset = rng.choice(("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "utf-7", "latin-1", "cp037"))
    return data.decode(errors="replace").encode(charset, errors="replace")


_PIECES = (
    *(b"\0", b"\xff", b"\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xc0\x80", b"\xe2\x80\xae", b"\r", b"\n"),
    *(b"{", b"}", b"[", b"]", b'"', b",", b":", b"\\", b"//", b"1", b"-", b" ", b"\xc2\x85", b"{{", b"$."),
)

_BYTE_MUTATIONS: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    lambda rng, data: data[: rng.randrange(len(data) + 1)],
    lambda rng, data: data[rng.randrange(len(data) + 1) :],
    _flip,
    _flip,
    _insert,
    _insert,
    _repeat,
    _encode,
    lambda rng, data: b"\xef\xbb\xbf" + data,
    lambda rng, data: gzip.compress(data, mtime=0),
    lambda rng, data: data + data,
    lambda rng, data: data.replace(b"\n", b"\r\n"),
    lambda rng, data: b"",
)
