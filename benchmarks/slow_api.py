"""An API that answers every GET after a fixed time, and counts concurrent requests."""

from __future__ import annotations

import argparse
import asyncio
import json

from aiohttp import web


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--milliseconds", type=float, required=True)
    arguments = parser.parse_args()
    seconds = arguments.milliseconds / 1000
    in_flight = max_in_flight = calls = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal in_flight, max_in_flight, calls
        calls += 1
        in_flight += 1
        max_in_flight = max(max_in_flight, in_flight)
        await asyncio.sleep(seconds)
        in_flight -= 1
        return _json({"userId": request.match_info["id"], "plan": "pro"})

    async def counts(_: web.Request) -> web.Response:
        nonlocal max_in_flight, calls
        response = _json({"max_in_flight": max_in_flight, "calls": calls})
        max_in_flight = calls = 0
        return response

    app = web.Application()
    app.router.add_get("/users/{id}", answer)
    app.router.add_get("/counts", counts)
    web.run_app(app, host="127.0.0.1", port=arguments.port, print=None, access_log=None)


def _json(value: object) -> web.Response:
    return web.Response(text=json.dumps(value), content_type="application/json")


if __name__ == "__main__":
    main()
