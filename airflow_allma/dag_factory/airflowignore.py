""".airflowignore, read as Airflow reads it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from airflow_allma.compat import IgnoreRule, ignore_rule

__all__ = ["AirflowIgnoreFiles"]

_COMMENT: Final = re.compile(r"\s*#.*")


class AirflowIgnoreFiles:
    """Patterns in the syntax of ``[core] dag_ignore_file_syntax``, matched by Airflow's own code.

    Airflow is imported only for the first such file.

    Args:
        base: the folder that Airflow searches; regular expressions see paths relative to it.
    """

    def __init__(self, base: Path) -> None:
        self._base = base

    def rules(self, file: Path) -> Sequence[Any]:
        """Return the rules of one file; Airflow logs a pattern that cannot be read, and ignores it."""
        patterns = (_COMMENT.sub("", line) for line in file.read_text().split("\n"))
        rules = (self._kind.compile(pattern, self._base, file) for pattern in patterns if pattern)
        return [rule for rule in rules if rule is not None]

    def ignores(self, path: Path, rules: Sequence[Any]) -> bool:
        """Return whether Airflow would ignore this file or folder."""
        return bool(self._kind.match(path, list(rules)))

    @cached_property
    def _kind(self) -> type[IgnoreRule]:
        from airflow.sdk import conf

        return ignore_rule(conf.get("core", "dag_ignore_file_syntax", fallback="glob"))
