"""MCP servers that do not respond as they should: each failure has its error, and none shows the key."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading

import pytest

from airflow_allma.engine.mcp.mcp_server import resolve_server
from airflow_allma.engine.mcp.mcp_sessions import McpSessions
from airflow_allma.engine.secrets import Secrets
from airflow_allma.exceptions import StepError
from tests.support.mail_steps import Connections
from tests.support.mcp_servers import error_of, result_of, running_mcp_fake
from tests.support.mcp_steps import KEY, call_tool, wiki

ECHO = f"no: {KEY} {'.' * 600}".encode()
HTML = {"Content-Type": "text/html"}
JSON = {"Content-Type": "application/json"}
EVENTS = {"Content-Type": "text/event-stream"}
NOT_FOUND = b'{"jsonrpc": "2.0", "id": 1, "error": {"code": -32600, "message": "Session not found"}}'
CUT = {**JSON, "Content-Length": "1000"}
CUT_EVENTS = {**EVENTS, "Content-Length": "1000"}


@pytest.fixture
def fake():
    with running_mcp_fake() as server:
        yield server


P, T = "PermanentStepError", "TransientStepError"
NO_MESSAGE, CLOSED = "is not a JSON-RPC message", "The connection was closed"
FAILURES = {
    "500": ((500, {}, ECHO), T, "500 (no: *** ...", 500),
    "503 with an error of JSON-RPC": (
        lambda message: error_of(message, -32000, f"busy {KEY}", 503),
        T, "503 (busy ***)", 503,
    ),
    "429": ((429, {"Retry-After": "7"}, b""), T, "429 with an empty body", 429),
    "400": ((400, {}, ECHO), P, "400 (no: *** ...", 400),
    "401": ((401, {}, ECHO), P, "401 (no: *** ...", 401),
    "302": ((302, {"Location": "http://other.test/"}, b""), P, "Redirect to http://other.test/", None),
    "HTML": ((200, HTML, b"<p>" + ECHO), P, "not JSON but text/html (<p>no: *** .", 200),
    "no content type": ((200, {}, b""), P, "not JSON but of no type ()", 200),
    "broken JSON": ((200, JSON, b'{"jsonrpc": ' + ECHO), P, NO_MESSAGE, 200),
    "JSON of another kind": ((200, JSON, b'{"ok": true}'), P, NO_MESSAGE, 200),
    "an accepted request": ((202, {}, b""), P, "202 Accepted", None),
    "a body that is cut": ((200, CUT, b'{"jsonrpc"'), T, "RemoteProtocolError", None),
    "a stream that is cut": ((200, CUT_EVENTS, b"event: message\n"), T, CLOSED, None),
    "a stream of something else": ((200, EVENTS, b"data: {" + ECHO + b"\n\n"), P, NO_MESSAGE, None),
    "a stream that ends": ((200, EVENTS, b""), T, CLOSED, None),
    "an error of JSON-RPC": (
        lambda message: error_of(message, -32602, f"bad {KEY}"),
        P, "refused the call of tool 'find': bad *** (code -32602)", None,
    ),
    "a server's own error with the code of a closed connection": (
        lambda message: error_of(message, -32000, "database is away"),
        P, "database is away (code -32000)", None,
    ),
    "a result of another kind": (
        lambda message: result_of(message, {"content": f"text {KEY}"}),
        P, "is not as the protocol says", None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILURES)
def test_a_failed_call_is_transient_or_permanent_and_shows_no_key(name, fake, caplog):
    answer, kind, words, status = FAILURES[name]
    fake.answers["tools/call"] = answer if callable(answer) else lambda _: answer
    ran = call_tool(fake.url, connections=Connections(wiki(fake.url, extra={"timeout": 5})))
    assert ran.error["errorName"] == kind
    assert words.removesuffix("...") in ran.error["errorMessage"]
    assert "connection 'wiki'" in ran.error["errorMessage"]
    assert ran.error["errorDetails"].get("status") == status
    assert fake.methods().count("tools/call") == (2 if kind == "TransientStepError" else 1)
    assert fake.methods().count("initialize") == 1
    assert KEY not in json.dumps(ran.error)
    assert KEY not in caplog.text
    assert len(ran.error["errorMessage"]) < 1000


@pytest.mark.parametrize("method", ["initialize", "tools/list"])
@pytest.mark.parametrize("name", ["500", "401", "HTML", "a body that is cut", "broken JSON"])
def test_a_handshake_or_list_that_fails_is_the_same_error(name, method, fake):
    answer, kind, words, status = FAILURES[name]
    fake.always(method, answer)
    ran = call_tool(fake.url)
    assert ran.error["errorName"] == kind
    assert words.removesuffix("...") in ran.error["errorMessage"]
    assert ran.error["errorDetails"].get("status") == status
    assert KEY not in json.dumps(ran.error)
    assert fake.methods().count(method) == (2 if kind == "TransientStepError" else 1)


def test_the_server_says_when_to_try_again(fake):
    fake.always("tools/call", FAILURES["429"][0])
    ran = call_tool(fake.url)
    assert ran.fakes.sleeps == [7.0]


def test_each_waiting_step_gets_its_own_error(fake):
    fake.always("initialize", (500, {}, b""))

    async def main():
        secrets, sessions = Secrets(Connections(wiki(fake.url))), McpSessions()
        server = await resolve_server(None, "wiki", secrets, allow_stdio=False)
        calls = (sessions.run(server, secrets, lambda session: session.find_tool("find")) for _ in range(5))
        errors = await asyncio.gather(*calls, return_exceptions=True)
        await sessions.close()
        return errors

    errors = asyncio.run(main())
    assert {type(error).__name__ for error in errors} == {"TransientStepError"}
    assert len({id(error) for error in errors}) == 5
    assert fake.methods().count("initialize") == 1


def test_a_wrong_path_is_an_error_that_says_so(fake):
    fake.always("initialize", (404, {}, b"no such page"))
    ran = call_tool(fake.url)
    assert ran.error["errorName"] == "PermanentStepError"
    assert ran.error["errorMessage"].endswith("/mcp). Check the path of its URL.")


@pytest.mark.parametrize(
    "forgotten",
    [
        (404, {}, b""),
        (
            404,
            JSON,
            b'{"jsonrpc": "2.0", "id": 1, "error": {"code": -32600, "message": "Session not found"}}',
        ),
        (400, {}, b"Bad Request: No valid session ID provided"),
    ],
)
def test_a_forgotten_session_is_replaced_once(forgotten, fake):
    answers = iter([forgotten])
    fake.answers["tools/call"] = lambda message: next(
        answers, result_of(message, {"content": [{"type": "text", "text": "found"}]})
    )
    ran = call_tool(fake.url)
    assert ran.outputs["a"]["result"]["content"][0]["text"] == "found"
    assert fake.methods().count("initialize") == 2
    assert ran.fakes.record("a").tries == 1
    fake.requests.clear()
    fake.always("tools/call", forgotten)
    ran = call_tool(fake.url)
    assert ran.error["errorName"] == "TransientStepError"
    assert fake.methods().count("tools/call") == 4


def test_a_forgotten_session_does_not_end_a_call_in_progress(fake):
    answered = threading.Event()
    answers = iter([(404, {}, b"")])

    def answer(message):
        done = result_of(message, {"content": []})
        if message["params"]["arguments"]["slow"]:
            answered.wait(30)
            return done
        if lost := next(answers, None):
            return lost
        answered.set()
        return done

    fake.answers["tools/call"] = answer

    async def main():
        secrets, sessions = Secrets(Connections(wiki(fake.url))), McpSessions()
        server = await resolve_server(None, "wiki", secrets, allow_stdio=False)

        def call(*, slow):
            return sessions.run(server, secrets, lambda session: session.call_tool("find", {"slow": slow}))

        results = await asyncio.gather(call(slow=True), call(slow=False))
        await sessions.close()
        return results, asyncio.all_tasks() - {asyncio.current_task()}

    results, tasks = asyncio.run(main())
    assert results == [{"content": []}] * 2
    assert tasks == set()
    assert fake.methods().count("initialize") == 2
    assert fake.methods().count("tools/call") == 3
    assert fake.methods().count("DELETE") == 2


def test_a_session_that_is_forgotten_before_the_list_is_replaced(fake):
    answers = iter([(404, {}, b"")])
    fake.answers["tools/list"] = lambda message: next(answers, result_of(message, {"tools": fake.tools}))
    assert call_tool(fake.url).status == "COMPLETED"
    assert fake.methods().count("initialize") == 2


def test_a_method_that_a_server_does_not_know_is_not_a_forgotten_session(fake):
    fake.answers["tools/call"] = lambda message: error_of(message, -32601, "Method not found", 404)
    ran = call_tool(fake.url)
    assert ran.error["errorName"] == "PermanentStepError"
    assert fake.methods().count("initialize") == 1


def test_a_refused_connection_is_a_transient_error():
    ran = call_tool("http://127.0.0.1:9/mcp")
    assert ran.error["errorName"] == "TransientStepError"
    assert ran.error["errorMessage"].startswith("No answer (ConnectError")
    assert ran.fakes.record("a").tries == 2


def test_a_server_that_never_answers_the_handshake_does_not_hang(fake):
    def never(message):
        del message
        return 200, {**EVENTS, "Transfer-Encoding": "chunked"}, b""

    fake.answers["initialize"] = never
    ran = call_tool(fake.url, customConfig={"timeoutMs": 300})
    assert ran.error["errorMessage"].startswith("No answer within 0.3 seconds")


def test_a_tool_without_a_schema_is_called_unchecked_and_others_are_checked(fake):
    fake.tools = [
        {"name": "any"},
        {"name": "find", "inputSchema": {"type": "object", "required": ["q"]}},
    ]
    assert call_tool(fake.url, "any", {"x": 1}).status == "COMPLETED"
    ran = call_tool(fake.url, "find", {"x": 1})
    assert ran.error["errorDetails"]["reasons"] == ["$: 'q' is a required property"]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nonsense"},
        {"type": "object", "properties": {"x": {"$ref": "#/nothing"}}},
        {"type": "object", "properties": {"x": {"$ref": "https://other.test/schema"}}},
        {"type": "object", "properties": {"x": {"pattern": "(a+)+$"}}},
        {"type": "object", "properties": {"x": {"pattern": "\\p{L}"}}},
        {"$ref": "#"},
        {"type": "object", "description": "." * 300_000},
    ],
)
def test_a_schema_that_cannot_be_checked_does_not_prevent_the_call(schema, fake):
    fake.tools = [{"name": "find", "inputSchema": {"type": "object", **schema}}]
    assert call_tool(fake.url, "find", {"x": "a" * 40 + "!"}).status == "COMPLETED"


def test_a_server_that_cannot_list_its_tools_is_called_unchecked(fake):
    fake.answers["tools/list"] = lambda message: error_of(message, -32601, "Method not found")
    assert call_tool(fake.url, "other", {"x": 1}).status == "COMPLETED"


def test_the_list_of_tools_is_read_over_its_pages(fake):
    def page(message):
        number = int(message.get("params", {}).get("cursor", "0"))
        more = {"nextCursor": str(number + 1)} if number < 3 else {}
        return result_of(message, {"tools": [{"name": f"t{number}", "inputSchema": {}}], **more})

    fake.answers["tools/list"] = page
    assert call_tool(fake.url, "t3").status == "COMPLETED"
    ran = call_tool(fake.url, "x")
    assert "Its tools are 't0', 't1', 't2', 't3'." in ran.error["errorMessage"]


def test_an_endless_list_of_tools_is_read_up_to_a_limit(fake):
    fake.answers["tools/list"] = lambda message: result_of(message, {"tools": [], "nextCursor": "again"})
    assert call_tool(fake.url, "other").status == "COMPLETED"
    assert fake.methods().count("tools/list") == 2


def test_a_tool_that_is_new_is_found_by_a_second_list(fake):
    async def main():
        secrets, sessions = Secrets(Connections(wiki(fake.url))), McpSessions()
        server = await resolve_server(None, "wiki", secrets, allow_stdio=False)

        async def find(name):
            return await sessions.run(server, secrets, lambda session: session.find_tool(name))

        try:
            await find("find")
            await find("find")
            fake.tools.append({"name": "new", "inputSchema": {}})
            assert (await find("new")).name == "new"
            with pytest.raises(StepError, match="Tool 'none' does not exist"):
                await find("none")
        finally:
            await sessions.close()

    asyncio.run(main())
    assert fake.methods().count("tools/list") == 3


def test_no_stream_of_the_servers_own_messages_is_opened_and_the_session_is_ended(fake):
    call_tool(fake.url)
    assert "GET" not in fake.methods()
    assert fake.methods()[-1] == "DELETE"


def test_the_arguments_are_sent_as_they_are(fake):
    call_tool(fake.url, "find", {"a.b": [1, None, {"c": "ü"}], "d": 1.5})
    (body,) = [body for body in fake.bodies if body["method"] == "tools/call"]
    assert body["params"] == {"name": "find", "arguments": {"a": {"b": [1, None, {"c": "ü"}]}, "d": 1.5}}


def test_without_the_package_a_step_says_what_to_install(fake, monkeypatch):
    monkeypatch.setitem(sys.modules, "mcp", None)
    monkeypatch.delitem(sys.modules, "airflow_allma.engine.mcp.mcp_client", raising=False)
    ran = call_tool(fake.url)
    assert ran.error["errorName"] == "PermanentStepError"
    assert ran.error["errorMessage"].endswith("Install airflow-allma[mcp] on the workers.")


def test_the_id_of_a_session_is_not_logged(fake, caplog):
    with caplog.at_level(logging.DEBUG):
        assert call_tool(fake.url).status == "COMPLETED"
    assert "session-" not in caplog.text
