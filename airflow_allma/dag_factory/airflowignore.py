""".airflowignore, read as Airflow reads it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
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

    def rules(self, file: Path, refused: Callable[[int, str, str], None]) -> Sequence[Any]:
        """Return the rules of one file.

        Airflow logs a regular expression that cannot be read, and raises an error for a glob pattern.

        Args:
            file: the file.
            refused: takes the line, the pattern and the reason of the latter, which is left out.
        """
        rules = []
        for number, line in enumerate(file.read_text().split("\n"), 1):
            if not (pattern := _COMMENT.sub("", line)):
                continue
            try:
                rule = self._kind.compile(pattern, self._base, file)
            except ValueError as error:  # the base of pathspec's errors
                refused(number, pattern, str(error))
                continue
            if rule is not None:
                rules.append(rule)
        return rules

    def ignores(self, path: Path, rules: Sequence[Any]) -> bool:
        """Return whether Airflow would ignore this file or folder."""
        return bool(self._kind.match(path, list(rules)))

    @cached_property
    def _kind(self) -> type[IgnoreRule]:
        from airflow.sdk import conf

        return ignore_rule(conf.get("core", "dag_ignore_file_syntax", fallback="glob"))
