"""Strings that look like an expression and are used as they are, or as another expression."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from airflow_allma.flow.diagnostics import Path, quoted
from airflow_allma.flow.expression_fields import Kind, Root, is_computed
from airflow_allma.flow.lints.flow_names import ROOTS
from airflow_allma.flow.lints.lint import FlowView, Read, Warnings, lint, warning
from airflow_allma.flow.steps.messages import MESSAGE_FIELDS
from airflow_allma.flow.tree_walk import ANY, LocatedStep, Pattern, select

__all__ = [
    "keys_without_values",
    "message_fields_with_expressions",
    "names_that_begin_with_a_path",
    "paths_inside_of_text",
    "placeholders_of_urls",
    "single_braces",
    "static_headers_with_expressions",
    "text_after_a_path",
    "unknown_data_variables",
]

_PATH_AFTER_SPACE: Final = re.compile(r"\s\$\.([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)")
_PLACEHOLDER: Final = re.compile(
    r"(?<=/)(?::([A-Za-z_]\w*)(?=[/?#]|$))"
    r"|(?<![{$])\{([A-Za-z_]\w*)\}(?!\})"
    r"|(?<=[/=])\$\.([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)"
)
_URLS: Final[Mapping[str, Pattern]] = {
    "API_CALL": ("apiUrlTemplate", "template"),
    "POLL_EXTERNAL_API": ("apiCallDefinition", "apiUrlTemplate", "template"),
}
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_MUSTACHE: Final = re.compile(r"\{\{.*?\}\}", re.DOTALL)
_BRACKETS: Final = re.compile(r"\[[^\]]*\]")
_SINGLE_BRACES: Final = re.compile(r"(?<!\{)\$?\{[ ]?([A-Za-z_]\w*)((?:\.\w+)*)[ ]?\}(?!\})")
_LONG_TEXT: Final = re.compile(r"\s(?:.*\s.*\S|.*[,;:!?]|\s*\{\{)", re.DOTALL)


@lint(fields=("apiStaticHeaders",))
def static_headers_with_expressions(view: FlowView) -> Warnings:
    """Yield static headers that contain a template or a JSONPath, which is sent unchanged."""
    for step in view.steps:
        if "apiStaticHeaders" not in step.step:
            continue
        for path, value in select(step.step, ("apiStaticHeaders", ANY), step.path):
            if isinstance(value, str) and ("{{" in value or _is_path(value)):
                kind = "a template" if "{{" in value else "a JSONPath"
                yield warning(
                    path,
                    "this is sent as it is written, because static headers are not rendered; to send the "
                    f"value of {kind}, write this header in `apiHeadersTemplate`",
                )


@lint(fields=("correlationKeyTemplate",))
def keys_without_values(view: FlowView) -> Warnings:
    """Yield keys of waits that are the same in every run, of which only one can then wait at a time."""
    for step in view.steps:
        key = step.step.get("correlationKeyTemplate")
        if isinstance(key, str) and key and "{{" not in key:
            what = "this is a template, not a JSONPath: " if _is_path(key) else ""
            yield warning(
                (*step.path, "correlationKeyTemplate"),
                f"{what}every run waits for the key {quoted(key)}, and a second one fails while the first "
                "waits; name a value that only this run has, such as `{{flowExecutionId}}`",
            )


@lint(fields=MESSAGE_FIELDS)
def message_fields_with_expressions(view: FlowView) -> Warnings:
    """Yield fields of a message step that contain a template or a JSONPath, which is sent unchanged."""
    for step in view.steps:
        if step.kind not in {"SNS_PUBLISH", "SQS_SEND"}:
            continue
        for field in MESSAGE_FIELDS:
            if field in step.step and is_computed(step.step[field]):
                yield warning(
                    (*step.path, field),
                    "this is used as it is written, because only `customConfig` and `literals` of this step "
                    "are rendered; write it there",
                )


@lint(fields=("apiHeadersTemplate", "literals"))
def paths_inside_of_text(view: FlowView) -> Warnings:
    """Yield headers and literals with a JSONPath after other text: only a whole value can be a path."""
    for step in view.steps:
        for pattern in (("apiHeadersTemplate", ANY), ("literals", ANY)):
            if pattern[0] not in step.step:
                continue
            for path, value in select(step.step, pattern, step.path):
                if not isinstance(value, str) or value.startswith("$"):
                    continue
                if match := _PATH_AFTER_SPACE.search(_MUSTACHE.sub("", value)):
                    yield warning(
                        path,
                        f"{quoted('$.' + match[1])} stays text here, because only a whole value can be a "
                        f"JSONPath; write {quoted('{{' + match[1] + '}}')}",
                    )


@lint(fields=("literals", "customConfig"))
def text_after_a_path(view: FlowView) -> Warnings:
    """Yield literals that begin with a JSONPath and go on with text, which becomes a part of a key."""
    for expression in view.expressions:
        if not expression.source.startswith("$.") or expression.field not in {"literals", "customConfig"}:
            continue
        if expression.kind not in {Kind.PATH, Kind.TEMPLATE}:
            continue
        rest = _BRACKETS.sub("", expression.source)
        if (space := _LONG_TEXT.search(rest)) is not None:
            name = rest[2 : space.start()]
            yield warning(
                expression.path,
                "a value that begins with `$.` is a JSONPath to its end, so the text after the space is "
                f"part of a key; write {quoted('{{' + name + '}}')} to put the value into text, or `['...']` "
                "around a key with spaces",
            )


@lint(kinds=tuple(_URLS))
def placeholders_of_urls(view: FlowView) -> Warnings:
    """Yield placeholders of other systems in URLs, ``:id``, ``{id}`` and ``$.id``, which are sent as is."""
    for path, template in _urls(view):
        scheme = _SCHEME.match(template)
        url = _MUSTACHE.sub("_", template[scheme.end() if scheme else 0 :])
        for match in _PLACEHOLDER.finditer(url):
            value = quoted("{{" + (match[1] or match[2] or match[3]) + "}}")
            yield warning(path, f"{quoted(match[0])} is sent as it is written; write {value} for a value")
            break


@lint(expressions=(Kind.TEMPLATE, Kind.TEXT))
def single_braces(view: FlowView) -> Warnings:
    """Yield ``{name}`` and ``${name}`` in templates, for names that the flow knows."""
    for expression in view.expressions:
        if expression.kind not in {Kind.TEMPLATE, Kind.TEXT} or "}" not in expression.source:
            continue
        if expression.path[-2:] == ("apiUrlTemplate", "template") or expression.root is Root.OTHER:
            continue
        for match in _SINGLE_BRACES.finditer(_MUSTACHE.sub("_", expression.source)):
            if (meant := _known(view, expression.step, match[1])) is not None:
                written = quoted("{{" + meant + match[2] + "}}")
                yield warning(
                    expression.path,
                    f"{quoted(match[0])} stays text, because templates have two braces; write {written} for "
                    "the value",
                )
                break


def _known(view: FlowView, step: LocatedStep | None, name: str) -> str | None:
    """Return how a template names a value that the flow itself sets; None if it sets none of that name."""
    if name in ROOTS or name in view.names.roots or name in view.names.inputs_of(step):
        return name
    variables = view.flow.get("flowVariables")
    return f"flow_variables.{name}" if isinstance(variables, dict) and name in variables else None


def _urls(view: FlowView) -> Iterator[tuple[Path, str]]:
    for step in view.steps:
        pattern = _URLS.get(step.kind)
        if pattern is not None and pattern[0] in step.step:
            for path, value in select(step.step, pattern, step.path):
                if isinstance(value, str):
                    yield path, value


@lint(names=("$",))
def names_that_begin_with_a_path(view: FlowView) -> Warnings:
    """Yield ``{{$.name}}``: names in templates have no ``$.``."""
    for read in view.reads:
        if (
            read.expression.kind is Kind.TEMPLATE
            and read.names[0] == "$"
            and read.names[1:]
            and not _may_exist(view, read)
        ):
            written, name = (quoted("{{" + ".".join(names) + "}}") for names in (read.names, read.names[1:]))
            yield warning(
                read.path, f"{written} is empty, because names in templates have no `$.`; write {name}"
            )


@lint(expressions=(Kind.TEMPLATE,))
def unknown_data_variables(view: FlowView) -> Warnings:
    """Yield ``{{@number}}``: only five names begin with ``@``."""
    for read in view.reads:
        if read.expression.kind is Kind.TEMPLATE and read.in_block and read.names[0].startswith("@"):
            yield warning(
                read.path,
                f"{quoted('{{' + read.names[0] + '}}')} is empty; the names with `@` are `@index`, `@key`, "
                "`@first`, `@last` and `@root`",
            )


def _may_exist(view: FlowView, read: Read) -> bool:
    return "$" in view.names.roots or "$" in view.names.inputs_of(read.step)


def _is_path(value: str) -> bool:
    return re.match(r"\$(\.|\[)['\"\w]", value) is not None
