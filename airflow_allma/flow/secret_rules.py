"""Rules for connections and Variables: where a flow can name them, and which ones."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from airflow_allma.exceptions import ExpressionSyntaxError
from airflow_allma.flow.checks import ExpressionReader
from airflow_allma.flow.diagnostics import Diagnostic, Path, Severity, quoted
from airflow_allma.flow.expression_fields import Kind, Root
from airflow_allma.flow.lints.lint import FlowView, Read
from airflow_allma.flow.located_expressions import Expression
from airflow_allma.flow.secret_names import AllowedSecrets, secret_name
from airflow_allma.flow.tree_walk import ANY, LocatedStep, Pattern, select

__all__ = ["SECRET_FIELDS", "check_secrets"]

SECRET_FIELDS: Final[Mapping[str, tuple[Pattern, ...]]] = {
    "API_CALL": (("apiUrlTemplate", "template"), ("apiHeadersTemplate", ANY)),
    "FILE_DOWNLOAD": (("sourceUrlTemplate",), ("headersTemplate", ANY)),
    "POLL_EXTERNAL_API": (
        ("apiCallDefinition", "apiUrlTemplate", "template"),
        ("apiCallDefinition", "apiHeadersTemplate", ANY),
    ),
}
"""Step type -> the templates that can name connections and Variables."""

_WHERE: Final = "the URL and header templates of API_CALL, FILE_DOWNLOAD and POLL_EXTERNAL_API"
_NAME: Final = re.compile(r"(?<![A-Za-z0-9_])(?:conn|var)(?![A-Za-z0-9_])")
_PARTS_OF_JSON: Final = tuple(
    name + end for name in (b"conn", b"var") for end in (b".", b"[", b"]", b"/", b"'", b"\\")
)
_CONTEXT: Final = "currentContextData"
_CONNECTION_FIELDS: Final[tuple[tuple[str, Pattern], ...]] = (
    ("connection", ()),
    ("apiCallDefinition", ("connection",)),
    ("fallbacks", (ANY, "connection")),
)
_FOR_PEOPLE: Final = frozenset({"description", "displayName", "name", "tags"})


def check_secrets(view: FlowView, allowed: AllowedSecrets) -> Iterator[Diagnostic]:
    """Yield an error for each connection and Variable that is named where it cannot be, or is not allowed.

    Args:
        view: the flow.
        allowed: what flows may name.
    """
    yield from _connections_of_fields(view, allowed)
    if not _may_name_secrets(view.flow):
        return
    suspects = [(path, text) for path, text in _strings(view.flow, ()) if _NAME.search(text)]
    found = [one for read in view.reads for one in _check_read(view, read, allowed)]
    rendered = {expression.path for expression in view.expressions}
    for path, text in suspects:
        if "{{" in text and path not in rendered:
            found += _check_unrendered(path, text, view.reader)
    # A template can name a secret twice, and some fields have two expressions.
    yield from dict.fromkeys(found)


def _may_name_secrets(flow: Mapping[str, Any]) -> bool:
    """Return whether a flow contains the names at all: nearly none does, and reading expressions is slow."""
    try:
        text = msgspec.json.encode(flow)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return True
    return any(part in text for part in _PARTS_OF_JSON)


def _connections_of_fields(view: FlowView, allowed: AllowedSecrets) -> Iterator[Diagnostic]:
    options = view.flow.get("airflow")
    named: list[tuple[Path, Any]] = []
    if isinstance(options, Mapping):
        for option in (("awsConnId",), ("watch", "connId")):
            named += select(options, option, ("airflow",))
    named += select(view.flow, ("onCompletionActions", ANY, "connection"))
    for located in view.steps:
        for field, pattern in _CONNECTION_FIELDS:
            if field in located.step:
                named += select(located.step[field], pattern, (*located.path, field))
    for path, conn_id in named:
        if isinstance(conn_id, str) and (reason := allowed.refusal(conn_id)):
            yield Diagnostic(path, reason)
    for path, url in select(view.flow, ("airflow", "watch", "sqsQueueUrl")):
        if isinstance(url, str) and (reason := allowed.queue_refusal(url)):
            yield Diagnostic(path, reason)


def _strings(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    """Yield the strings of a flow that are not only for people."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, member in value.items():
            if not (key in _FOR_PEOPLE and isinstance(member, str | list) and len(path) in {0, 2}):
                yield from _strings(member, (*path, key))
    elif isinstance(value, list):
        for index, member in enumerate(value):
            yield from _strings(member, (*path, index))


def _check_read(view: FlowView, read: Read, allowed: AllowedSecrets) -> Iterator[Diagnostic]:
    expression = read.expression
    secret = secret_name(read.names)
    if secret is None or _names_the_context(view, read):
        return
    if read.in_block:
        # The names begin at the block's own value.
        if _can_name_secrets(expression):
            yield Diagnostic(
                read.path,
                f"{_form(read.names)} is a field of the block's own value here; for the connection or "
                f"Variable write {_form(('@root', *read.names))}",
                Severity.WARNING,
            )
    elif expression.kind is Kind.TEMPLATE and _can_name_secrets(expression):
        if reason := allowed.refusal(secret.name, is_variable=secret.is_variable):
            yield Diagnostic(read.path, reason)
    elif expression.kind is Kind.TEMPLATE:
        yield _misplaced(read.path, read.names)
    elif expression.root in {Root.CONTEXT, Root.VARIABLES} and not _is_set(view, read):
        yield _misplaced(read.path, read.names, is_path=True, can_be_template=_can_name_secrets(expression))


def _names_the_context(view: FlowView, read: Read) -> bool:
    """Return whether an expression names the run's data itself, ``currentContextData.conn.shop.password``."""
    source = read.expression.source
    if _CONTEXT not in source or read.expression.kind is not Kind.TEMPLATE:
        return False
    return all(one.names != read.names for one in view.reader.template_reads(source))


def _check_unrendered(path: Path, text: str, reader: ExpressionReader) -> Iterator[Diagnostic]:
    try:
        references = reader.template_reads(text)
    except ExpressionSyntaxError:
        return
    for names, in_block, _ in references:
        if secret_name(names) is not None and not in_block:
            yield _misplaced(path, names)


def _misplaced(
    path: Path, names: Sequence[str], *, is_path: bool = False, can_be_template: bool = False
) -> Diagnostic:
    written = quoted("$." + ".".join(names)) if is_path else _form(names)
    if can_be_template:
        return Diagnostic(path, f"{written} is not a path in the run's data; write {_form(names)}")
    payload = ("initialContextData", *names)
    instead = quoted("$." + ".".join(payload)) if is_path else _form(payload)
    return Diagnostic(
        path,
        f"{written} cannot be used here: connections and Variables can be named only in {_WHERE}, so that "
        f"their values stay out of the run's data; a payload key {quoted(names[0])} is {instead}",
    )


def _form(names: Sequence[str]) -> str:
    return quoted("{{" + ".".join(names) + "}}")


def _can_name_secrets(expression: Expression) -> bool:
    step = expression.step
    if step is None:
        return False
    return any(_matches(expression, step, pattern) for pattern in SECRET_FIELDS.get(step.kind, ()))


def _matches(expression: Expression, step: LocatedStep, pattern: Pattern) -> bool:
    own = expression.path[len(step.path) :]
    return len(own) == len(pattern) and all(
        expected in {ANY, key} for key, expected in zip(own, pattern, strict=True)
    )


def _is_set(view: FlowView, read: Read) -> bool:
    """Return whether the flow itself writes data of that name."""
    return read.names[0] in view.names.roots or read.names[0] in view.names.inputs_of(read.step)
