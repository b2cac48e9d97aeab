"""The concatenation of compiled template fragments."""

from __future__ import annotations

from collections.abc import Iterable

from airflow_allma.expressions.templates.runtime import Frame, Write

__all__ = ["Fragment", "concat", "to_writer"]

Fragment = str | Write
"""Text that is the same for all data, or the function that writes it."""


def to_writer(fragment: Fragment) -> Write:
    """Return the function that writes a fragment."""
    if isinstance(fragment, str):
        text = fragment
        return lambda frame: text  # noqa: ARG005
    return fragment


def concat(fragments: Iterable[Fragment]) -> Fragment:
    """Return all fragments as one. Adjacent text is merged; one and two slots have fast paths."""
    gathered: list[list[str]] = [[]]
    slots: list[Write] = []
    for fragment in fragments:
        if isinstance(fragment, str):
            gathered[-1].append(fragment)
        else:
            slots.append(fragment)
            gathered.append([])
    texts = ["".join(parts) for parts in gathered]
    if not slots:
        return texts[0]
    if len(slots) == 1:
        return _one(texts, slots[0])
    if len(slots) == 2:
        return _two(texts, slots)
    return _many(texts, slots)


def _one(texts: list[str], slot: Write) -> Write:
    before, after = texts
    if not before and not after:
        return slot
    return lambda frame: f"{before}{slot(frame)}{after}"


def _two(texts: list[str], slots: list[Write]) -> Write:
    before, between, after = texts
    first, second = slots
    return lambda frame: f"{before}{first(frame)}{between}{second(frame)}{after}"


def _many(texts: list[str], slots: list[Write]) -> Write:
    start = texts[0]
    rest = list(zip(slots, texts[1:], strict=True))

    def write(frame: Frame) -> str:
        written = [start]
        for slot, text in rest:
            written.append(slot(frame))
            written.append(text)
        # Counted before they are joined: one long value can be in many slots.
        frame.rendering.budget.spend(sum(map(len, written)))
        return "".join(written)

    return write
