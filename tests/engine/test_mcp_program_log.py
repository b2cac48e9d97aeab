"""Standard error of programs that are MCP servers: in the log, and in the error of a program that ends."""

from __future__ import annotations

import asyncio
import logging
import sys
import textwrap
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_allma.common.secret_sources import ConnectionSecret
from airflow_allma.engine import EngineSettings
from airflow_allma.engine.mcp.mcp_server import McpServer
from airflow_allma.engine.mcp.program_log import MAX_LOGGED, ProgramLog
from airflow_allma.engine.secret_masks import SecretMasks
from tests.support.engine import Fakes
from tests.support.mail_steps import Connections
from tests.support.mcp_steps import call_tool

ROOT = Path(__file__).parents[1] / ".."
"""Written so that no other path begins with it: values of a program's environment are masked."""
KEY = "planted-token-4711"
PEM = "-----BEGIN KEY-----\nplanted-line-1\nplanted-line-2"
SERVER = McpServer("wiki", command=("a-program",))


def call_program(code, tool="lookup", args=(), **fields):
    """Call a tool of a program, which is Python code, with one try."""
    extra = {
        "transport": "stdio",
        "command": sys.executable,
        "args": ["-c", textwrap.dedent(code), *args],
        "env": {"PYTHONPATH": str(ROOT), "TOKEN": KEY, "PEM": PEM},
    }
    connections = Connections(ConnectionSecret("wiki", "mcp", extra=extra))
    settings = EngineSettings(mcp_stdio=True, transient_tries=1)
    return call_tool("", tool, {"q": "x"}, connections=connections, settings=settings, **fields)


ENDS = """
    import os, sys
    for number in range(20):
        print("line", number, file=sys.stderr)
    print("No module named 'x'", os.environ["TOKEN"], "\x1b[31m", file=sys.stderr)
    print(os.environ["PEM"], file=sys.stderr)
    sys.stderr.write("the end")
    sys.exit(3)
"""


def test_a_program_that_ends_at_once_fails_the_step_with_its_last_lines(caplog):
    caplog.set_level(logging.INFO)
    ran = call_program(ENDS)
    assert ran.error["errorName"] == "TransientStepError"
    assert ran.error["errorMessage"] == (
        f"The connection was closed, no answer from the MCP server of connection 'wiki' ({sys.executable}). "
        "Its last lines on standard error: No module named 'x' *** [31m / *** / *** / *** / the end"
    )
    assert "line 7 (standard error of the MCP server of connection 'wiki')" in caplog.messages
    assert "planted" not in caplog.text


@pytest.mark.parametrize(
    "args",
    [
        ["--api-key", "planted-1"],
        ["--token=planted-1"],
        ["--header", "Authorization: Bearer planted-1"],
        ["--header", "X-Api-Key:planted-1"],
    ],
)
def test_arguments_that_look_secret_are_masked(args):
    ran = call_program("import sys; sys.exit('unknown: ' + ' '.join(sys.argv[1:]))", args=args)
    assert ran.error["errorMessage"].endswith("***")
    assert "planted" not in ran.error["errorMessage"]
    assert "unknown: --" in ran.error["errorMessage"]


def test_a_program_that_ends_in_a_call_fails_the_step_with_its_last_lines():
    code = """
        import sys, os
        from tests.support.mcp_program import SERVER
        @SERVER.tool()
        def stop(q: str) -> str:
            print("out of memory", file=sys.stderr, flush=True)
            os._exit(1)
        SERVER.run(transport="stdio")
    """
    ran = call_program(code, "stop")
    assert ran.error["errorMessage"].endswith("Its last lines on standard error: out of memory")


def test_a_program_that_writes_nothing_fails_the_step_with_the_name_of_the_program_alone():
    ran = call_program("import sys; sys.exit(3)")
    assert ran.error["errorMessage"].endswith(f"connection 'wiki' ({sys.executable}).")


def test_a_child_that_keeps_standard_error_open_does_not_hold_the_step_up():
    code = """
        import subprocess, sys
        print("started a child", file=sys.stderr, flush=True)
        subprocess.Popen(["sleep", "30"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    """
    started = time.monotonic()
    ran = call_program(code)
    assert ran.error["errorMessage"].endswith("Its last lines on standard error: started a child")
    assert time.monotonic() - started < 20


def test_a_program_that_writes_much_to_standard_error_is_not_held_up(caplog):
    caplog.set_level(logging.INFO)
    code = """
        import sys
        from tests.support.mcp_program import SERVER
        for number in range(3000):
            print("line", number, "x" * 1000, file=sys.stderr)
        SERVER.run(transport="stdio")
    """
    fakes = Fakes()
    ran = call_program(code, fakes=fakes)
    assert ran.status == "COMPLETED", ran.error
    lines = [message for message in caplog.messages if "(standard error of" in message]
    assert len(lines) == MAX_LOGGED + 1
    assert max(map(len, lines)) < 600
    assert lines[-1].startswith("Further lines are logged at level DEBUG")


def masks_of(*secrets):
    masks = SecretMasks()
    masks.add(secrets)
    return masks


@given(
    st.lists(st.text(alphabet="ab \r\x00é", max_size=12), max_size=12), st.integers(min_value=1, max_value=7)
)
def test_lines_are_found_in_chunks_of_any_size(lines, size):
    log = ProgramLog(SERVER, masks_of())
    data = "\n".join(lines).encode()
    for start in range(0, len(data), size):
        log.data_received(data[start : start + size])
    log.connection_lost(None)
    shown = [" ".join(line.split()).replace("\x00", "") for line in lines]
    assert log.last_lines() == [line for line in shown if line.strip()][-5:]


def test_a_line_without_an_end_is_cut_and_the_secret_at_the_cut_is_masked():
    log = ProgramLog(SERVER, masks_of(KEY))
    for _ in range(10_000):
        log.data_received(b" " * 997 + KEY.encode())
    log.data_received(b"\nnext\n")
    first, second = log.last_lines()
    assert (len(first) <= 500, second) == (True, "next")
    assert "planted" not in first
    assert "***" in first


def test_lines_after_the_first_hundred_are_logged_at_level_debug(caplog):
    caplog.set_level(logging.DEBUG)
    log = ProgramLog(SERVER, masks_of())
    for number in range(MAX_LOGGED + 5):
        log.data_received(b"line %d\n" % number)
    levels = [record.levelno for record in caplog.records]
    assert levels == [logging.INFO] * (MAX_LOGGED + 1) + [logging.DEBUG] * 5


def test_waiting_for_the_end_is_bounded():
    async def main():
        await asyncio.wait_for(ProgramLog(SERVER, masks_of()).ended(0.01), 5)

    asyncio.run(main())
