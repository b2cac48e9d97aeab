"""HTTP servers of the standard library, served by a thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer

__all__ = ["served"]


@contextmanager
def served(server: ThreadingHTTPServer) -> Iterator[None]:
    """Serve requests until the end of the block, and close the server."""
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
