"""The limit of the paths, conditions and targets of one file: each character takes time to check."""

from __future__ import annotations

from typing import Final

from airflow_allma.exceptions import ExpressionSyntaxError
from airflow_allma.flow.checks import ExpressionChecks

__all__ = ["MAX_EXPRESSION_CHARACTERS", "BoundedExpressions"]

MAX_EXPRESSION_CHARACTERS: Final = 400_000
"""Characters of all paths, conditions and targets of a file. Checking one takes up to 0.02 ms."""


class BoundedExpressions:
    """Checks of expressions that refuse what is beyond the limit.

    Args:
        checks: the checks of the expressions up to the limit.
    """

    def __init__(self, checks: ExpressionChecks) -> None:
        self._checks = checks
        self._left = MAX_EXPRESSION_CHARACTERS
        # Templates have a limit of their own: that of the file's tags.
        self.template = checks.template
        self.rendered = checks.rendered

    def path(self, source: str, /) -> object:
        """Compile a JSONPath."""
        self._spend(source)
        return self._checks.path(source)

    def condition(self, source: str, /) -> object:
        """Compile a condition."""
        self._spend(source)
        return self._checks.condition(source)

    def target(self, source: str, /) -> object:
        """Compile a target."""
        self._spend(source)
        return self._checks.target(source)

    def target_keys(self, source: str, /) -> tuple[str, ...]:
        """Return the keys of a target that was compiled before."""
        self._refuse_after_limit(source)
        return self._checks.target_keys(source)

    def path_keys(self, source: str, /) -> tuple[str, ...] | None:
        """Return the keys of a JSONPath that was compiled before."""
        self._refuse_after_limit(source)
        return self._checks.path_keys(source)

    def _spend(self, source: str) -> None:
        self._left -= len(source)
        self._refuse_after_limit(source)

    def _refuse_after_limit(self, source: str) -> None:
        if self._left < 0:
            raise ExpressionSyntaxError(
                f"the paths and conditions of this file have more than {MAX_EXPRESSION_CHARACTERS} "
                "characters up to here; split the file",
                source,
            )
