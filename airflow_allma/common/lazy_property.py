"""A property that is computed once for each object, by several threads at the same time for several objects.

Python 3.11's ``functools.cached_property`` holds one lock for all objects of a class while it computes:
threads that each read something for an object of their own would wait for each other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

__all__ = ["lazy_property"]

_T = TypeVar("_T")


class lazy_property(Generic[_T]):  # noqa: N801 - used like property
    """Compute a value when it is first asked for, and keep it in the object.

    Two threads that ask one object at the same time both compute it.
    """

    def __init__(self, compute: Callable[[Any], _T]) -> None:
        self._compute = compute
        self._name = compute.__name__
        self.__doc__ = compute.__doc__

    def __get__(self, instance: Any, owner: type | None = None) -> _T:
        # Without __set__, the value in the object's own __dict__ comes first from then on.
        value = instance.__dict__[self._name] = self._compute(instance)
        return value
