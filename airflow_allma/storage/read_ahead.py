"""Fetching the next block in a thread while the last one is worked on."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor

__all__ = ["read_ahead"]


def read_ahead(blocks: Generator[bytes, None, None]) -> Generator[bytes, None, None]:
    """The same blocks, with one more always on its way.

    At most two blocks are held. Errors come where the block would have come. Closing this iterator waits for
    the block on its way, then closes ``blocks``.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as pool:
        coming = pool.submit(next, blocks, None)
        try:
            while (block := coming.result()) is not None:
                coming = pool.submit(next, blocks, None)
                yield block
        finally:
            # A generator cannot be closed while it runs in the other thread.
            coming.exception()
            blocks.close()
