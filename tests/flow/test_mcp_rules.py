from __future__ import annotations

import sys

import pytest

from airflow_allma.flow.secret_names import AllowedSecrets
from airflow_allma.loading import load_flow_files
from tests.support.artifact_files import connection, put
from tests.support.cli import flow_document, write_file


def problems(folder, allowed, **fields):
    put(
        folder,
        "all.mcp.json",
        mcpConnections=[
            connection("wiki", authentication={"type": "BEARER_TOKEN", "secretArn": "arn:x"}),
            connection("open"),
        ],
    )
    step = {"stepType": "MCP_CALL", "toolName": "find", **fields}
    write_file(folder, "flow.json", flow_document({"a": step}))
    loaded = load_flow_files([folder], AllowedSecrets((allowed,)))
    return [(one.severity.value, one.path, one.message) for one in loaded.problems]


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"mcpConnectionId": "wiki"}, "$.steps.a.mcpConnectionId"),
        ({"mcpConnectionId": "open"}, None),
        ({"mcpConnectionId": "wiki", "connection": "shop_mcp"}, None),
        ({"mcpConnectionId": "open", "connection": "other"}, "$.steps.a.connection"),
        ({"connection": "wiki"}, "$.steps.a.connection"),
        ({"connection": "shop_mcp"}, None),
    ],
)
def test_flows_may_only_use_the_credentials_of_allowed_connections(fields, where, tmp_path):
    found = problems(tmp_path, "shop_*", **fields)
    assert [(severity, path) for severity, path, _ in found] == ([("error", where)] if where else [])
    assert all("is not among those that flows may use" in message for _, _, message in found)


def test_a_flow_that_calls_tools_is_a_warning_without_the_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mcp", None)
    ((severity, path, message),) = problems(tmp_path, "*", connection="wiki")
    assert (severity, path) == ("warning", "$.steps.a.stepType")
    assert message.endswith("install `airflow-allma[mcp]` where the step runs")
