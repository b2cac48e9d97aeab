"""``NOTHING``: the "undefined" of JavaScript."""

from __future__ import annotations

from typing import Any, Final, Literal, final

__all__ = ["NOTHING", "Nothing"]


@final
class Nothing:
    """The type of ``NOTHING``. A process has one instance."""

    __slots__ = ()
    _instance: Nothing | None = None

    def __new__(cls) -> Nothing:
        """Return the one instance."""
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
"""The result of an expression that finds no value. It is not ``None``: null is a value."""
