"""Placeholders in ``flowVariables`` that are filled in when files are loaded: ``{{stage}}``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from airflow_allma.common.json_reader import NotJsonError, UnreadableJsonError, decode_json
from airflow_allma.common.nearest import nearest
from airflow_allma.flow.diagnostics import Diagnostic, Path, Severity, quoted

__all__ = ["NO_DEPLOY_VARIABLES", "DeployVariables"]

_PLACEHOLDER: Final = re.compile(r"\{\{([^{}]*)\}\}")


@dataclass(frozen=True, slots=True)
class DeployVariables:
    """The values of placeholders.

    Attributes:
        values: name -> the string that replaces ``{{name}}``.
        problem: why the values cannot be used, a sentence; empty if they can.
    """

    values: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""

    @classmethod
    def from_setting(cls, setting: str) -> Self:
        """Return the variables of ``[allma] deploy_variables``, a JSON object of strings and numbers.

        Never raises: only flows with placeholders need the setting, and only they report its problem.
        """
        if not setting.strip():
            return cls()
        try:
            decoded = decode_json(setting.encode())
        except (NotJsonError, UnreadableJsonError) as error:
            return cls(
                problem=f"[allma] deploy_variables is not JSON: {error.reason}; write an object such as "
                '{"stage": "prod"}'
            )
        except UnicodeEncodeError:
            return cls(problem="[allma] deploy_variables is not JSON: it contains broken Unicode")
        if not isinstance(decoded, dict):
            return cls(
                problem='[allma] deploy_variables must be a JSON object such as {"stage": "prod"}; '
                f"it is {type(decoded).__name__}"
            )
        wrong = sorted(
            name
            for name, value in decoded.items()
            if not isinstance(value, str | int | float) or not name.strip()
        )
        if wrong:
            return cls(
                problem=f"[allma] deploy_variables: the value of {quoted(wrong[0])} must be a string, a "
                "number or a boolean, and no name may be empty"
            )
        return cls({name.strip(): _text(value) for name, value in decoded.items()})

    def with_values(self, values: Mapping[str, str]) -> DeployVariables:
        """Return these variables with others on top."""
        return DeployVariables({**self.values, **values}, self.problem) if values else self

    def fill(self, value: Any, path: Path, unfilled: list[Diagnostic]) -> Any:
        """Return a JSON value with all placeholders replaced in its strings, not in its keys.

        Replaced text is not searched again. A value without placeholders is returned as it is.

        Args:
            value: the value; not changed.
            path: where it is.
            unfilled: receives a warning for each placeholder that has no value, and an error if the variables
                cannot be used.
        """
        if isinstance(value, str):
            return self._fill_string(value, path, unfilled) if "{{" in value else value
        if isinstance(value, dict):
            members = {name: self.fill(member, (*path, name), unfilled) for name, member in value.items()}
            return members if any(members[name] is not value[name] for name in members) else value
        if isinstance(value, list):
            items = [self.fill(item, (*path, index), unfilled) for index, item in enumerate(value)]
            return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
        return value

    def _fill_string(self, value: str, path: Path, unfilled: list[Diagnostic]) -> str:
        def replacement(match: re.Match[str]) -> str:
            name = match[1].strip()
            if self.problem:
                unfilled.append(Diagnostic(path, self.problem))
            elif name not in self.values:
                unfilled.append(Diagnostic(path, self._unfilled(name), Severity.WARNING))
            else:
                return self.values[name]
            return match[0]

        return _PLACEHOLDER.sub(replacement, value)

    def _unfilled(self, name: str) -> str:
        guess = nearest(name, self.values)
        hint = f"did you mean {quoted(guess)}?" if guess else f"add {quoted(name)} to it"
        return (
            f"{quoted('{{' + name + '}}')} has no value and stays as it is: flowVariables are not templates, "
            f"and their placeholders come from [allma] deploy_variables (`--deploy NAME=VALUE`); {hint}"
        )


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


NO_DEPLOY_VARIABLES: Final = DeployVariables()
