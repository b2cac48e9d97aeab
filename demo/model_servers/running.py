"""Running servers: in a thread of this process, or as a process of their own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from demo.model_servers.behaviour import Behaviour
from demo.model_servers.request_log import LoggedRequest
from demo.model_servers.server import ModelService
from demo.servers import LocalServer

__all__ = ["ModelServer", "models_process", "running_models", "serve_forever"]


class ModelServer:
    """A server in a thread of this process.

    Attributes:
        url: without a trailing slash.
        service: what answers the requests.
    """

    def __init__(self, url: str, service: ModelService, loop: asyncio.AbstractEventLoop) -> None:
        self.url = url
        self.service = service
        self._loop = loop

    def configure(self, **behaviours: Behaviour) -> None:
        """Set the behaviours of some models."""
        self.configure_all(behaviours)

    def configure_all(self, behaviours: Mapping[str, Behaviour]) -> None:
        """Set the behaviours of some models, whose names can be any."""
        self._call(lambda: self.service.configure(behaviours))

    @property
    def requests(self) -> list[LoggedRequest]:
        """The last requests, oldest first."""
        found: list[LoggedRequest] = self._call(lambda: list(self.service.log.requests))
        return found

    @property
    def stats(self) -> Mapping[str, Any]:
        """The counts, as ``GET /stats`` has them."""
        found: Mapping[str, Any] = self._call(self.service.log.stats)
        return found

    def clear(self) -> None:
        """Forget all requests."""
        self._call(self.service.log.clear)

    def _call(self, work: Any) -> Any:
        async def run() -> Any:
            return work()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(timeout=30)


@contextmanager
def running_models(
    behaviours: Mapping[str, Behaviour] | None = None, *, key: str | None = None, keep: int = 1000
) -> Iterator[ModelServer]:
    """Run a server in a thread, on a free loopback port.

    Args:
        behaviours: model -> behaviour; None: all models answer ``OK``.
        key: the only key that is accepted; None: any key is.
        keep: how many requests are kept.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="model-servers", daemon=True)
    thread.start()
    try:
        service = ModelService(behaviours, key=key, keep=keep)
        runner, port = asyncio.run_coroutine_threadsafe(_start(service, 0), loop).result(timeout=30)
        try:
            yield ModelServer(f"http://127.0.0.1:{port}", service, loop)
        finally:
            asyncio.run_coroutine_threadsafe(_end(service, runner), loop).result(timeout=30)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=30)
        loop.close()


async def _start(service: ModelService, port: int) -> tuple[web.BaseRunner, int]:
    # The low-level server: a router and middlewares would take a third of the time of a request.
    runner = web.ServerRunner(web.Server(service.handle, access_log=None), shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
    return runner, runner.addresses[0][1]


async def _end(service: ModelService, runner: web.BaseRunner) -> None:
    service.stop()
    await runner.cleanup()


async def serve_forever(service: ModelService, port: int) -> None:
    """Serve until the task is cancelled, and print the server's URL."""
    runner, port = await _start(service, port)
    print(f"http://127.0.0.1:{port}", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        await _end(service, runner)


def models_process(
    home: Path, behaviours: Mapping[str, Behaviour], *, keep: int = 0, name: str = "models"
) -> LocalServer:
    """Return a server that runs as a process of its own; its log and settings are in `home`/logs."""
    file = home / "logs" / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(msgspec.json.encode(behaviours))
    # LocalServer formats its arguments
    path = str(file).replace("{", "{{").replace("}", "}}")
    arguments = ["--port", "{port}", "--behaviours", path, "--keep", str(keep)]
    return LocalServer(name, "demo.model_servers", arguments, home=home, ready="/health")
