"""Broken JSON repaired by the package ``json_repair``, whose work is bounded here.

Importing this module imports the package.
"""

from __future__ import annotations

import json
from typing import Any, Final

from json_repair.json_parser import JSONParser

from airflow_allma.exceptions import AllmaError

__all__ = ["RepairLimitError", "repaired_json"]

_LOOKS_OF_CHARACTER: Final = 6
"""How often each character is looked at on average: once or twice in ordinary broken JSON."""

_LOOKS_OF_TEXT: Final = 20_000

_MAX_DEPTH: Final = 64


class RepairLimitError(AllmaError):
    """The repair takes too long: the package looks at some texts again and again."""


class _Repairer(JSONParser):
    """The package's parser, which ends after some work: alone it takes hours for some texts."""

    def __init__(self, text: str) -> None:
        super().__init__(text, None, False)
        self._looks_left = _LOOKS_OF_TEXT + _LOOKS_OF_CHARACTER * len(text)
        self._depth = 0

    def get_char_at(self, count: int = 0) -> str | None:
        self._looks_left -= 1
        if self._looks_left < 0:
            raise RepairLimitError("too much work")
        return super().get_char_at(count)

    def parse_json(self, *args: Any, **kwargs: Any) -> Any:
        if self._depth >= _MAX_DEPTH:
            raise RepairLimitError("too many levels")
        self._depth += 1
        try:
            return super().parse_json(*args, **kwargs)
        finally:
            self._depth -= 1


def repaired_json(text: str) -> str:
    """Return broken JSON as JSON.

    Raises:
        RepairLimitError: it takes too much work.
        ValueError: it cannot be repaired.
        RecursionError: likewise.
    """
    return json.dumps(_Repairer(text).parse())
