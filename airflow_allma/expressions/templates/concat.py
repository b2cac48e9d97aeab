"""Pieces of compiled templates side by side: texts melt together, and few holes have short ways."""

from __future__ import annotations

from collections.abc import Iterable

from airflow_allma.expressions.templates.runtime import Frame, Write

__all__ = ["Piece", "joined", "writer"]

Piece = str | Write
"""Text that is the same for all data, or what writes it."""


def writer(piece: Piece) -> Write:
    """What writes a piece."""
    if isinstance(piece, str):
        text = piece
        return lambda frame: text  # noqa: ARG005
    return piece


def joined(pieces: Iterable[Piece]) -> Piece:
    """All pieces as one."""
    gathered: list[list[str]] = [[]]
    holes: list[Write] = []
    for piece in pieces:
        if isinstance(piece, str):
            gathered[-1].append(piece)
        else:
            holes.append(piece)
            gathered.append([])
    texts = ["".join(parts) for parts in gathered]
    if not holes:
        return texts[0]
    if len(holes) == 1:
        return _one(texts, holes[0])
    if len(holes) == 2:
        return _two(texts, holes)
    return _many(texts, holes)


def _one(texts: list[str], hole: Write) -> Write:
    before, after = texts
    if not before and not after:
        return hole
    return lambda frame: f"{before}{hole(frame)}{after}"


def _two(texts: list[str], holes: list[Write]) -> Write:
    before, between, after = texts
    first, second = holes
    return lambda frame: f"{before}{first(frame)}{between}{second(frame)}{after}"


def _many(texts: list[str], holes: list[Write]) -> Write:
    start = texts[0]
    rest = list(zip(holes, texts[1:], strict=True))

    def write(frame: Frame) -> str:
        written = [start]
        for hole, text in rest:
            written.append(hole(frame))
            written.append(text)
        return "".join(written)

    return write
