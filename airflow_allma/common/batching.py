"""Splits iterables into lists of a limited length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final, TypeVar

__all__ = ["batched"]

_T = TypeVar("_T")

_BATCH_SIZE: Final = 256


def batched(values: Iterable[_T], size: int = _BATCH_SIZE) -> Iterator[list[_T]]:
    """Yield the values in lists of ``size``; the last list can be shorter, and none is empty.

    Like ``itertools.batched`` of Python 3.12, but with lists.
    """
    iterator = iter(values)
    while batch := list(islice(iterator, size)):
        yield batch
