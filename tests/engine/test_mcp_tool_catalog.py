from __future__ import annotations

import asyncio
from functools import reduce

import pytest

from airflow_allma.engine.mcp.tool_catalog import OWN_SCHEMA, McpTool, read_catalog

DEEP = reduce(lambda inner, _: {"items": inner}, range(5_000), {})


@pytest.mark.parametrize("schema", [{"title": "\ud800"}, DEEP])
def test_a_schema_that_is_no_ordinary_json_is_not_checked(schema):
    assert McpTool("find", schema=schema).mismatches({"x": 1}) == []


def test_pages_of_large_tools_are_not_all_read():
    asked = []

    async def list_page(cursor):
        asked.append(cursor)
        tool = {"name": f"tool-{cursor}", "description": "x" * (20 << 20), "inputSchema": {OWN_SCHEMA: {}}}
        return {"tools": [tool], "nextCursor": str(len(asked))}

    catalog = asyncio.run(read_catalog(list_page))
    assert len(asked) == len(catalog.tools) == 4
    assert not catalog.is_complete
