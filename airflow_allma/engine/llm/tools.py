"""The tools and the choice of tools of a step, read from the flow or from its data."""

from __future__ import annotations

import re
from typing import Any, Final

from airflow_allma.common.json_types import type_name
from airflow_allma.engine.llm.model_request import FunctionTool, ProviderTool, ToolChoice, ToolChoiceMode
from airflow_allma.exceptions import PermanentStepError
from airflow_allma.flow.model_base import NAME_PATTERN
from airflow_allma.flow.steps.llm import LlmToolType

__all__ = ["parse_tool_choice", "parse_tools"]

_NAME: Final = re.compile(NAME_PATTERN)
_MAX_TOOLS: Final = 128
_MAX_NAME: Final = 64
"""The lowest limit of any provider."""


def parse_tools(value: Any, field: str) -> tuple[FunctionTool | ProviderTool, ...]:
    """Return the tools of a JSON list; None means none.

    Args:
        value: ``[{"type": "function", "name", "description", "parameters"} | {"type", "config"?}]``.
        field: where it is from, for messages.

    Raises:
        PermanentStepError: it has another form; the message says where.
    """
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise PermanentStepError(f"`{field}` must be a list of tools; it is {type_name(value)}.")
    if len(value) > _MAX_TOOLS:
        raise PermanentStepError(f"`{field}` has {len(value)} tools; at most {_MAX_TOOLS} can be sent.")
    tools = tuple(_tool(member, f"{field}[{index}]") for index, member in enumerate(value))
    names = [tool.name for tool in tools if isinstance(tool, FunctionTool)]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise PermanentStepError(f"`{field}` has more than one function {twice!r}. Rename one.")
    return tools


def _tool(value: Any, field: str) -> FunctionTool | ProviderTool:
    kind = value.get("type") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in set(LlmToolType):
        kinds = ", ".join(LlmToolType)
        raise PermanentStepError(f"`{field}` must be an object with a `type`: one of {kinds}.")
    if kind != LlmToolType.FUNCTION:
        config = value.get("config")
        if config is not None and not isinstance(config, dict):
            raise PermanentStepError(f"`{field}.config` must be an object; it is {type_name(config)}.")
        return ProviderTool(LlmToolType(kind), config or {})
    name, description, parameters = (value.get(key) for key in ("name", "description", "parameters"))
    if not isinstance(name, str) or len(name) > _MAX_NAME or not _NAME.fullmatch(name):
        raise PermanentStepError(
            f"`{field}.name` must be the name of a function: up to {_MAX_NAME} letters, digits, '_' and '-'."
        )
    if not isinstance(description, str) or not description.strip():
        raise PermanentStepError(f"`{field}.description` must say what the function {name!r} does.")
    if not isinstance(parameters, dict):
        raise PermanentStepError(
            f"`{field}.parameters` must be the JSON Schema of the arguments of {name!r}, such as "
            '{"type": "object", "properties": {}}.'
        )
    return FunctionTool(name, description, parameters)


def parse_tool_choice(
    value: Any, tools: tuple[FunctionTool | ProviderTool, ...], field: str = "toolChoice"
) -> ToolChoice | None:
    """Return the choice of tools; None for the provider's default.

    Args:
        value: ``"auto"``, ``"none"``, ``"required"``, ``{"type": "function", "name"}`` or None.
        tools: the tools of the step.
        field: where it is from, for messages.

    Raises:
        PermanentStepError: it has another form, or names a function that is not among the tools.
    """
    if value is None or not tools:
        return None
    if isinstance(value, str) and value in {"auto", "none", "required"}:
        return ToolChoice(ToolChoiceMode(value))
    name = value.get("name") if isinstance(value, dict) and value.get("type") == "function" else None
    if not isinstance(name, str):
        raise PermanentStepError(
            f'`{field}` must be "auto", "none", "required" or {{"type": "function", "name": ...}}.'
        )
    names = [tool.name for tool in tools if isinstance(tool, FunctionTool)]
    if name not in names:
        known = ", ".join(names) or "none"
        raise PermanentStepError(
            f"`{field}` names {name!r}, which is not a function among the tools: {known}."
        )
    return ToolChoice(ToolChoiceMode.FUNCTION, name)
