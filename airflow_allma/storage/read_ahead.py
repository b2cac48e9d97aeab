"""Fetches the next block in a thread while the caller works on the last one."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor

__all__ = ["read_ahead"]


def read_ahead(blocks: Generator[bytes, None, None]) -> Generator[bytes, None, None]:
    """Yield the same blocks, while the next one is already being fetched.

    Memory is bounded by two blocks. An error is raised in place of its block. Closing this generator waits
    for the block that is being fetched, then closes ``blocks``.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as pool:
        pending = pool.submit(next, blocks, None)
        try:
            while (block := pending.result()) is not None:
                pending = pool.submit(next, blocks, None)
                yield block
        finally:
            # A generator cannot be closed while it runs in the other thread.
            pending.exception()
            blocks.close()
