"""Settings of modules that are valid and probably not meant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from airflow_allma.flow.diagnostics import Path, quoted
from airflow_allma.flow.lints.lint import FlowView, Warnings, lint, unknown_setting, warning
from airflow_allma.flow.tree_walk import ANY, select

__all__ = ["limits_after_filters", "unknown_parameters_of_models", "urls_as_buckets"]

_BUCKETS: Final = frozenset({"bucket", "bucketName", "destinationBucket"})
_FIELDS: Final = ("customConfig", "literals")
_PARAMETERS: Final = ("temperature", "maxOutputTokens", "topP", "topK", "seed")
_WHY_NO_PARAMETER: Final = f"the parameters are {', '.join(_PARAMETERS[:-1])} and {_PARAMETERS[-1]}"
_LOADER: Final = "system/dynamodb-data-loader"


@lint(fields=(*_FIELDS, "destinationBucket"))
def urls_as_buckets(view: FlowView) -> Warnings:
    """Yield ``"bucket": "s3://name"``: a bucket has a name, not a URL."""
    for step in view.steps:
        own = select(step.step, ("destinationBucket",), step.path)
        members = (_members(step.step.get(field), (*step.path, field)) for field in _FIELDS)
        for found in (own, *members):
            for path, value in found:
                if path[-1] in _BUCKETS and isinstance(value, str) and value.startswith(("s3://", "arn:")):
                    name = value.removeprefix("s3://").rpartition(":::")[2].partition("/")[0]
                    meant = f"; write {quoted(name)}" if name and "{" not in name else ""
                    yield warning(
                        path, f"{quoted(value)} is not the name of a bucket{meant or ', only the name'}"
                    )


def _members(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict | list):
        for member_path, member in select(value, (ANY,), path):
            yield member_path, member
            yield from _members(member, member_path)


@lint(fields=_FIELDS)
def limits_after_filters(view: FlowView) -> Warnings:
    """Yield ``limit`` together with a filter: it counts the items that the filter keeps."""
    for step in view.steps:
        if step.step.get("moduleIdentifier") != _LOADER:
            continue
        settings = {
            name: path
            for field in _FIELDS
            for path, value in select(step.step, (field, ANY), step.path)
            if value is not None and isinstance(name := path[-1], str)
        }
        if "limit" in settings and "filterExpression" in settings:
            yield warning(
                settings["limit"],
                "this is how many items are returned, after `filterExpression`, and as many pages are read "
                "as that takes; to bound what is read, use a `keyConditionExpression` that matches less",
            )


@lint(kinds=("LLM_INVOCATION",))
def unknown_parameters_of_models(view: FlowView) -> Warnings:
    """Yield the ``inferenceParameters`` that no provider gets, such as ``max_tokens``."""
    found = [*select(view.flow, ("defaultStepConfig", "defaultInferenceParameters"))]
    for step in view.steps:
        if step.kind == "LLM_INVOCATION":
            for pattern in (("inferenceParameters",), ("fallbacks", ANY, "inferenceParameters")):
                found += select(step.step, pattern, step.path)
    for path, parameters in found:
        if isinstance(parameters, dict):
            for field in parameters.keys() - set(_PARAMETERS):
                free = set(_PARAMETERS) - parameters.keys()
                yield unknown_setting((*path, field), free, _WHY_NO_PARAMETER)
