"""Values of the language: the "undefined" of JavaScript, and copies of JSON values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, final

__all__ = ["NOTHING", "LoadPointer", "Nothing", "copy_value"]

LoadPointer = Callable[[Mapping[str, Any]], Any]
"""Takes the inner pointer (``{"bucket", "key", ...}``) and answers the content it stands for.

Whatever it raises passes through the expression untouched.
"""


@final
class Nothing:
    """The type of ``NOTHING``; there is one instance in a process."""

    __slots__ = ()
    _instance: Nothing | None = None

    def __new__(cls) -> Nothing:
        """The one instance."""
        if cls._instance is None:
            cls._instance = super().__new__(cls)
        return cls._instance

    def __bool__(self) -> Literal[False]:
        return False

    def __repr__(self) -> str:
        return "NOTHING"

    def __reduce__(self) -> str:
        return "NOTHING"

    def __copy__(self) -> Nothing:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Nothing:
        return self


NOTHING: Final = Nothing()
"""What an expression gives that finds no value. It is not ``None``: null is a value."""


def copy_value(value: Any) -> Any:
    """A deep copy of a JSON value: objects and lists are new, scalars are the same.

    Values of other types (dates, bytes) are shared. Nesting may be of any depth.
    """
    if value.__class__ is not dict and value.__class__ is not list:
        return value
    try:
        return _copy_container(value)
    except RecursionError:
        return _copy_level_by_level(value)


def _copy_container(value: Any) -> Any:
    if value.__class__ is dict:
        return {
            key: _copy_container(item) if item.__class__ is dict or item.__class__ is list else item
            for key, item in value.items()
        }
    return [
        _copy_container(item) if item.__class__ is dict or item.__class__ is list else item for item in value
    ]


def _copy_level_by_level(value: Any) -> Any:
    """Slower than recursion, but as deep as memory allows."""
    copied = value.copy()
    waiting = [copied]
    while waiting:
        container = waiting.pop()
        for key, item in list(container.items() if container.__class__ is dict else enumerate(container)):
            if item.__class__ is dict or item.__class__ is list:
                container[key] = item.copy()
                waiting.append(container[key])
    return copied
