"""What the plugin registers in Airflow's API server; every process that loads plugins imports this module.

So it imports neither FastAPI nor Airflow: the application is made by the first request, and the waker starts
with the server.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from airflow_allma import __version__

__all__ = ["EXTERNAL_VIEWS", "FASTAPI_APPS", "REACT_APPS", "ROOT_MIDDLEWARES", "LazyApp", "WakerMiddleware"]

_LOG: Final = logging.getLogger("airflow_allma.server")
_UNAVAILABLE: Final = b'{"detail": "airflow-allma could not be loaded in this API server; its log says why"}'

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


class LazyApp:
    """An ASGI application that is imported by its first request; 503 if that fails.

    Args:
        module: the module that has ``create_app``.
    """

    def __init__(self, module: str) -> None:
        self._module = module
        self._app: App | None = None
        self._lock = asyncio.Lock()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if self._app is None:
            async with self._lock:
                if self._app is None:
                    self._app = await asyncio.to_thread(self._load)
        await self._app(scope, receive, send)

    def _load(self) -> App:
        try:
            app: App = importlib.import_module(self._module).create_app()
        except Exception:  # noqa: BLE001 - whatever it is, Airflow's own routes must go on
            _LOG.exception("The routes below /allma are not available")
            return _answer_unavailable
        return app


async def _answer_unavailable(scope: Message, receive: Receive, send: Send) -> None:
    del scope, receive
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": _UNAVAILABLE})


class WakerMiddleware:
    """Starts the waker with the API server and stops it with it; passes everything on.

    A middleware, since Airflow runs no other code of a plugin in the API server alone.

    Args:
        app: Airflow's application.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        waker = await asyncio.to_thread(_started_waker)
        try:
            await self._app(scope, receive, send)
        finally:
            if waker is not None:
                await asyncio.to_thread(waker.stop)


def _started_waker() -> Any:
    try:
        waker = importlib.import_module("airflow_allma.server.waker").Waker()
        waker.start()
    except Exception:  # noqa: BLE001 - as above
        _LOG.exception("The waker did not start: waiting flows go on only at their deadlines")
        return None
    return waker


FASTAPI_APPS: Final[list[dict[str, Any]]] = [
    {"app": LazyApp("airflow_allma.server.web_app"), "url_prefix": "/allma", "name": "Allma flows"}
]
ROOT_MIDDLEWARES: Final[list[dict[str, Any]]] = [{"middleware": WakerMiddleware, "name": "Allma waker"}]
EXTERNAL_VIEWS: Final[list[dict[str, Any]]] = [
    {
        "name": "Allma waits",
        "href": "allma/events",
        "url_route": "allma-waits",
        "destination": "nav",
        "category": "browse",
    }
]

_BUNDLE: Final = f"allma/static/{__version__}/host-react.js"
"""Without a leading slash: Airflow may be below a path. The version makes browsers load new files."""
_PAGES: Final = (
    ("Allma flows", "nav", "allma-flows"),
    ("Allma flow", "dag", "allma-flow"),
    ("Allma run", "dag_run", "allma-run"),
    ("Allma items", "task_instance", "allma-items"),
)
"""Name (static/ui/host-react.js has the same ones), where Airflow shows it, and the end of its address."""
REACT_APPS: Final[list[dict[str, Any]]] = [
    {"name": name, "bundle_url": _BUNDLE, "destination": destination, "url_route": route}
    | ({"category": "browse"} if destination == "nav" else {})
    for name, destination, route in _PAGES
]
