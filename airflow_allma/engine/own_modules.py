"""The modules that an installation adds: Python code, Lambda functions, HTTP services.

Python code is registered as an entry point of an installed package, everything else in ``[allma]
external_modules``. A flow only names ids: it can neither import nor call anything that is not registered.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, Final
from urllib.parse import urlsplit

from airflow_allma.common.foreign_errors import FOREIGN_ERRORS
from airflow_allma.common.json_reader import decode_object
from airflow_allma.common.nearest import nearest
from airflow_allma.common.printable import printable, shortened
from airflow_allma.exceptions import PermanentStepError
from airflow_allma.flow.module_ids import SYSTEM_PREFIX

__all__ = [
    "GROUP",
    "HttpModule",
    "LambdaModule",
    "OwnModule",
    "OwnModules",
    "PythonModule",
]

GROUP: Final = "airflow_allma.modules"
"""The group of entry points: name = id of the module, value = ``package.module:callable``."""

_SETTING: Final = "[allma] external_modules"
_MAX_SHOWN: Final = 500
_MAX_NAMES: Final = 8
_DEFAULT_TIMEOUT: Final = 60.0
_FORMS: Final = '{"lambdaArn": "..."}, {"connection": "...", "path": "/..."} or {"url": "https://..."}'
_FIELDS: Final = frozenset({"connection", "lambdaArn", "path", "timeoutSeconds", "url"})


@dataclass(frozen=True, slots=True)
class PythonModule:
    """A Python callable ``(input, call) -> output``.

    Attributes:
        function: the callable.
        is_async: whether it is a coroutine function, which runs on the event loop; others run in threads.
    """

    function: Callable[[Any, Any], Any]
    is_async: bool


@dataclass(frozen=True, slots=True)
class LambdaModule:
    """A Lambda function.

    Attributes:
        function: its name or ARN.
    """

    function: str


@dataclass(frozen=True, slots=True)
class HttpModule:
    """An HTTP service, which gets a POST.

    Attributes:
        url: an absolute URL, or a path on the connection's host.
        connection: the id of an Airflow connection; None: none.
        timeout: seconds until the last byte of the response, unless the connection sets others.
    """

    url: str
    connection: str | None = None
    timeout: float = _DEFAULT_TIMEOUT


OwnModule = PythonModule | LambdaModule | HttpModule


@dataclass(frozen=True)
class OwnModules:
    """The modules of an installation. Nothing is read or imported before a flow names one.

    Attributes:
        external: ``[allma] external_modules``, the text of a JSON object; empty for none.
    """

    external: str = field(default="", repr=False)

    def find(self, identifier: str, others: Iterable[str] = ()) -> OwnModule:
        """Return a module; the setting comes before entry points.

        Args:
            identifier: its id.
            others: ids that an unknown one is compared with, too.

        Raises:
            PermanentStepError: it is not registered, or its registration is wrong: it cannot be imported, or
                does not take two arguments. The message says how to fix it.
        """
        external = self._external
        if identifier in external:
            return _external_module(identifier, external[identifier])
        registered = _entry_points(tuple(sys.path)).get(identifier)
        if registered is None:
            raise PermanentStepError(self._unknown(identifier, others))
        return _python_module(identifier, registered)

    def problem(self, identifier: str, others: Iterable[str] = ()) -> str | None:
        """Return why a module cannot be used, as a sentence without its end; None if it can.

        Args:
            identifier: the id that a flow names.
            others: other ids that it could be meant to be.
        """
        try:
            self.find(identifier, others)
        except PermanentStepError as error:
            return error.message.removesuffix(".")
        return None

    @cached_property
    def _external(self) -> Mapping[str, Any]:
        if not self.external.strip():
            return {}
        modules = decode_object(self.external)
        if modules is None:
            raise PermanentStepError(f"{_SETTING} must be a JSON object of module ids, each with {_FORMS}.")
        return modules

    def _unknown(self, identifier: str, others: Iterable[str]) -> str:
        known = sorted({*self._external, *_entry_points(tuple(sys.path))})
        # The beginning is often left out: s3-data-loader.
        guess = nearest(identifier, (*known, *others)) or nearest(SYSTEM_PREFIX + identifier, others)
        if guess is not None:
            return f"module {identifier!r} does not exist; did you mean {guess!r}?"
        shown = ", ".join(known[:_MAX_NAMES]) + (", ..." if len(known) > _MAX_NAMES else "")
        registered = f"; registered are {shown}" if known else " on this installation"
        return (
            f"module {identifier!r} does not exist{registered}. "
            f"Install a package that registers it (entry points of the group {GROUP}), or add it to "
            f"{_SETTING}."
        )


def _external_module(identifier: str, entry: Any) -> OwnModule:
    if isinstance(entry, str):
        entry = {"lambdaArn": entry} if entry.startswith("arn:") else {"url": entry}
    if not isinstance(entry, dict) or not _FIELDS.issuperset(entry):
        raise _wrong(identifier, f"must be {_FORMS}")
    function, connection, path, url = (_text(identifier, entry, name) for name in _NAMES)
    timeout = entry.get("timeoutSeconds", _DEFAULT_TIMEOUT)
    is_number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if not is_number or not 0 < timeout < float("inf"):
        raise _wrong(identifier, "has a timeoutSeconds that is not a number above 0")
    if function and not (connection or path or url):
        return LambdaModule(function)
    if connection and path and not (function or url):
        if not path.startswith("/") or "{{" in path:
            raise _wrong(identifier, "needs a path that begins with '/'; it cannot be a template")
        return HttpModule(path, connection, float(timeout))
    if url and not (function or connection or path):
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or "{{" in url:
            raise _wrong(identifier, "needs a URL that begins with https:// or http://, without a template")
        return HttpModule(url, None, float(timeout))
    raise _wrong(identifier, f"must be {_FORMS}")


_NAMES: Final = ("lambdaArn", "connection", "path", "url")


def _text(identifier: str, entry: Mapping[str, Any], name: str) -> str:
    value = entry.get(name, "")
    if not isinstance(value, str):
        raise _wrong(identifier, f"has a {name} that is not a string")
    return value.strip()


def _wrong(identifier: str, reason: str) -> PermanentStepError:
    return PermanentStepError(f"module {identifier!r} cannot be used: its entry in {_SETTING} {reason}.")


@lru_cache(maxsize=4)
def _entry_points(_path: tuple[str, ...]) -> Mapping[str, tuple[Any, ...]]:
    """Return id -> its entry points, each value once: more than one is a conflict.

    Args:
        _path: where packages are looked for; the cache's key.

    Raises:
        PermanentStepError: the entry points of an installed package cannot be read.
    """
    # Reads the metadata of every installed package, which only flows with such modules need.
    from importlib.metadata import entry_points

    try:
        points = entry_points(group=GROUP)
    except Exception as error:
        raise PermanentStepError(
            f"The modules of installed packages cannot be read, as the entry_points.txt of one is not valid: "
            f"{shortened(printable(str(error)), _MAX_SHOWN)}. Remove that package, or install it again."
        ) from error
    found: dict[str, dict[str, Any]] = {}
    for point in points:
        if not point.name.startswith(SYSTEM_PREFIX):
            found.setdefault(point.name, {}).setdefault(point.value, point)
    return {name: tuple(points.values()) for name, points in found.items()}


def _python_module(identifier: str, points: Iterable[Any]) -> PythonModule:
    point, *others = points
    where = f"{point.value} of package {point.dist.name if point.dist else 'unknown'}"
    if others:
        names = ", ".join(sorted(f"{each.value} ({each.dist.name})" for each in (point, *others)))
        raise PermanentStepError(
            f"module {identifier!r} is registered more than once: {names}. Remove all packages but one."
        )
    try:
        function = point.load()
        problem = _signature_problem(function)
        is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004 - an object with an asynchronous __call__
        )
    except FOREIGN_ERRORS as error:
        # The import runs the code of the package, which can raise anything.
        reason = shortened(printable(str(error)), _MAX_SHOWN)
        raise PermanentStepError(
            f"module {identifier!r} cannot be imported: {where}: {type(error).__name__}: {reason}. Correct "
            "the package; its import must not end the process."
        ) from error
    if problem:
        raise PermanentStepError(f"module {identifier!r} cannot be used: {where} {problem}.")
    return PythonModule(function, is_async)


def _signature_problem(function: Any) -> str | None:
    if not callable(function):
        return "is not a callable (input, call) -> output"
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        return "is a generator; it must return its output"
    try:
        signature = inspect.signature(function)
    except ValueError:
        # Code in C has no signature.
        return None
    try:
        signature.bind(None, None)
    except TypeError:
        return f"takes {signature}; it must take (input, call)"
    return None
