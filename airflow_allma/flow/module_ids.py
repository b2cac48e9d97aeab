"""The ids of modules that an installation adds, and the types of steps that can name them."""

from __future__ import annotations

from typing import Final

__all__ = ["OWN_MODULE_TYPES", "SYSTEM_PREFIX", "is_own_module"]

SYSTEM_PREFIX: Final = "system/"
"""The beginning of the ids of the language's own modules, which nothing else can use."""

OWN_MODULE_TYPES: Final = frozenset(
    {"API_CALL", "CUSTOM_LOGIC", "DATA_LOAD", "DATA_SAVE", "DATA_TRANSFORMATION"}
)
"""The types of steps that run a module of the installation if their ``moduleIdentifier`` names one."""


def is_own_module(identifier: str | None) -> bool:
    """Return whether an id can only be that of a module of the installation, not of the language."""
    return bool(identifier) and not str(identifier).startswith(SYSTEM_PREFIX)
