"""Requests of the command line to the API server of a running Airflow."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import typer

from airflow_allma.cli.json_options import UsageError
from airflow_allma.common.printable import printable
from airflow_allma.exceptions import AllmaError

__all__ = ["AirflowServer", "Ask", "ServerError", "ask_server"]

_TIMEOUT_SECONDS: Final = 60
_SHOWN_ANSWER: Final = 300


class ServerError(AllmaError):
    """The API server did not answer, or refused.

    Attributes:
        status: the HTTP status of the answer; 0 without an answer.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class AirflowServer:
    """How to reach an Airflow.

    Attributes:
        url: the address of the API server, as in a browser.
        token: a token of a user; "" to sign in with the next two.
        user: a user's name.
        password: the user's password.
    """

    url: str
    token: str = ""
    user: str = ""
    password: str = ""

    def check(self) -> None:
        """Raise UsageError if something is missing."""
        if not self.url.startswith(("http://", "https://")):
            raise UsageError(
                "Give the address of Airflow's API server, such as https://airflow.example.com: --url, or "
                "AIRFLOW_API_URL in the environment"
            )
        if not self.token and not (self.user and self.password):
            raise UsageError(
                "Set AIRFLOW_API_TOKEN in the environment, or AIRFLOW_API_USER and AIRFLOW_API_PASSWORD"
            )


Ask = Callable[[str, str, Mapping[str, str], Any], Any]
"""Sends a request: method, path, query and JSON body; awaited, it returns the answer, a JSON object."""


def ask_server(server: AirflowServer, work: Callable[[Ask], Any]) -> int:
    """Do some work with an API server, signed in.

    Args:
        server: how to reach it.
        work: a coroutine function that gets what sends requests.

    Returns:
        The exit code: 0, 1 if the API server did not answer or refused, 2 if the call is not valid.
    """
    try:
        server.check()
        asyncio.run(_with_session(server, work))
    except UsageError as error:
        typer.echo(f"error: {error}", err=True)
        return 2
    except ServerError as error:
        typer.echo(f"error: {error}", err=True)
        return 1
    return 0


async def _with_session(server: AirflowServer, work: Callable[[Ask], Any]) -> None:
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
    base = server.url.rstrip("/") + "/"
    token = server.token

    async with aiohttp.ClientSession(timeout=timeout, trust_env=True) as session:

        async def ask(method: str, path: str, query: Mapping[str, str], body: Any) -> Any:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            try:
                # A redirect could take the token to another server.
                async with session.request(
                    method, base + path, params=query, json=body, headers=headers, allow_redirects=False
                ) as response:
                    return _read(response.status, await response.read(), base + path)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                reason = str(error) or type(error).__name__
                raise ServerError(f"No answer from {base}{path}: {printable(reason)}") from error

        if not token:
            sign_in = {"username": server.user, "password": server.password}
            token = (await ask("POST", "auth/token", {}, sign_in))["access_token"]
        await work(ask)


def _read(status: int, body: bytes, url: str) -> Any:
    try:
        read = json.loads(body)
    except ValueError:
        read = None
    if isinstance(read, dict) and status < 300:
        return read
    detail = read.get("detail") if isinstance(read, dict) else body.decode("utf-8", "replace")
    reason = printable(str(detail)[:_SHOWN_ANSWER])
    raise ServerError(f"{status} from {url}: {reason}", status)
