"""MCP_CALL steps against the SDK's own server, which runs in a process of its own."""

from __future__ import annotations

import asyncio
import json
import logging
import sys

import pytest

from airflow_allma.common.secret_sources import ConnectionSecret
from airflow_allma.engine import EngineSettings
from airflow_allma.engine.mcp.mcp_server import resolve_server
from airflow_allma.engine.mcp.mcp_sessions import McpSessions
from airflow_allma.engine.secrets import Secrets
from airflow_allma.exceptions import TransientStepError
from tests.support.engine import Fakes, fork, run
from tests.support.mail_steps import Connections
from tests.support.mcp_servers import ROOT, running_mcp
from tests.support.mcp_steps import KEY, call_tool, mcp_step, wiki


@pytest.fixture(scope="module", params=["http", "json"])
def process(request, tmp_path_factory):
    """A server, whose answers are streams of events, or JSON."""
    with running_mcp(tmp_path_factory.mktemp("mcp"), request.param) as server:
        yield server


@pytest.fixture
def server(process):
    """The server, running: a test before may have ended it."""
    if not process.process.running:
        process.start()
    return process


def test_the_output_is_the_result_as_the_protocol_has_it(server):
    ran = call_tool(server.url, "lookup", {"q": "x"})
    assert ran.outputs["a"] == {
        "result": {
            "content": [{"type": "text", "text": '{\n  "q": "x",\n  "top": 3\n}'}],
            "structuredContent": {"q": "x", "top": 3},
            "isError": False,
        }
    }


def test_images_stay_as_the_protocol_has_them(server):
    (content,) = call_tool(server.url, "pixel").outputs["a"]["result"]["content"]
    assert (content["type"], content["mimeType"], content["data"][:6]) == ("image", "image/png", "iVBORw")


def test_a_password_alone_is_a_bearer_token(server):
    ran = call_tool(server.url, "who")
    assert ran.outputs["a"]["result"]["structuredContent"]["authorization"] == f"Bearer {KEY}"


def test_a_tool_that_fails_is_an_error_with_its_text(server):
    ran = call_tool(server.url, "fails", {"q": KEY})
    assert ran.error == {
        "errorName": "McpToolError",
        "errorMessage": "Tool 'fails' of the MCP server of connection 'wiki' failed: Error executing tool "
        "fails: tool says no to ***",
        "errorDetails": {"connection": "wiki", "tool": "fails", "failedStepInstanceId": "a"},
        "isRetryable": False,
    }


def test_a_tool_error_can_be_retried_by_its_name(server):
    retries = {"count": 1, "intervalSeconds": 1, "errorEquals": ["McpToolError"]}
    ran = call_tool(server.url, "fails", {"q": "x"}, onError={"retries": retries})
    assert ran.fakes.record("a").tries == 2


def test_arguments_that_do_not_match_the_schema_are_listed_with_their_paths(server):
    ran = call_tool(server.url, "lookup", {"q": 5, "top": "many"})
    assert ran.error["errorName"] == "PermanentStepError"
    assert ran.error["errorDetails"]["reasons"] == [
        "$.q: 5 is not of type 'string'",
        "$.top: 'many' is not of type 'integer'",
    ]
    assert "schema of tool 'lookup'" in ran.error["errorMessage"]


def test_an_unknown_tool_is_an_error_with_the_nearest_known_name(server):
    ran = call_tool(server.url, "lookap")
    assert ran.error["errorMessage"] == (
        "Tool 'lookap' does not exist: the MCP server of connection 'wiki' does not list it. Did you mean "
        "'lookup'?"
    )


def test_a_tool_that_takes_too_long_is_a_transient_error(server):
    ran = call_tool(server.url, "slow", customConfig={"timeoutMs": 300})
    assert ran.error["errorName"] == "TransientStepError"
    assert ran.error["errorMessage"].startswith("No answer within 0.3 seconds from the MCP server of")
    assert ran.fakes.record("a").tries == 2


def test_the_timeout_can_be_a_value_of_the_flow_and_else_that_of_the_connection(server):
    fakes = Fakes()
    steps = {"a": mcp_step("slow", customConfig={"timeoutMs": "$.ms"})}
    secrets = Secrets(Connections(wiki(server.url, extra={"timeout": 0.2})))
    settings = EngineSettings(transient_tries=1)
    ran = run(steps, {"ms": 300}, fakes=fakes, secrets=secrets, settings=settings)
    assert "within 0.3 seconds" in ran.error["errorMessage"]
    ran = run({"a": mcp_step("slow")}, fakes=fakes, secrets=secrets, settings=settings)
    assert "within 0.2 seconds" in ran.error["errorMessage"]


def test_all_branch_runs_share_one_session(server):
    steps = {"f": fork("who"), "who": mcp_step("who")}
    secrets = Secrets(Connections(wiki(server.url)))
    ran = run(steps, {"items": list(range(100))}, secrets=secrets)
    outputs = ran.outputs["f"]["aggregatedData"]
    sessions = {output["result"]["structuredContent"]["session"] for output in outputs}
    assert (len(outputs), len(sessions)) == (100, 1)


def test_a_call_that_times_out_does_not_end_the_calls_of_others(server):
    steps = {
        "f": fork("slow"),
        "slow": mcp_step(
            "slow",
            inputMappings={"seconds": "$.currentItem"},
            customConfig={"timeoutMs": 2000},
            onError={"continueOnFailure": True},
        ),
    }
    secrets = Secrets(Connections(wiki(server.url)))
    settings = EngineSettings(transient_tries=1)
    ran = run(steps, {"items": [60, 0, 60, 0.1]}, secrets=secrets, settings=settings)
    outputs = ran.outputs["f"]["aggregatedData"]
    assert ["result" in output for output in outputs] == [False, True, False, True]


async def _result(sessions, secrets, tool):
    server = await resolve_server(None, "wiki", secrets, allow_stdio=False)
    result = await sessions.run(server, secrets, lambda session: session.call_tool(tool, {}))
    return result.get("structuredContent")


def test_a_server_that_has_forgotten_the_session_gets_a_new_one(server):
    async def main():
        secrets, sessions = Secrets(Connections(wiki(server.url))), McpSessions()
        first = await _result(sessions, secrets, "who")
        await asyncio.to_thread(server.restart)
        second = await _result(sessions, secrets, "who")
        await sessions.close()
        return first["session"], second["session"], asyncio.all_tasks() - {asyncio.current_task()}

    first, second, tasks = asyncio.run(main())
    assert first
    assert second
    assert first != second
    assert tasks == set()


def test_a_server_that_ends_in_the_middle_is_a_transient_error(server):
    async def main():
        secrets, sessions = Secrets(Connections(wiki(server.url))), McpSessions()
        try:
            with pytest.raises(TransientStepError, match="MCP server of connection 'wiki'"):
                await _result(sessions, secrets, "dies")
            with pytest.raises(TransientStepError, match=r"No answer \("):
                # A connection is refused or, for a moment, still broken.
                await _result(sessions, secrets, "who")
            await asyncio.to_thread(server.restart)
            assert (await _result(sessions, secrets, "who"))["session"]
        finally:
            await sessions.close()

    asyncio.run(main())


def test_new_credentials_open_a_new_session(server):
    async def main():
        sessions = McpSessions()
        results = []
        for key in ("first-key", "second-key"):
            secrets = Secrets(Connections(wiki(server.url, password=key)))
            results.append(await _result(sessions, secrets, "who"))
        await sessions.close()
        return results

    first, second = asyncio.run(main())
    assert [first["authorization"], second["authorization"]] == ["Bearer first-key", "Bearer second-key"]
    assert first["session"] != second["session"]


def test_sessions_of_several_event_loops_are_independent(server):
    sessions = McpSessions()

    async def main():
        result = await _result(sessions, Secrets(Connections(wiki(server.url))), "who")
        await sessions.close()
        return result["session"]

    assert asyncio.run(main()) != asyncio.run(main())


def test_a_loop_that_ends_without_closing_leaves_nothing_behind(server, recwarn, caplog):
    async def main():
        await _result(McpSessions(), Secrets(Connections(wiki(server.url))), "who")

    asyncio.run(main())
    assert [str(one.message) for one in recwarn] == []
    assert [record.getMessage() for record in caplog.records] == []


def test_the_key_is_in_no_record_trace_error_or_log(server, caplog):
    with caplog.at_level(logging.DEBUG):
        good = call_tool(server.url, "who")
        bad = call_tool(server.url, "fails", {"q": KEY})
    records = [*good.fakes.records, *bad.fakes.records]
    shown = json.dumps([[one.output, one.error, one.calls.lines()] for one in records]) + json.dumps(
        bad.error
    )
    session = good.outputs["a"]["result"]["structuredContent"]["session"]
    assert KEY not in shown
    assert session not in shown
    assert KEY not in "".join(record.getMessage() for record in caplog.records if "fails" not in record.args)


def test_each_call_is_recorded(server):
    ran = call_tool(server.url, "lookup", {"q": "x"})
    (line,) = ran.fakes.record("a").calls.lines()
    assert line.startswith("done: MCP tool lookup of wiki in ")
    ran = call_tool(server.url, "fails", {"q": "x"})
    (line,) = ran.fakes.record("a").calls.lines()
    assert line.startswith("McpToolError: MCP tool fails of wiki in ")


def program(**extra):
    command = {"command": sys.executable, "args": ["-m", "tests.support.mcp_program", "stdio"]}
    return ConnectionSecret(
        "wiki",
        "mcp",
        extra={
            "transport": "stdio",
            **command,
            "env": {"PYTHONPATH": str(ROOT), "WIKI_TOKEN": "planted-token"},
            **extra,
        },
    )


def test_a_program_is_started_only_if_the_setting_allows_it():
    refused = call_tool("", "setting", {"name": "WIKI_TOKEN"}, connections=Connections(program()))
    assert refused.error["errorMessage"] == (
        "extra.transport of connection 'wiki' is \"stdio\", which starts a program on the worker; `[allma] "
        "mcp_stdio` must be True for that. Correct it in Admin > Connections, or where the connection is "
        "defined."
    )
    allowed = EngineSettings(mcp_stdio=True)
    ran = call_tool(
        "", "setting", {"name": "WIKI_TOKEN"}, connections=Connections(program()), settings=allowed
    )
    assert ran.outputs["a"]["result"]["content"][0]["text"] == "planted-token"
    assert "planted" not in str(ran.fakes.records[0].output)


def test_a_program_that_ends_in_the_middle_is_started_again_for_the_next_try():
    async def main():
        secrets, sessions = Secrets(Connections(program())), McpSessions()
        server = await resolve_server(None, "wiki", secrets, allow_stdio=True)
        try:
            with pytest.raises(TransientStepError, match="The connection was closed"):
                await sessions.run(server, secrets, lambda session: session.call_tool("dies", {}))
            return await sessions.run(
                server, secrets, lambda session: session.call_tool("lookup", {"q": "x"})
            )
        finally:
            await sessions.close()

    assert asyncio.run(main())["structuredContent"] == {"q": "x", "top": 3}


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ({"command": "/no/such/program"}, "'/no/such/program' cannot be started (FileNotFoundError)"),
        ({"command": ""}, "extra.command of connection 'wiki' must be the program to start"),
        ({"args": "-m x"}, "extra.args of connection 'wiki' must be a list of strings"),
        ({"env": {"A": 1}}, "extra.env of connection 'wiki' must be an object of strings"),
    ],
)
def test_a_program_that_cannot_be_started_is_an_error_that_names_the_field(extra, reason):
    ran = call_tool("", connections=Connections(program(**extra)), settings=EngineSettings(mcp_stdio=True))
    assert ran.error["errorName"] == "PermanentStepError"
    assert ran.error["errorMessage"].startswith(reason)
