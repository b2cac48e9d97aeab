"""Every expression of a flow with its place, compiled: one walk, for the checks and for the lints.

Another package compiles the expressions: the caller passes it as ``ExpressionChecks``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from airflow_allma.exceptions import ExpressionSyntaxError
from airflow_allma.flow.checks import ExpressionChecks
from airflow_allma.flow.diagnostics import Diagnostic, Path, quoted
from airflow_allma.flow.expression_fields import FLOW_FIELDS, Kind, Root, RowsByField, step_fields
from airflow_allma.flow.tree_walk import ANY, LocatedStep, Scope, select

__all__ = ["Expression", "FlowExpressions", "check_template", "read_expressions"]


class Expression(msgspec.Struct, frozen=True, gc=False):
    """One expression of a flow.

    Attributes:
        kind: PATH, CONDITION, TEMPLATE or TEXT; TARGETS for one key that is a dotted path, PATH_KEYS for one
            key that is a JSONPath.
        source: the expression.
        path: where it is.
        root: where its names begin.
        field: the field of the step, or of the flow, that contains it.
        step: the step that contains it; None for a field of the flow.
        compiled: what ``ExpressionChecks`` returned; None if it cannot be parsed.
    """

    kind: Kind
    source: str
    path: Path
    root: Root
    field: str
    step: LocatedStep | None
    compiled: Any


class FlowExpressions(NamedTuple):
    """The expressions of a flow."""

    found: list[Expression]
    """All that look like one, in the order of the file, whether they can be parsed or not."""
    diagnostics: list[Diagnostic]
    """An error for each that cannot be parsed, and for each value that should be an expression."""


def read_expressions(
    flow: Mapping[str, Any], all_scopes: Sequence[Scope], checks: ExpressionChecks
) -> FlowExpressions:
    """Find and compile every expression of a flow."""
    walk = _Walk(checks)
    walk.read(flow, (), FLOW_FIELDS, None)
    for scope in all_scopes:
        for located in scope.steps.values():
            walk.read(located.step, located.path, step_fields(located), located)
    return walk.result


def check_template(source: str, path: Path, checks: ExpressionChecks) -> list[Diagnostic]:
    """Return an error if a template cannot be parsed."""
    walk = _Walk(checks)
    _template(walk, source, path, (Root.CONTEXT, "", None))
    return walk.result.diagnostics


_Origin = tuple[Root, str, LocatedStep | None]
"""Root, field and step of an expression."""


class _Walk:
    def __init__(self, checks: ExpressionChecks) -> None:
        self.checks = checks
        self.result = FlowExpressions([], [])

    def read(
        self, owner: Mapping[str, Any], path: Path, table: RowsByField, step: LocatedStep | None
    ) -> None:
        """Read the fields of a step, or of the flow."""
        for field, value in owner.items():
            if field not in table:
                continue
            field_path = (*path, field)
            for row in table[field]:
                read, origin = _READERS[row.kind], (row.root, field, step)
                if row.pattern:
                    for match_path, match in select(value, row.pattern, field_path):
                        read(self, match, match_path, origin)
                else:
                    read(self, value, field_path, origin)

    def add(
        self,
        kind: Kind,
        source: str,
        path: Path,
        origin: _Origin,
        *,
        compiler: Callable[[str], object],
        noun: str,
        show: bool = True,
        at_key: bool = False,
    ) -> None:
        """Compile an expression and keep it; messages call it ``noun``, and show it if ``show``."""
        compiled = None
        try:
            compiled = compiler(source)
        except ExpressionSyntaxError as error:
            position = f" (character {error.position + 1})" if error.position else ""
            subject = f"{quoted(source)} is not" if show else "not"
            self.refuse(path, f"{subject} a valid {noun}{position}: {error.reason}", at_key=at_key)
        self.result.found.append(Expression(kind, source, path, *origin, compiled))

    def refuse(self, path: Path, message: str, *, at_key: bool = False) -> None:
        """Report an error."""
        self.result.diagnostics.append(Diagnostic(path, message, at_key=at_key))


def _path(walk: _Walk, value: Any, path: Path, origin: _Origin) -> None:
    if isinstance(value, str):
        if value.startswith("$"):
            walk.add(Kind.PATH, value, path, origin, compiler=walk.checks.path, noun="JSONPath")
        else:
            walk.refuse(path, _no_path(value))


def _no_path(value: str) -> str:
    return f"{quoted(value)} is not a JSONPath; a JSONPath starts with `$.`, for example `$.order.id`"


def _source(walk: _Walk, value: Any, path: Path, origin: _Origin) -> None:
    if isinstance(value, str):
        if value.startswith("$"):
            walk.add(Kind.PATH, value, path, origin, compiler=walk.checks.path, noun="JSONPath")
        else:
            # Completion actions have no literals.
            otherwise = "" if path[0] == "onCompletionActions" else ", or use `literals` for a fixed value"
            walk.refuse(path, f"{quoted(value)} is not a JSONPath; start it with `$.`{otherwise}")


def _condition(walk: _Walk, value: Any, path: Path, origin: _Origin) -> None:
    if isinstance(value, str):
        walk.add(Kind.CONDITION, value, path, origin, compiler=walk.checks.condition, noun="condition")


def _template(walk: _Walk, value: Any, path: Path, origin: _Origin) -> None:
    if not isinstance(value, str) or "{" not in value:
        return
    if "{{" not in value:
        walk.result.found.append(Expression(Kind.TEXT, value, path, *origin, None))
    else:
        # Messages do not show templates, which may contain secrets (a token in a header).
        walk.add(
            Kind.TEMPLATE, value, path, origin, compiler=walk.checks.template, noun="template", show=False
        )


def _path_or_template(walk: _Walk, value: Any, path: Path, origin: _Origin) -> None:
    read = _path if isinstance(value, str) and value.startswith("$") else _template
    read(walk, value, path, origin)


def _rendered(walk: _Walk, value: Any, path: Path, origin: _Origin) -> None:
    if isinstance(value, str):
        if "{{" in value:
            noun = "JSONPath with templates" if value.startswith("$.") else "template"
            walk.add(Kind.TEMPLATE, value, path, origin, compiler=walk.checks.rendered, noun=noun, show=False)
        elif value.startswith("$."):
            _path(walk, value, path, origin)
        elif "{" in value:
            walk.result.found.append(Expression(Kind.TEXT, value, path, *origin, None))
    elif isinstance(value, dict | list):
        for member_path, member in select(value, (ANY,), path):
            _rendered(walk, member, member_path, origin)


def _targets(walk: _Walk, value: Any, path: Path, origin: _Origin) -> None:
    for key in value if isinstance(value, dict) else ():
        noun = "path in the step's input"
        walk.add(Kind.TARGETS, key, (*path, key), origin, compiler=walk.checks.target, noun=noun, at_key=True)


def _path_keys(walk: _Walk, value: Any, path: Path, origin: _Origin) -> None:
    for key in value if isinstance(value, dict) else ():
        key_path = (*path, key)
        if key.startswith("$"):
            walk.add(
                Kind.PATH_KEYS, key, key_path, origin, compiler=walk.checks.path, noun="JSONPath", at_key=True
            )
        else:
            walk.refuse(key_path, _no_path(key), at_key=True)
            walk.result.found.append(Expression(Kind.PATH_KEYS, key, key_path, *origin, None))


_READERS: Final[Mapping[Kind, Callable[[_Walk, Any, Path, _Origin], None]]] = {
    Kind.PATH: _path,
    Kind.SOURCE: _source,
    Kind.CONDITION: _condition,
    Kind.TEMPLATE: _template,
    Kind.PATH_OR_TEMPLATE: _path_or_template,
    Kind.RENDERED: _rendered,
    Kind.TARGETS: _targets,
    Kind.PATH_KEYS: _path_keys,
}
