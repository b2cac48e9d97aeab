"""Settings of modules that are written in the flow, checked before a run by the module's own rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from airflow_allma.flow.checks import SettingsCheck
from airflow_allma.flow.diagnostics import Diagnostic, Path, Severity
from airflow_allma.flow.expression_fields import is_computed
from airflow_allma.flow.lints.flow_names import first_name
from airflow_allma.flow.steps.messages import MESSAGE_FIELDS
from airflow_allma.flow.tree_walk import ANY, LocatedStep, Scope, select

__all__ = ["check_module_settings"]

_KINDS: Final = frozenset({"DATA_LOAD", "DATA_SAVE", "DATA_TRANSFORMATION"})
# The types that run one module, whose settings can also be fields of the step.
_MESSAGES: Final = {"SNS_PUBLISH": "system/sns-publish", "SQS_SEND": "system/sqs-send"}


def check_module_settings(
    flow: Mapping[str, Any], all_scopes: list[Scope], check: SettingsCheck
) -> Iterator[Diagnostic]:
    """Yield a warning for each setting with which a module always fails.

    Only settings that are the same in every run are checked: those without templates and JSONPaths that no
    input mapping can replace.
    """
    yield from _of_actions(flow, check)
    defaults = next((value for _, value in select(flow, ("defaultStepConfig", "defaultCustomConfig"))), None)
    for scope in all_scopes:
        for step in scope.steps.values():
            is_message = step.kind in _MESSAGES
            module = step.step.get("moduleIdentifier") if step.kind in _KINDS else _MESSAGES.get(step.kind)
            if not isinstance(module, str) or (problems := check(module)) is None:
                continue
            fixed, paths, computed = _settings(step, defaults)
            for keys, at_key, message in problems(fixed, computed):
                if is_message and keys[0] not in fixed:
                    continue  # the rules of steps report what is missing, as errors
                path = paths.get(str(keys[0]), (*step.path, "customConfig", keys[0]))
                yield Diagnostic((*path, *keys[1:]), message, Severity.WARNING, at_key)


def _of_actions(flow: Mapping[str, Any], check: SettingsCheck) -> Iterator[Diagnostic]:
    """Yield the same for the DATA_SAVE actions after a run, whose payload is the input."""
    for path, action in select(flow, ("onCompletionActions", ANY)):
        module = action.get("moduleIdentifier") if isinstance(action, dict) else None
        if not isinstance(module, str) or action.get("actionType") != "DATA_SAVE":
            continue
        if (problems := check(module)) is None:
            continue
        config, payload = (
            value if isinstance(value := action.get(field), dict) else {}
            for field in ("customConfig", "payloadTemplate")
        )
        computed = {*payload, *(name for name, value in config.items() if is_computed(value))}
        fixed = {name: value for name, value in config.items() if name not in computed}
        for keys, at_key, message in problems(fixed, computed):
            yield Diagnostic((*path, "customConfig", *keys), message, Severity.WARNING, at_key)


def _settings(step: LocatedStep, defaults: Any) -> tuple[dict[str, Any], dict[str, Path], frozenset[str]]:
    """Return the fixed settings of a step, the path of each, and the names of those that data decides."""
    config, literals, mapped = (
        value if isinstance(value := step.step.get(field), dict) else {}
        for field in ("customConfig", "literals", "inputMappings")
    )
    own = {}
    if step.kind in _MESSAGES:
        own = {field: step.step[field] for field in MESSAGE_FIELDS if field in step.step}
    # Later ones replace earlier ones.
    sources = (
        (step.path, own),
        (("defaultStepConfig", "defaultCustomConfig"), defaults if isinstance(defaults, dict) else {}),
        ((*step.path, "customConfig"), config),
        ((*step.path, "literals"), literals),
    )
    settings = {name: value for _, source in sources for name, value in source.items()}
    paths = {name: (*path, name) for path, source in sources for name in source}
    computed = {
        *map(first_name, mapped),
        *(first for target in literals if (first := first_name(target)) != target),
        *(name for name, value in settings.items() if is_computed(value)),
    }
    fixed = {name: value for name, value in settings.items() if name not in computed}
    return fixed, paths, frozenset(computed)
