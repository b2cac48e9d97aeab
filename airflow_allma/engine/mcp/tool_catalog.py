"""The tools of an MCP server, and whether arguments match the schema of one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any, Final

import msgspec

from airflow_allma.common.nearest import nearest
from airflow_allma.common.work_budget import own_budget
from airflow_allma.exceptions import PermanentStepError
from airflow_allma.flow.diagnostics import json_path
from airflow_allma.flow.input_schema import check_schema
from airflow_allma.flow.schema_validator import bounded_validator

__all__ = ["OWN_SCHEMA", "McpTool", "ToolCatalog", "read_catalog"]

_MAX_PAGES: Final = 100
_MAX_WORK: Final = 1_000_000
_MAX_SCHEMA_BYTES: Final = 1 << 18
_MAX_TOOLS: Final = 10_000
_MAX_CATALOG_BYTES: Final = 64 << 20
"""The size of all tools together, beyond which no further page is read."""

_MAX_ERRORS: Final = 100
_MAX_REASONS: Final = 10
_MAX_REASON_LENGTH: Final = 300
_MAX_NAMES: Final = 8
OWN_SCHEMA: Final = "airflow-allma/schema"
"""The key under which the schema that the SDK gets has the tool's own schema."""


@dataclass(frozen=True)
class McpTool:
    """A tool of an MCP server.

    Attributes:
        name: its name.
        description: what it does; may be empty.
        schema: the JSON Schema of its arguments; None if the server gives none.
    """

    name: str
    description: str = ""
    schema: Mapping[str, Any] | None = field(default=None, repr=False)

    @cached_property
    def _validator(self) -> Any:
        """The validator of arguments; None if the schema is not valid."""
        if self.schema is None:
            return None
        try:
            if len(msgspec.json.encode(self.schema)) > _MAX_SCHEMA_BYTES:
                return None
            # Rejects, for example, slow patterns and references to other documents.
            problems = any(True for _ in check_schema(dict(self.schema)))
        except Exception:  # noqa: BLE001 - jsonschema does not expect every JSON value
            return None
        return None if problems else bounded_validator(self.schema)

    def mismatches(self, arguments: Mapping[str, Any]) -> list[str]:
        """Return why arguments do not match the schema, each reason with its path; none if they match.

        Without a usable schema the arguments match: the server checks them too.
        """
        if self._validator is None:
            return []
        try:
            with own_budget(_MAX_WORK):
                errors = list(islice(self._validator.iter_errors(arguments), _MAX_ERRORS))
        except Exception:  # noqa: BLE001 - too much work, or what jsonschema does not expect
            return []
        errors.sort(key=lambda error: [str(key) for key in error.path])
        reasons = [f"{json_path(tuple(error.absolute_path))}: {_short(error.message)}" for error in errors]
        more = len(reasons) - _MAX_REASONS
        return [*reasons[:_MAX_REASONS], f"and {more} more"] if more > 0 else reasons


@dataclass(frozen=True, slots=True)
class ToolCatalog:
    """The tools of a server.

    Attributes:
        tools: name -> tool.
        is_complete: whether these are all; False for a server that cannot list its tools.
    """

    tools: Mapping[str, McpTool]
    is_complete: bool = True

    def unknown(self, name: str, server: str) -> PermanentStepError:
        """Return the error for a tool that the server does not have."""
        guess = nearest(name, self.tools)
        if guess:
            help_text = f"Did you mean {guess!r}?"
        elif self.tools:
            more = ", ..." if len(self.tools) > _MAX_NAMES else ""
            help_text = f"Its tools are {', '.join(map(repr, sorted(self.tools)[:_MAX_NAMES]))}{more}."
        else:
            help_text = "It has no tools."
        return PermanentStepError(
            f"Tool {name!r} does not exist: {server} does not list it. {help_text}", details={"tool": name}
        )


async def read_catalog(list_page: Callable[[str | None], Awaitable[Mapping[str, Any]]]) -> ToolCatalog:
    """Read the tools of a server, over all pages.

    Args:
        list_page: returns the page at a cursor, in the form of the protocol.

    Raises:
        StepError: what ``list_page`` raises.
    """
    tools: dict[str, McpTool] = {}
    cursor: str | None = None
    seen: set[str] = set()
    size = 0
    for _ in range(_MAX_PAGES):
        page = await list_page(cursor)
        tools.update((tool["name"], _tool(tool)) for tool in page.get("tools", ()))
        cursor = page.get("nextCursor")
        if cursor is None:
            return ToolCatalog(tools)
        size += _size_of(page)
        if cursor in seen or len(tools) > _MAX_TOOLS or size > _MAX_CATALOG_BYTES:
            break
        seen.add(cursor)
    return ToolCatalog(tools, is_complete=False)


def _size_of(page: Mapping[str, Any]) -> int:
    try:
        return len(msgspec.json.encode(page))
    except (UnicodeEncodeError, RecursionError):
        return _MAX_CATALOG_BYTES


def _tool(tool: Mapping[str, Any]) -> McpTool:
    schema = tool["inputSchema"][OWN_SCHEMA]
    return McpTool(tool["name"], tool["description"], schema if isinstance(schema, dict) else None)


def _short(message: str) -> str:
    # A message contains the value, which can be of any length.
    if len(message) <= _MAX_REASON_LENGTH:
        return message
    half = _MAX_REASON_LENGTH // 2
    return f"{message[:half]} ... {message[-half:]}"
