"""How a request is sent, beyond its own parts: TLS, time to connect, and which headers are secret."""

from __future__ import annotations

import functools
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from airflow_allma.exceptions import PermanentStepError

__all__ = ["DEFAULT_OPTIONS", "HttpOptions"]


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """Options of one request.

    Attributes:
        verify: whether the server's certificate must be trusted; a path: by this file or folder of
            certificates.
        cert: files of the client's certificate and of its key; the key can be in the first file.
        connect_seconds: limit of the time until a connection is open; None: only that of the whole request.
        secret_headers: lower-case names of headers that no other host gets after a redirect.
    """

    verify: bool | str = True
    cert: tuple[str, str | None] | None = None
    connect_seconds: float | None = None
    secret_headers: frozenset[str] = frozenset()

    def for_other_host(self) -> HttpOptions:
        """Return the options after a redirect to another host: it gets no certificate, and must have one."""
        return replace(self, verify=True, cert=None)

    def tls(self) -> ssl.SSLContext | bool:
        """Return what the client library calls ``ssl``. Contexts are kept until their files change.

        Raises:
            PermanentStepError: a file cannot be read, or is not what it should be.
        """
        if self.cert is None and isinstance(self.verify, bool):
            return self.verify
        files = [self.verify] if isinstance(self.verify, str) else []
        files += [file for file in self.cert or () if file]
        return _context(self.verify, self.cert, tuple(map(_modified, files)))


DEFAULT_OPTIONS: Final = HttpOptions()


def _modified(file: str) -> float:
    try:
        return Path(file).stat().st_mtime
    except OSError as error:
        raise _unreadable(file, error) from None


@functools.lru_cache(maxsize=32)
def _context(
    verify: bool | str,
    cert: tuple[str, str | None] | None,
    modified: tuple[float, ...],  # noqa: ARG001 - a part of the cache's key
) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if isinstance(verify, str):
        is_folder = Path(verify).is_dir()
        try:
            # These certificates alone, as in requests.
            context = ssl.create_default_context(
                cafile=None if is_folder else verify, capath=verify if is_folder else None
            )
        except OSError as error:
            raise _unreadable(verify, error) from None
    elif not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if cert is not None:
        try:
            # Without a password OpenSSL would ask for one on the terminal.
            context.load_cert_chain(*cert, password=b"")
        except OSError as error:
            raise _unreadable(cert[0], error) from None
    return context


def _unreadable(file: str, error: OSError) -> PermanentStepError:
    reason = error.strerror or type(error).__name__
    details: Mapping[str, str] = {"file": file}
    return PermanentStepError(
        f"{file}, which the connection's extra names for TLS, cannot be used: {reason}. It must be a PEM "
        "file that the worker can read.",
        details=details,
    )
