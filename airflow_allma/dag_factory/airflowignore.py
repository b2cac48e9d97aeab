""".airflowignore, read as Airflow reads it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

__all__ = ["AirflowIgnoreFiles"]

_COMMENT: Final = re.compile(r"\s*#.*")


class AirflowIgnoreFiles:
    """Patterns in the syntax that ``[core] dag_ignore_file_syntax`` names, matched by Airflow's own code.

    Airflow is imported when the first such file is met.

    Args:
        base: what regular expressions see a path relative to: the folder that Airflow looks through.
    """

    def __init__(self, base: Path) -> None:
        self._base = base

    def rules(self, file: Path) -> Sequence[Any]:
        """The rules of one file; Airflow logs a pattern that cannot be read, and goes on."""
        patterns = (_COMMENT.sub("", line) for line in file.read_text().split("\n"))
        rules = (self._kind.compile(pattern, self._base, file) for pattern in patterns if pattern)
        return [rule for rule in rules if rule is not None]

    def ignores(self, path: Path, rules: Sequence[Any]) -> bool:
        """Whether Airflow would leave this file or folder out."""
        return bool(self._kind.match(path, list(rules)))

    @cached_property
    def _kind(self) -> Any:
        # Airflow has no public name for these, but has had them, with these two functions, since 2.3. Its
        # public function for a whole folder raises an error at the first link that leads back.
        from airflow._shared.module_loading.file_discovery import (
            _GlobIgnoreRule,
            _RegexpIgnoreRule,
        )
        from airflow.sdk.configuration import conf

        syntax = conf.get("core", "dag_ignore_file_syntax", fallback="glob")
        return _RegexpIgnoreRule if syntax == "regexp" else _GlobIgnoreRule
