"""Settings of modules that are written in the flow, checked before a run by the module's own rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from airflow_allma.flow.checks import SettingsCheck
from airflow_allma.flow.diagnostics import Diagnostic, Path, Severity
from airflow_allma.flow.lints.flow_names import first_name
from airflow_allma.flow.tree_walk import LocatedStep, Scope, select

__all__ = ["check_module_settings"]

_KINDS: Final = frozenset({"DATA_LOAD", "DATA_SAVE", "DATA_TRANSFORMATION"})


def check_module_settings(
    flow: Mapping[str, Any], all_scopes: list[Scope], check: SettingsCheck
) -> Iterator[Diagnostic]:
    """Yield a warning for each setting with which a module always fails.

    Only settings that are the same in every run are checked: those without templates and JSONPaths that no
    input mapping can replace.
    """
    defaults = next((value for _, value in select(flow, ("defaultStepConfig", "defaultCustomConfig"))), None)
    for scope in all_scopes:
        for step in scope.steps.values():
            module = step.step.get("moduleIdentifier")
            if step.kind not in _KINDS or not isinstance(module, str):
                continue
            fixed, paths, computed = _settings(step, defaults)
            for keys, at_key, message in check(module, fixed, computed):
                path = paths.get(str(keys[0]), (*step.path, "customConfig", keys[0]))
                yield Diagnostic((*path, *keys[1:]), message, Severity.WARNING, at_key)


def _settings(step: LocatedStep, defaults: Any) -> tuple[dict[str, Any], dict[str, Path], frozenset[str]]:
    """Return the fixed settings of a step, the path of each, and the names of those that data decides."""
    fixed: dict[str, Any] = {}
    paths: dict[str, Path] = {}
    computed: set[str] = set()
    if isinstance(defaults, dict):
        fixed.update(defaults)
        paths.update({name: ("defaultStepConfig", "defaultCustomConfig", name) for name in defaults})
    for field in ("customConfig", "literals"):
        settings = step.step.get(field)
        if isinstance(settings, dict):
            fixed.update(settings)
            paths.update({name: (*step.path, field, name) for name in settings})
    mapped = step.step.get("inputMappings")
    computed.update(first_name(target) for target in (mapped if isinstance(mapped, dict) else ()))
    literals = step.step.get("literals")
    for target in literals if isinstance(literals, dict) else ():
        if (name := first_name(target)) != target:
            computed.add(name)
    computed.update(name for name, value in fixed.items() if _is_computed(value))
    return {name: value for name, value in fixed.items() if name not in computed}, paths, frozenset(computed)


def _is_computed(value: Any) -> bool:
    if isinstance(value, str):
        return "{{" in value or value.startswith("$")
    if isinstance(value, dict):
        return any(_is_computed(key) or _is_computed(member) for key, member in value.items())
    return isinstance(value, list) and any(map(_is_computed, value))
