"""A rendered URL that knows which of its characters are the template's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Self

from airflow_allma.expressions import Span

__all__ = ["Char", "RenderedUrl", "part_boundaries"]

_PLACEHOLDER = "0"


class Char(IntEnum):
    """Where a character of a rendered URL comes from."""

    VALUE = 0
    """A value."""
    AUTHOR = 1
    """The author of the template."""
    BASE = 2
    """The value that the URL begins with, if it contains the host: its structure counts as the author's."""


def part_boundaries(url: str, authority: int) -> list[int]:
    """Return where each part of a URL begins: user info, host, port, path, query and fragment.

    ``bisect_right`` of a position in it is the number of the part that contains the position; the scheme is
    number 0. A part that is missing is empty.

    Args:
        url: an absolute URL.
        authority: where its authority begins.
    """
    fragment = _find(url, "#", authority, len(url))
    query = _find(url, "?", authority, fragment)
    path = _find(url, "/", authority, query)
    host = url.rfind("@", authority, path) + 1 or authority
    closing = url.rfind("]", host, path)
    port = _find(url, ":", max(host, closing), path)
    return [authority, host, port, path, query, fragment]


def _find(url: str, sign: str, start: int, end: int) -> int:
    position = url.find(sign, start, end)
    return end if position < 0 else position


@dataclass(slots=True)
class RenderedUrl:
    """A rendered URL.

    Attributes:
        url: its characters, without spaces around it.
        origins: where each character comes from.
        gaps: where values are that rendered to nothing.
        authority: where the authority begins.
        moves_scheme: whether a value ended the scheme earlier than the template does.
        skeleton_authority: where the authority of the skeleton begins.
    """

    url: str
    origins: list[Char]
    gaps: list[int]
    authority: int
    moves_scheme: bool = False
    skeleton_authority: int = 0

    @classmethod
    def of(cls, spans: Sequence[Span], authority: int) -> Self:
        """Return a rendered URL.

        Args:
            spans: the rendered template.
            authority: where the authority begins in the URL without spaces around it.
        """
        url = "".join(span.text for span in spans)
        origins: list[Char] = []
        gaps = []
        for span in spans:
            if not span.text and not span.is_authored:
                gaps.append(len(origins))
            origins += [Char.AUTHOR if span.is_authored else Char.VALUE] * len(span.text)
        cut = len(url) - len(url.lstrip(" "))
        stripped = url.strip(" ")
        rendered = cls(
            stripped,
            origins[cut : cut + len(stripped)],
            [gap - cut for gap in gaps if 0 <= gap - cut <= len(stripped)],
            authority,
        )
        rendered._trust_base()
        return rendered

    def _trust_base(self) -> None:
        """Mark the value that contains the host, or note that it comes before the template's own host."""
        own = self._own_authority()
        if own is not None:
            self.moves_scheme = own != self.authority
            return
        end = self.authority
        while end < len(self.url) and self.origins[end] == Char.VALUE:
            end += 1
        self.origins[:end] = [origin or Char.BASE for origin in self.origins[:end]]

    def _own_authority(self) -> int | None:
        """Return where the authority begins according to the template; None if a value decides."""
        for index, (sign, origin) in enumerate(zip(self.url, self.origins, strict=True)):
            if origin != Char.AUTHOR:
                continue
            if self.url.startswith("://", index) and self.origins[index : index + 3] == [Char.AUTHOR] * 3:
                return index + 3
            if sign in "/?#":
                return None
        return None

    def encode_delimiters(self) -> bool:
        """Encode ``?`` and ``#`` of values within path and query; return whether the path had one.

        A value that begins where the authority ends, or before, gives all that follows; and one that begins
        with ``?`` in the middle of a segment (``/items{{query}}``) gives the query.
        """
        _, _, _, path, *_ = part_boundaries(self.url, self.authority)
        free = path
        while free < len(self.url) and self.origins[free] != Char.AUTHOR:
            free += 1
        url, origins = [self.url[:free]], self.origins[:free]
        in_query = "?" in self.url[path:free]
        in_fragment = "#" in self.url[path:free]
        encoded_in_path = False
        for index in range(free, len(self.url)):
            sign, origin = self.url[index], self.origins[index]
            if origin == Char.AUTHOR:
                in_query, in_fragment = in_query or sign == "?", in_fragment or sign == "#"
            elif sign in "?#" and not in_fragment:
                opens = sign == "?" and self.origins[index - 1] == Char.AUTHOR and self.url[index - 1] != "/"
                if sign == "#" or not (in_query or opens):
                    encoded_in_path = encoded_in_path or not in_query
                    sign = "%3F" if sign == "?" else "%23"
                    self.gaps = [gap + 2 if gap > len(origins) else gap for gap in self.gaps]
                in_query = in_query or opens
            url.append(sign)
            origins += [origin] * len(sign)
        self.url, self.origins = "".join(url), origins
        return encoded_in_path

    def skeleton(self) -> tuple[str, list[int]]:
        """Return the URL with a placeholder for each value, and the position of each character in the URL.

        A placeholder has the position -1. Sets ``skeleton_authority``.
        """
        signs: list[str] = []
        positions: list[int] = []
        for index, origin in enumerate(self.origins):
            if index == self.authority:
                self.skeleton_authority = len(signs)
            if origin != Char.VALUE:
                signs.append(self.url[index])
                positions.append(index)
            elif not positions or positions[-1] != -1 or index == self.authority:
                signs.append(_PLACEHOLDER)
                positions.append(-1)
        return "".join(signs), positions

    def empty_segments(self) -> list[int]:
        """Return the numbers, from 1, of path segments that are empty because a value is."""
        _, _, _, path, query, _ = part_boundaries(self.url, self.authority)
        return [
            self.url.count("/", path, gap)
            for gap in self.gaps
            if path < gap <= query and self.url[gap - 1] == "/" and (gap == query or self.url[gap] == "/")
        ]
