"""`python -m demo.model_servers --port 0`: serve fake models and print the server's URL."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
from collections.abc import Callable
from pathlib import Path

from demo.model_servers.behaviour import parse_behaviours
from demo.model_servers.running import serve_forever
from demo.model_servers.server import ModelService


def main() -> None:
    """Serve until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m demo.model_servers", description="Serve fake models.")
    parser.add_argument("--port", type=int, default=0, help="0 for any free port (default)")
    parser.add_argument("--behaviours", type=Path, help="JSON file: model -> behaviour; * for all others")
    parser.add_argument("--key", help="the only API key that is accepted (default: any)")
    parser.add_argument("--keep", type=int, default=1000, help="requests kept for GET /requests")
    arguments = parser.parse_args()
    behaviours = parse_behaviours(arguments.behaviours.read_bytes()) if arguments.behaviours else None
    with contextlib.suppress(asyncio.CancelledError, KeyboardInterrupt):
        service = ModelService(behaviours, key=arguments.key, keep=arguments.keep)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve(service, arguments.port))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        # A request takes a fifth less time; benchmarks share the processor with the server.
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _serve(service: ModelService, port: int) -> None:
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await serve_forever(service, port)


if __name__ == "__main__":
    main()
