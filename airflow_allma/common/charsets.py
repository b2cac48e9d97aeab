"""Character sets: the names that outside data declares, and the decoding of bytes by them."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

__all__ = ["DecodedString", "charset_of", "codec_of", "decode_string", "known_encoding", "mark_of"]

# They encode names and source code, not files.
_NOT_FOR_FILES: Final = frozenset({"idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape"})
# Longer marks first: that of UTF-32 begins with that of UTF-16.
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# The beginnings of JSON without a mark, in sets where a character takes several bytes.
_JSON_BEGINNINGS: Final = (
    ((b"{\0\0\0", b"[\0\0\0", b'"\0\0\0'), "utf-32-le"),
    ((b"\0\0\0{", b"\0\0\0[", b'\0\0\0"'), "utf-32-be"),
    ((b"{\0", b"[\0", b'"\0'), "utf-16-le"),
    ((b"\0{", b"\0[", b'\0"'), "utf-16-be"),
)
# Names that servers and browsers use and Python does not know.
_ALIASES: Final = {
    "dos-874": "cp874",
    "iso-8859-8-i": "iso8859-8",
    "ks_c_5601-1987": "cp949",
    "unicode-1-1-utf-8": "utf-8",
    "utf-8-bom": "utf-8",
    "windows-874": "cp874",
    "windows-949": "cp949",
    "x-cp1252": "cp1252",
    "x-gbk": "gbk",
    "x-mac-cyrillic": "mac-cyrillic",
    "x-mac-roman": "mac-roman",
    "x-sjis": "shift_jis",
}
# Python also has codecs that are not character sets, or whose work is not linear: zip, punycode, idna.
_CHARSETS: Final = frozenset(
    {
        *("ascii", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"),
        *("utf-32", "utf-32-le", "utf-32-be"),
        *(f"iso8859-{number}" for number in (*range(1, 12), *range(13, 17))),
        *(f"cp{number}" for number in (437, 850, 852, 866, 874, 932, 949, 950, *range(1250, 1259))),
        *("koi8-r", "koi8-u", "mac-roman", "mac-cyrillic", "tis-620"),
        *("shift_jis", "euc_jp", "iso2022_jp", "euc_kr", "gb2312", "gbk", "gb18030", "big5", "big5hkscs"),
    }
)
_MAX_REMEMBERED: Final = 100
"""Characters of a content type whose charset is remembered."""
_UNMARKED: Final = {"utf-8-sig": "utf-8", "utf-16": "utf-16-le", "utf-32": "utf-32-le"}


@dataclass(frozen=True, slots=True)
class DecodedString:
    """Bytes as a string.

    Attributes:
        string: without a byte order mark.
        warnings: what was wrong, one sentence each; empty if nothing is lost.
        has_invalid_bytes: whether some bytes became replacement characters.
    """

    string: str
    warnings: tuple[str, ...] = ()
    has_invalid_bytes: bool = False


def charset_of(content_type: str | None) -> str | None:
    """Return the charset that a media type declares, in lower case; None if it declares none."""
    if not content_type or ";" not in content_type:
        return None
    # The responses of one API have the same one again and again. Those from data can be of any length.
    return _known_charset(content_type) if len(content_type) <= _MAX_REMEMBERED else _charset_of(content_type)


def _charset_of(content_type: str) -> str | None:
    for part in content_type.split(";")[1:]:
        name, _, value = part.partition("=")
        if name.strip().lower() == "charset":
            return value.strip().strip("\"'").strip().lower() or None
    return None


_known_charset: Final = lru_cache(maxsize=64)(_charset_of)


def codec_of(charset: str) -> str | None:
    """Return Python's name of a character set; None if it is unknown."""
    label = charset.strip().lower()
    try:
        name = codecs.lookup(_ALIASES.get(label, label)).name
    except (LookupError, ValueError):
        return None
    return name if name in _CHARSETS else None


def mark_of(data: bytes) -> tuple[int, str] | None:
    """Return the length of a byte order mark and the codec that it names; None without one."""
    for mark, codec in _MARKS:
        if data.startswith(mark):
            return len(mark), codec
    return None


def decode_string(data: bytes, charset: str | None = None) -> DecodedString:
    """Decode bytes by their byte order mark, else by ``charset``, else as UTF-8.

    Bytes that are not valid there become replacement characters (U+FFFD), with a warning.
    """
    warnings: list[str] = []
    mark = mark_of(data)
    if mark is not None:
        data, codec = data[mark[0] :], mark[1]
    else:
        known = codec_of(charset) if charset else "utf-8"
        if known is None:
            warnings.append(f"the charset {(charset or '')[:80]!r} is unknown; UTF-8 was used")
        codec = _without_mark(data, known or "utf-8", declared=charset is not None)
    try:
        return DecodedString(data.decode(codec), tuple(warnings))
    except UnicodeDecodeError as error:
        warnings.append(
            f"byte {error.start} is not valid {codec.upper()}; such bytes became replacement characters "
            "(U+FFFD)"
        )
    return DecodedString(data.decode(codec, errors="replace"), tuple(warnings), has_invalid_bytes=True)


def _without_mark(data: bytes, codec: str, *, declared: bool) -> str:
    """Return the codec of bytes without a byte order mark: with its byte order."""
    if not declared or codec.startswith(("utf-16", "utf-32")):
        for beginnings, found in _JSON_BEGINNINGS:
            if data.startswith(beginnings) and len(data) % (4 if "32" in found else 2) == 0:
                return found
    return _UNMARKED.get(codec, codec)


def known_encoding(name: str) -> str | None:
    """Return Python's name of an encoding of files; None if it knows none of this name."""
    try:
        codec = codecs.lookup(name)
        # Fails for what encodes no text.
        "".encode(name)
    except (LookupError, ValueError):
        return None
    return None if codec.name.replace("-", "_") in _NOT_FOR_FILES else codec.name
