"""``airflow-allma events``: what the flows of a running Airflow wait for, and events for them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import typer

from airflow_allma.cli.json_options import UsageError, read_object
from airflow_allma.common.printable import printable
from airflow_allma.exceptions import AllmaError

__all__ = ["AirflowServer", "list_waits", "resume_wait"]

_PAGE: Final = 100
_TIMEOUT_SECONDS: Final = 60
_HEADINGS: Final = ("WAITS SINCE", "UNTIL", "KEY", "DAG", "RUN", "STEP")
_SHOWN_ANSWER: Final = 300


class _ServerError(AllmaError):
    """The API server did not answer, or refused."""


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


def list_waits(server: AirflowServer, *, dag_id: str | None, key: str, as_json: bool) -> int:
    """Print what waits, the longest waits first.

    Returns:
        The exit code: 0, 1 if the API server did not answer or refused, 2 if the call is not valid.
    """

    async def work(ask: _Ask) -> None:
        query = {"key": key, "limit": str(_PAGE)} | ({} if dag_id is None else {"dagId": dag_id})
        found: list[dict[str, Any]] = []
        while True:
            page = await ask("GET", "allma/waits", query | {"offset": str(len(found))}, None)
            found += page["waits"]
            if not page["waits"] or len(found) >= page["total"]:
                break
        if as_json:
            typer.echo(json.dumps(found))
        else:
            typer.echo(_table(found) if found else "Nothing waits.")

    return _run(server, work)


def resume_wait(server: AirflowServer, key: str, payload: str) -> int:
    """Send an event, and print what became of it.

    Returns:
        The exit code: 0, 1 if the event was refused, 2 if the call is not valid.
    """

    async def work(ask: _Ask) -> None:
        body = {"correlationValue": key, "payload": read_object(payload, "--payload")}
        typer.echo(json.dumps(await ask("POST", "allma/resume", {}, body)))

    return _run(server, work)


_Ask = Callable[[str, str, Mapping[str, str], Any], Any]


def _run(server: AirflowServer, work: Callable[[_Ask], Any]) -> int:
    try:
        server.check()
        asyncio.run(_with_session(server, work))
    except UsageError as error:
        typer.echo(f"error: {error}", err=True)
        return 2
    except _ServerError as error:
        typer.echo(f"error: {error}", err=True)
        return 1
    return 0


async def _with_session(server: AirflowServer, work: Callable[[_Ask], Any]) -> None:
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
                raise _ServerError(f"No answer from {base}{path}: {printable(reason)}") from error

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
    raise _ServerError(f"{status} from {url}: {reason}")


def _table(waits: list[dict[str, Any]]) -> str:
    rows = [_HEADINGS, *(_row(wait) for wait in waits)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _row(wait: Mapping[str, Any]) -> tuple[str, ...]:
    place = [wait["step"]]
    if wait["branch"] is not None:
        place.append(f"branch {wait['branch']}")
    if wait["item"] is not None:
        place.append(f"item {wait['item']}")
    cells = (wait["key"], wait["dagId"], wait["runId"], ", ".join(place))
    return (_time(wait["since"]), _time(wait["until"]), *(printable(str(cell)) for cell in cells))


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
