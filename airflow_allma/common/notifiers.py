"""The notifier classes that flows name: which ones are allowed, and how they are imported and called.

A notifier gets values that data can have chosen, such as the message of an error. Airflow's own notifiers
render their fields as Jinja templates; here they never do.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cache
from importlib import import_module
from typing import Any, Final

from airflow_allma.common.foreign_errors import FOREIGN_ERRORS
from airflow_allma.common.nearest import nearest
from airflow_allma.exceptions import NotifierError

__all__ = ["load_notifier", "make_notifier", "notifier_problems"]

_IMPORT_PATH: Final = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")
_MAX_PATH: Final = 500


def notifier_problems(
    name: str, arguments: frozenset[str], patterns: Sequence[str]
) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield what keeps a notifier from being called: the field, and the reason as a sentence.

    Args:
        name: its import path.
        arguments: the names of its arguments.
        patterns: what ``[allma] notifiers`` allows.
    """
    try:
        notifier = load_notifier(name, patterns)
    except NotifierError as error:
        yield ("notifier",), str(error)
        return
    known, required, takes_any = _arguments(notifier)
    for argument in () if takes_any else sorted(arguments - known):
        yield ("args", argument), f"`{argument}` is not an argument of {name}; arguments: {_listed(known)}"
    missing = sorted(required - arguments)
    if missing:
        yield ("args",), f"{name} also needs {_listed(missing)}"


def _arguments(notifier: type[Any]) -> tuple[frozenset[str], frozenset[str], bool]:
    """Return the names of all arguments, those of required ones, and whether any other is accepted."""
    known: set[str] = set()
    required: set[str] = set()
    takes_any = False
    for kind in notifier.__mro__:
        if "__init__" not in vars(kind):
            continue
        takes_any = False
        for one in list(inspect.signature(vars(kind)["__init__"]).parameters.values())[1:]:
            if one.kind in {one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY}:
                known.add(one.name)
                if one.default is one.empty:
                    required.add(one.name)
            takes_any = takes_any or one.kind is one.VAR_KEYWORD
        if not takes_any:
            break  # what accepts any argument hands it to the class above
    # Airflow passes the context.
    return frozenset(known) - {"context"}, frozenset(required) - {"context"}, takes_any


def load_notifier(name: str, patterns: Sequence[str]) -> type[Any]:
    """Import a notifier class.

    Raises:
        NotifierError: it is not allowed or not installed, or is not a notifier.
    """
    if len(name) > _MAX_PATH or not _IMPORT_PATH.fullmatch(name):
        raise NotifierError("the import path of a notifier looks like `package.module.Class`")
    if not any(fnmatchcase(name, pattern) for pattern in patterns):
        raise NotifierError(
            f"the notifier {name} is not among those that flows may call; use another one, or add it to "
            f"`[allma] notifiers` ({_listed(patterns) or 'empty'})"
        )
    return _imported(name)


@cache
def _imported(name: str) -> type[Any]:
    module, _, attribute = name.rpartition(".")
    try:
        imported = import_module(module)
        found = getattr(imported, attribute, None)
    except FOREIGN_ERRORS as error:
        raise NotifierError(
            f"the notifier {name} cannot be imported ({type(error).__name__}: {error}); install its package "
            "wherever Airflow runs, or correct the name"
        ) from error
    if found is None:
        similar = nearest(attribute, dir(imported))
        hint = f"did you mean {module}.{similar}?" if similar else "correct the name"
        raise NotifierError(f"the module {module} has no class {attribute}; {hint}")
    if not (inspect.isclass(found) and any(map(_is_base, found.__mro__))):
        raise NotifierError(f"{name} is not a subclass of `airflow.sdk.BaseNotifier`")
    return found


def _is_base(kind: type[Any]) -> bool:
    # The command line knows no Airflow; the module of a notifier that is allowed imports it.
    return kind.__name__ == "BaseNotifier" and kind.__module__.partition(".")[0] == "airflow"


def _without_templates(notifier: type[Any]) -> type[Any]:
    """Return a subclass that renders no Jinja and reads no template files: its values come from data."""
    return type(notifier.__name__, (notifier,), {"template_fields": (), "template_ext": ()})


def make_notifier(name: str, arguments: Mapping[str, Any], patterns: Sequence[str]) -> Any:
    """Return a notifier that takes its arguments as they are.

    Raises:
        NotifierError: it is not allowed or not installed, or refuses the arguments.
    """
    notifier = _without_templates(load_notifier(name, patterns))
    try:
        return notifier(**arguments)
    except FOREIGN_ERRORS as error:
        raise NotifierError(f"{name} refuses its arguments: {type(error).__name__}: {error}") from error


def _listed(names: Sequence[str] | frozenset[str]) -> str:
    return ", ".join(sorted(names)[:20])
