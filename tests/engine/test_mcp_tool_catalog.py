from __future__ import annotations

from functools import reduce

import pytest

from airflow_allma.engine.mcp.tool_catalog import McpTool

DEEP = reduce(lambda inner, _: {"items": inner}, range(5_000), {})


@pytest.mark.parametrize("schema", [{"title": "\ud800"}, DEEP])
def test_a_schema_that_is_no_ordinary_json_is_not_checked(schema):
    assert McpTool("find", schema=schema).mismatches({"x": 1}) == []
