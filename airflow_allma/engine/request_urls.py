"""The URLs of requests as the HTTP library wants them, made quickly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from yarl import URL

__all__ = ["RequestUrls"]

_SCHEMES: Final = ("http://", "https://")
_MAX_ORIGINS: Final = 64
_LONGEST_SCHEME: Final = len("https://")


class RequestUrls:
    """Makes URLs of the library; not safe to share between threads.

    Parsing a URL takes much longer than giving the parsed origin of another one a path, and the requests of
    a fork nearly always have one origin.
    """

    def __init__(self) -> None:
        self._origins: dict[str, URL | None] = {}

    def of(self, url: str) -> URL:
        """Return a URL that is sent as it is.

        Args:
            url: absolute and percent-encoded.

        Raises:
            ValueError: it is not a URL.
        """
        slash = url.find("/", _LONGEST_SCHEME)
        if slash > 0:
            path = url[slash:]
            # The parser removes control characters.
            if "?" not in path and "#" not in path and path.isprintable():
                prefix = url[:slash]
                try:
                    origin = self._origins[prefix]
                except KeyError:
                    origin = self._learn(prefix)
                if origin is not None:
                    return origin.with_path(path, encoded=True)
        return _parsed(url)

    def _learn(self, prefix: str) -> URL | None:
        """Note and return the origin of URLs that begin so; None if they have to be parsed."""
        origin: URL | None = None
        if prefix.startswith(_SCHEMES) and prefix.isprintable():
            origin = _parsed(prefix)
            if str(origin) != prefix or not origin.raw_host or origin.raw_path not in {"", "/"}:
                origin = None
        if len(self._origins) >= _MAX_ORIGINS:
            self._origins.clear()
        self._origins[prefix] = origin
        return origin


def _parsed(url: str) -> URL:
    from yarl import URL

    # It is already encoded: encoding it again would change the flow's URL.
    return URL(url, encoded=True)
