"""A server on loopback that answers as tests of the HTTP client need it."""

from __future__ import annotations

import asyncio
import gzip

from aiohttp import web

from airflow_allma.engine.http import AiohttpClient


class Server:
    """A server that counts connections and records requests."""

    def __init__(self):
        self.url = ""
        self.connections = set()
        self.requests = []
        self.in_flight = 0
        self.max_in_flight = 0
        self.release = asyncio.Event()
        self.status, self.body, self.encoding, self.location = 200, b"", "", ""

    async def handle(self, request):
        self.connections.add(request.transport.get_extra_info("peername"))
        self.requests.append((request.method, request.raw_path, dict(request.headers), await request.read()))
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            return await self.answer(request)
        finally:
            self.in_flight -= 1

    async def answer(self, request):
        match request.path:
            case "/hang":
                await self.release.wait()
            case "/slow":
                await asyncio.sleep(0.02)
            case "/cut":
                request.transport.close()
            case path if path.startswith("/status/"):
                return web.Response(status=int(path.rpartition("/")[2]), text="said so")
        return self.responses().get(request.path) or web.Response(text="ok")

    def responses(self):
        encoded, redirect = {"Content-Encoding": self.encoding}, {"Location": self.location}
        return {
            "/twice": web.Response(headers=[("X-A", "1"), ("X-A", "2"), ("Set-Cookie", "c=1")]),
            "/gzip": web.Response(body=gzip.compress(b"x" * 100_000), headers={"Content-Encoding": "gzip"}),
            "/big": web.Response(body=b"x" * 10_001),
            "/encoded": web.Response(body=self.body, status=self.status, headers=encoded),
            "/redirect": web.Response(status=self.status, headers=redirect),
            "/moved": web.Response(status=302, headers={"Location": "/there?token=hidden"}),
            "/round": web.Response(status=302, headers={"Location": "/round"}),
            "/mail": web.Response(status=302, headers={"Location": "mailto:x@y"}),
        }


def with_server(scenario, client=None, tls=None):
    """Start a server, run ``scenario(server, client)``, and close everything."""

    async def main():
        server = Server()
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", server.handle)
        runner = web.AppRunner(app, shutdown_timeout=0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        server.url = f"http{'s' if tls else ''}://127.0.0.1:{runner.addresses[0][1]}"
        used = client or AiohttpClient()
        try:
            return await scenario(server, used)
        finally:
            server.release.set()
            await used.close()
            await runner.cleanup()

    return asyncio.run(main())


def get(client, url, method="GET", *, headers=None, body=None, timeout=30.0):
    return client.request(method, url, headers=headers or {}, body=body, timeout=timeout)
