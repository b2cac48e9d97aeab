"""Checks the settings of a module that a flow contains, before the flow runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Any

from pydantic import BaseModel, ValidationError

from airflow_allma.common.nearest import nearest
from airflow_allma.engine.modules.definition import Module, describe_error
from airflow_allma.engine.modules.registry import MODULES
from airflow_allma.flow.checks import SettingsProblems
from airflow_allma.flow.diagnostics import quoted

__all__ = ["settings_check"]

_Problem = tuple[tuple[str | int, ...], bool, str]


def settings_check(identifier: str) -> SettingsProblems | None:
    """Return what checks the settings of a module; None if it has no rules for them, or is unknown."""
    module = MODULES.get(identifier)
    if module is None or module.input_model is None:
        return None
    return partial(_settings_problems, module, module.input_model)


def _settings_problems(
    module: Module, model: type[BaseModel], fixed: Mapping[str, Any], computed: AbstractSet[str]
) -> Iterator[_Problem]:
    """Yield (keys of a setting, whether its name is wrong, problem) for settings that always fail."""
    try:
        model.model_validate(dict(fixed))
    except ValidationError as error:
        for detail in error.errors(include_url=False, include_context=False):
            yield from _problem(module, detail, fixed, computed)


def _problem(
    module: Module, detail: Any, fixed: Mapping[str, Any], computed: AbstractSet[str]
) -> Iterator[_Problem]:
    names = _names(module)
    keys: tuple[str | int, ...] = detail["loc"]
    if not keys:
        # A rule about several fields: it is certain only if all of them are.
        if not computed & set().union(*names.values()):
            yield ("moduleIdentifier",), False, f"{module.identifier}: {describe_error(detail)}"
        return
    setting = str(keys[0])
    spellings = next((both for both in names.values() if setting in both), frozenset({setting}))
    if computed & spellings:
        return
    if detail["type"] != "missing" or len(keys) > 1:
        name = ".".join(map(str, keys))
        yield keys, False, f"{module.identifier} fails, because {quoted(name)} {describe_error(detail)}"
        return
    unused = (fixed.keys() | computed) - set().union(*names.values())
    guess = _like(setting, unused)
    if guess is None:
        yield keys, False, f"{module.identifier} fails, because {quoted(setting)} is missing; add it"
    elif guess in fixed:
        yield (
            (guess,),
            True,
            (f"{quoted(guess)} is not a setting of {module.identifier}; did you mean {quoted(setting)}?"),
        )
    else:
        yield (
            keys,
            False,
            (
                f"{module.identifier} fails, because {quoted(setting)} is missing; did you mean it by "
                f"{quoted(guess)}?"
            ),
        )


def _names(module: Module) -> dict[str, frozenset[str]]:
    model: Any = module.input_model
    return {name: frozenset({name, field.alias or name}) for name, field in model.model_fields.items()}


def _like(setting: str, unused: AbstractSet[str]) -> str | None:
    for name in sorted(unused):
        if name.replace("_", "").casefold() == setting.replace("_", "").casefold():
            return name
    return nearest(setting, unused)
