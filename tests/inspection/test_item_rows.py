"""Values as pages show them."""

from __future__ import annotations

import json

import pytest

from airflow_allma.inspection.item_rows import MAX_VALUE_BYTES, cut_value

SECRET = "hunter2-and-more"


def cut(value: object, **options: object) -> str:
    encoded = json.dumps(value).encode()
    assert len(encoded) > MAX_VALUE_BYTES
    shown, is_cut = cut_value(encoded, len(encoded), **options)  # type: ignore[arg-type]
    assert is_cut
    assert shown["$bytes"] == len(encoded)
    return str(shown["$cut"])


def test_json_in_a_large_string_takes_no_time() -> None:
    body = json.dumps([{"id": number, "name": f"n-{number}"} for number in range(40_000)])
    # Looking for the end of a string from each of its quotes took minutes, while all threads waited.
    assert cut({"body": body}).startswith('{"body": "[{\\"id\\": 0')


@pytest.mark.parametrize(
    "value",
    [
        {"password": SECRET},
        {"a": 'say "hi"', "password": SECRET},
        {"a": "\\", "password": f'x"{SECRET}'},
        {"password": {"value": SECRET}},
        {"password": [SECRET]},
    ],
)
def test_large_values_are_cut_with_their_secrets_masked(value: dict[str, object]) -> None:
    shown = cut({**value, "rest": "x" * MAX_VALUE_BYTES})
    assert SECRET not in shown
    assert "***" in shown


def test_what_is_masked_anywhere_is_masked_in_large_values_too() -> None:
    def mask(value: object) -> object:
        return value.replace(SECRET, "***") if isinstance(value, str) else value

    for space in range(65_520, 65_540):
        shown = cut({"a": "x" * space + SECRET, "rest": "x" * MAX_VALUE_BYTES}, mask=mask)
        assert SECRET[:4] not in shown


@pytest.mark.parametrize("rest", [rb'"\ud83d"', b"NaN", b'"unfinished', b"\xff"])
def test_values_that_are_not_json_are_shown_with_their_secrets_masked(rest: bytes) -> None:
    encoded = b'{"password": "' + SECRET.encode() + b'", "a": ' + rest + b"}"
    shown, is_cut = cut_value(encoded, len(encoded))
    assert is_cut
    assert shown["$problem"]
    assert SECRET not in shown["$cut"]
    assert shown["$cut"].startswith('{"password": "***", "a": ')
