"""The text of an HTML page, for readers of e-mails that show no HTML."""

from __future__ import annotations

import html
import re
from typing import Final

__all__ = ["text_of_html"]

_MAX_CHARACTERS: Final = 1 << 18
"""Of a longer page, only the beginning becomes text: nobody reads more of it in that form."""

# Each "<" is looked at once: what follows it cannot contain another one.
_TOKEN: Final = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9]*)([^<>]*)>|<[^<>]*>|[^<]+|<")
_HREF: Final = re.compile(r"""\bhref\s*=\s*(?:"([^"]*)"|'([^']*)')""", re.IGNORECASE)
_SPACE: Final = re.compile(r"[^\S\n]+")
_AROUND_BREAKS: Final = re.compile(r" ?\n ?")
_BREAKS: Final = re.compile(r"\n{3,}")
_HIDDEN: Final = frozenset({"head", "script", "style", "title"})
_PARAGRAPHS: Final = frozenset({"blockquote", "h1", "h2", "h3", "h4", "h5", "h6", "ol", "p", "table", "ul"})
_LINES: Final = frozenset({"div", "tr"})
_CELLS: Final = frozenset({"td", "th"})


def text_of_html(page: str) -> str:
    """Return the text of a page: paragraphs and lines stay apart, links show their address."""
    parts: list[str] = []
    hidden = ""
    link = ""
    for token in _TOKEN.finditer(page[:_MAX_CHARACTERS]):
        closes, name, attributes = bool(token[1]), (token[2] or "").lower(), token[3] or ""
        if hidden:
            hidden = "" if closes and name == hidden else hidden
        elif not name:
            if not token[0].startswith(("<!", "<?")):
                parts.append(_SPACE.sub(" ", token[0].replace("\n", " ")))
        elif name in _HIDDEN:
            hidden = "" if closes or attributes.endswith("/") else name
        elif name in _PARAGRAPHS:
            parts.append("\n\n")
        elif name == "br":
            parts.append("\n")
        elif name in _LINES:
            parts.append("" if parts and parts[-1].endswith("\n") else "\n")
        elif name == "li":
            parts.append("" if closes else "\n- ")
        elif name in _CELLS:
            parts.append(" ")
        elif name == "a":
            found = None if closes else _HREF.search(attributes)
            if closes and link and link != (parts[-1].strip() if parts else ""):
                parts.append(f" ({link})")
            link = (found[1] or found[2] or "") if found else ""
    text = html.unescape(_SPACE.sub(" ", "".join(parts)))
    return _BREAKS.sub("\n\n", _AROUND_BREAKS.sub("\n", text)).strip() + "\n"
