"""Airflow's classes for the patterns in ``.airflowignore``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Protocol

from airflow_allma.compat.missing_names import IS_MISSING, LOG, warn_once

__all__ = ["IgnoreRule", "ignore_rule"]


class IgnoreRule(Protocol):
    """A syntax of patterns in ``.airflowignore``, with the functions that Airflow's classes have."""

    @staticmethod
    def compile(pattern: str, base_dir: Path, definition_file: Path) -> Any:
        """Return a pattern as a rule; None if it cannot be read, which is logged."""

    @staticmethod
    def match(path: Path, rules: list[Any]) -> bool:
        """Return whether the rules, in order, ignore a file or folder."""


def ignore_rule(syntax: str) -> type[IgnoreRule]:
    """Return the class that reads and matches patterns of ``.airflowignore``.

    Uses ``_GlobIgnoreRule`` and ``_RegexpIgnoreRule`` (in ``airflow._shared`` since Airflow 3.2). Airflow's
    function for a whole folder cannot be used: it raises an error at the first link that leads back.
    Without them, patterns are matched by pathspec and by ``re``, which Airflow's classes use too.

    Args:
        syntax: ``[core] dag_ignore_file_syntax``: ``regexp``; anything else means ``glob``.
    """
    try:
        from airflow._shared.module_loading.file_discovery import _GlobIgnoreRule, _RegexpIgnoreRule
    except IS_MISSING:
        warn_once(
            "airflow._shared.module_loading.file_discovery._GlobIgnoreRule or _RegexpIgnoreRule",
            ".airflowignore is read by rules of this package, which can differ from Airflow's",
        )
        return _OwnRegexpRule if syntax == "regexp" else _OwnGlobRule
    return _RegexpIgnoreRule if syntax == "regexp" else _GlobIgnoreRule


class _OwnRegexpRule:
    @staticmethod
    def compile(pattern: str, base_dir: Path, definition_file: Path) -> Any:
        try:
            return base_dir, re.compile(pattern)
        except re.error as error:
            LOG.warning("Invalid regular expression, ignored: %s (%s) in %s", pattern, error, definition_file)
            return None

    @staticmethod
    def match(path: Path, rules: list[Any]) -> bool:
        return any(pattern.search(str(path.relative_to(base))) is not None for base, pattern in rules)


class _OwnGlobRule:
    @staticmethod
    def compile(pattern: str, base_dir: Path, definition_file: Path) -> Any:  # noqa: ARG004 - as Airflow's
        from pathspec import GitIgnoreSpec

        try:
            return definition_file.parent, GitIgnoreSpec.from_lines([pattern])
        except ValueError as error:
            LOG.warning("Invalid pattern, ignored: %s (%s) in %s", pattern, error, definition_file)
            return None

    @staticmethod
    def match(path: Path, rules: list[Any]) -> bool:
        # A pattern for folders only ends with a slash, and matches a path that does.
        ending = "/" if path.is_dir() else ""
        is_ignored = False
        for base, spec in rules:
            decision = spec.check_file(f"{path.relative_to(base).as_posix()}{ending}").include
            is_ignored = is_ignored if decision is None else decision
        return is_ignored
