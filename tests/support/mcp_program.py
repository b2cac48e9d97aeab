"""An MCP server made with the SDK, as a program: ``python -m tests.support.mcp_program stdio|http PORT``."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError

SERVER = MCPServer("tests", log_level="ERROR")
_PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010804000000b51c0c020000000b4944415478da6364f8"
    "0f00010501012718e3660000000049454e44ae426082"
)


@SERVER.tool()
def lookup(q: str, top: int = 3) -> dict[str, Any]:
    """Look something up.

    The second line is not shown in lists.
    """
    return {"q": q, "top": top}


@SERVER.tool()
def fails(q: str) -> str:
    """Fail."""
    raise ToolError(f"tool says no to {q}")


@SERVER.tool()
async def slow(seconds: float = 60.0) -> str:
    """Wait."""
    await asyncio.sleep(seconds)
    return "waited"


@SERVER.tool()
def dies() -> str:
    """End the server in the middle of the call."""
    os.kill(os.getpid(), signal.SIGKILL)
    return "never"


@SERVER.tool()
def pixel() -> Image:
    """Return an image."""
    return Image(data=_PIXEL, format="png")


@SERVER.tool()
def who(context: Context[Any, Any]) -> dict[str, Any]:
    """Return the session and the credentials of the request."""
    request = context.request_context.request
    headers = dict(request.headers) if request is not None else {}
    return {"session": headers.get("mcp-session-id", ""), "authorization": headers.get("authorization", "")}


@SERVER.tool()
def setting(name: str) -> str:
    """Return an environment variable of the server."""
    return os.environ.get(name, "")


def main(transport: str, port: str = "0") -> None:
    if transport == "stdio":
        SERVER.run(transport="stdio")
        return
    import uvicorn

    app = SERVER.streamable_http_app(json_response=transport == "json")
    uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="error", timeout_graceful_shutdown=1)


if __name__ == "__main__":
    main(*sys.argv[1:])
