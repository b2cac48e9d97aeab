"""Loading of the Python functions that flows name as ``CUSTOM_MODULE``."""

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
    """Return the function of an import path, ``package.module:function`` or ``package.module.function``.

    The path is from a flow. Therefore only functions that the module itself defines are allowed, not those it
    has imported, and none of Python's standard library.

    Args:
        identifier: the import path.
        prefixes: allowed modules, with their submodules; empty: all but the standard library.

    Raises:
        PermanentStepError: the function does not exist, or is not allowed.
    """
    module_name, separator, name = identifier.partition(":")
    if not separator:
        module_name, _, name = identifier.rpartition(".")
    parts = module_name.split(".")
    if not name.isidentifier() or not all(part.isidentifier() for part in parts):
        raise PermanentStepError(
            f"customModuleIdentifier {identifier!r} is not an import path; use package.module:function."
        )
    allowed = (
        any(module_name == prefix or module_name.startswith(f"{prefix}.") for prefix in prefixes)
        if prefixes
        else parts[0] not in sys.stdlib_module_names and parts[0] != "builtins"
    )
    if not allowed:
        raise PermanentStepError(
            f"customModuleIdentifier {identifier!r} is not allowed. Use a function of your own in one "
            f"of the allowed modules ({', '.join(prefixes) or 'any but the standard library'})."
        )
    try:
        function = getattr(import_module(module_name), name, None)
    except Exception as error:
        # The import runs the code of the module, which can raise anything.
        raise PermanentStepError(
            f"customModuleIdentifier {identifier!r} cannot be imported: {type(error).__name__}: {error}. "
            "Install it on the machines that run tasks."
        ) from error
    if not inspect.isfunction(function) or function.__module__ != module_name:
        raise PermanentStepError(
            f"customModuleIdentifier {identifier!r} is not a function that {module_name} defines."
        )
    loaded: Callable[[Iterator[dict[str, Any]]], Any] = function
    return loaded
