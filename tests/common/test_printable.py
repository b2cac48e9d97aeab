"""Text of others is made printable and not too long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_allma.common.printable import printable, shortened, unprintable

ANY_TEXT = st.text(st.characters(), max_size=40)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("", ""),
        ("a\x00b", "a\\x00b"),
        ("\x1b[31mred\r\n::group::x\u202e", "\\x1b[31mred\\r\\n::group::x\\u202e"),
        ("\x7f\x9b", "\\x7f\\x9b"),
        ("half \ud83d", "half \\ud83d"),
        ("\u2028\u2029\ufeff\u2066", "\\u2028\\u2029\\ufeff\\u2066"),
        ("a\u00a0b\u3000c", "a\u00a0b\u3000c"),
        ("👩\u200d👧 x\u200cy", "👩\u200d👧 x\u200cy"),
        ("back\\slash", "back\\slash"),
    ],
)
def test_only_what_is_not_shown_is_escaped(text, shown):
    assert printable(text) == shown


def test_characters_that_are_allowed_stay():
    assert printable("a\nb\tc\x00", "\n\t") == "a\nb\tc\\x00"
    assert unprintable("a\nb", "\n") is None
    assert unprintable("a\nb") == "\n"


@given(ANY_TEXT)
def test_what_is_printable_stays_as_it_is_and_can_be_encoded(text):
    shown = printable(text)
    assert unprintable(shown) is None
    assert printable(shown) == shown
    shown.encode()


@given(ANY_TEXT, st.integers(10, 50))
def test_a_shortened_text_keeps_its_beginning_and_its_end(text, limit):
    short = shortened(text, limit)
    assert len(short) == min(len(text), limit)
    if len(text) > limit:
        head, tail = short.split("...", 1)[0], short.rsplit("...", 1)[1]
        assert text.startswith(head)
        assert text.endswith(tail)
