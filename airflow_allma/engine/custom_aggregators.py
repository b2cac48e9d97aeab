"""The Python functions that flows name as ``CUSTOM_MODULE``."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from airflow_allma.exceptions import PermanentStepError

__all__ = ["load_custom_aggregator"]


def load_custom_aggregator(
    identifier: str, prefixes: tuple[str, ...] = ()
) -> Callable[[Iterator[dict[str, Any]]], Any]:
    """The Python function that a flow names, ``package.module:function`` or ``package.module.function``.

    The name comes from a flow, so it reaches only functions that the module itself defines, never what it has
    imported, and nothing of Python's own library.

    Args:
        identifier: the import path.
        prefixes: modules allowed, with all below them; empty allows all but Python's own.

    Raises:
        PermanentStepError: no such function, or one that is not allowed.
    """
    module_name, mark, name = identifier.partition(":")
    if not mark:
        module_name, _, name = identifier.rpartition(".")
    parts = module_name.split(".")
    if not name.isidentifier() or not all(part.isidentifier() for part in parts):
        raise PermanentStepError(
            f"customModuleIdentifier {identifier!r} is no import path; write package.module:function."
        )
    allowed = (
        any(module_name == prefix or module_name.startswith(f"{prefix}.") for prefix in prefixes)
        if prefixes
        else parts[0] not in sys.stdlib_module_names and parts[0] != "builtins"
    )
    if not allowed:
        raise PermanentStepError(
            f"customModuleIdentifier {identifier!r} is not allowed. Name a function of your own, "
            f"below one of the allowed prefixes ({', '.join(prefixes) or 'any but the standard ones'})."
        )
    try:
        function = getattr(import_module(module_name), name, None)
    except Exception as error:
        # A module that is being imported can raise anything.
        raise PermanentStepError(
            f"customModuleIdentifier {identifier!r} cannot be imported: {type(error).__name__}: {error}. "
            "Install it where tasks run."
        ) from error
    if not inspect.isfunction(function) or function.__module__ != module_name:
        raise PermanentStepError(
            f"customModuleIdentifier {identifier!r} names no function that {module_name} defines."
        )
    loaded: Callable[[Iterator[dict[str, Any]]], Any] = function
    return loaded
