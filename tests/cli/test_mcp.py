from __future__ import annotations

import json

import pytest

from tests.support.artifact_files import connection, envelope
from tests.support.cli import flow_document, run_cli, write_file
from tests.support.mcp_servers import error_of, running_mcp, running_mcp_fake
from tests.support.mcp_steps import KEY, mcp_step


@pytest.fixture
def fake(monkeypatch):
    """A server, and the connection ``wiki`` to it in the environment."""
    with running_mcp_fake() as server:
        monkeypatch.setenv(
            "AIRFLOW_CONN_WIKI", json.dumps({"conn_type": "mcp", "host": server.url, "password": KEY})
        )
        yield server


def test_a_flow_on_the_command_line_calls_a_tool(tmp_path, monkeypatch):
    with running_mcp(tmp_path) as server:
        monkeypatch.setenv("AIRFLOW_CONN_WIKI", json.dumps({"host": server.url, "password": KEY}))
        flow = flow_document({"a": mcp_step("lookup", inputMappings={"q": "$.question"})})
        ran = run_cli(
            "run", write_file(tmp_path, "flow.json", flow), "--payload", '{"question": "why"}', "--trace"
        )
        listed = run_cli("mcp", "list", "wiki")
    assert ran.code == 0, ran.err
    result = ran.json["context"]["steps_output"]["a"]["result"]
    assert result["structuredContent"] == {"q": "why", "top": 3}
    assert "MCP tool lookup of wiki" in ran.err
    assert KEY not in ran.out + ran.err
    assert listed.code == 0
    assert "lookup: Look something up.\n    q: string, required\n    top: integer, default 3\n" in listed.out
    assert "The second line" not in listed.out


def test_a_flow_uses_the_mcp_connection_of_its_folder(fake, tmp_path):
    exported = connection(
        "wiki", serverUrl=fake.url, authentication={"type": "API_KEY", "secretArn": "arn:x"}
    )
    write_file(tmp_path, "wiki.mcp.json", envelope(mcpConnections=[exported]))
    step = {"stepType": "MCP_CALL", "mcpConnectionId": "wiki", "toolName": "find"}
    ran = run_cli("run", write_file(tmp_path, "flow.json", flow_document({"a": step})))
    assert ran.code == 0, ran.out
    assert [headers.get("x-api-key") for method, headers in fake.requests if method == "tools/call"] == [KEY]


def test_the_key_is_in_nothing_that_a_fork_in_chunks_stores(fake, tmp_path):
    fake.answers["tools/call"] = lambda message: error_of(message, -32602, f"not with {KEY}")
    steps = {
        "f": {
            "stepType": "PARALLEL_FORK_MANAGER",
            "itemsPath": "$.items",
            "parallelBranches": [{"branchId": "b", "stepInstanceId": "a"}],
            "aggregationConfig": {"failOnBranchError": False},
        },
        "a": mcp_step("find", inputMappings={"q": "$.currentItem"}),
    }
    flow = flow_document(steps, airflow={"maxInMemoryItems": 1, "offloadLocation": "s3://data/runs"})
    store = tmp_path / "store"
    ran = run_cli(
        *("run", write_file(tmp_path, "flow.json", flow), "--chunks", "--store", store.as_uri(), "--trace"),
        *("--payload", json.dumps({"items": list(range(5))})),
    )
    stored = [path.read_bytes() for path in store.rglob("*") if path.is_file()]
    assert any(b"not with ***" in content for content in stored)
    assert any(b'"service":"mcp"' in content for content in stored)
    assert KEY not in ran.out + ran.err
    assert not any(KEY.encode() in content for content in stored)


def test_tools_are_listed_as_json_with_their_schemas(fake):
    fake.tools = [{"name": "any", "description": "Any."}, {"name": "a", "inputSchema": {"type": "object"}}]
    assert json.loads(run_cli("mcp", "list", "wiki", "--json").out) == [
        {"name": "a", "description": "", "inputSchema": {"type": "object"}},
        {"name": "any", "description": "Any.", "inputSchema": None},
    ]


def test_arguments_of_any_schema_are_shown_in_few_words(fake):
    properties = {
        "a": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
        "b": True,
        "c": {"type": ["integer", "null"]},
        "d\x1b[1m": {"enum": [1]},
    }
    fake.tools = [
        {"name": "t", "inputSchema": {"type": "object", "properties": properties, "required": ["c"]}}
    ]
    assert run_cli("mcp", "list", "wiki").out.splitlines() == [
        "t",
        "    a: string or null, default null",
        "    b: any",
        "    c: integer or null, required",
        "    d\\x1b[1m: any",
    ]
    fake.tools = []
    assert run_cli("mcp", "list", "wiki").out == "The server lists no tools.\n"


def test_a_connection_that_a_folder_defines_is_found_there(fake, tmp_path):
    exported = connection("docs", serverUrl=fake.url)
    write_file(tmp_path, "docs.mcp.json", envelope(mcpConnections=[exported]))
    assert run_cli("mcp", "list", "docs", "--folder", tmp_path).out == "find\n"
    assert run_cli("mcp", "list", "wiki", "--folder", tmp_path).out == "find\n"
    result = run_cli("mcp", "list", "dosc", "--folder", tmp_path)
    assert (result.code, result.out) == (2, "")
    assert "defines no MCP connection 'dosc'; did you mean 'docs'?" in result.err


def test_errors_are_printed_without_the_key(fake):
    fake.always("initialize", (401, {}, f"wrong {KEY}".encode()))
    result = run_cli("mcp", "list", "wiki")
    assert (result.code, result.out) == (1, "")
    assert result.err == (
        f"error: 401 (wrong ***) from the MCP server of connection 'wiki' ({fake.url}). Check the "
        "credentials in its connection.\n"
    )


def test_a_connection_that_does_not_exist_says_how_to_define_it():
    result = run_cli("mcp", "list", "nowhere")
    assert (result.code, result.out) == (2, "")
    assert "Set AIRFLOW_CONN_NOWHERE" in result.err


@pytest.mark.parametrize(("value", "code"), [("False", 1), ("True", 1), ("maybe", 2)])
def test_the_setting_for_programs_is_read_from_the_environment(value, code, monkeypatch):
    extra = {"transport": "stdio", "command": "/no/such/program"}
    monkeypatch.setenv("AIRFLOW_CONN_WIKI", json.dumps({"conn_type": "mcp", "extra": extra}))
    monkeypatch.setenv("AIRFLOW__ALLMA__MCP_STDIO", value)
    result = run_cli("mcp", "list", "wiki")
    words = {
        "False": "mcp_stdio` must be True",
        "True": "cannot be started",
        "maybe": "must be True or False",
    }
    assert result.code == code
    assert words[value] in result.err
