"""Structs that travel between processes as JSON objects."""

from __future__ import annotations

from typing import Any, Self

import msgspec

__all__ = ["JsonForm"]


class JsonForm:
    """A base of structs that are saved as JSON; it comes before ``msgspec.Struct`` among their bases."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the struct as a JSON object; fields that have their default can be absent."""
        built: dict[str, Any] = msgspec.to_builtins(self)
        return built

    @classmethod
    def from_dict(cls, saved: Any) -> Self:
        """Restore what ``to_dict`` returned.

        Raises:
            msgspec.ValidationError: it is something else.
        """
        return msgspec.convert(saved, cls)
