"""What the loader of flow files asks of other parts of the package: expressions, step types, schedules.

The flow language imports none of them. Whoever loads files passes one ``FlowChecks`` along with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Protocol

from airflow_allma.common.reference import Reference
from airflow_allma.flow.secret_names import AllowedSecrets
from airflow_allma.flow.steps import Step

__all__ = [
    "ExpressionChecks",
    "ExpressionReader",
    "FlowChecks",
    "ScheduleCheck",
    "SettingsCheck",
    "SettingsProblems",
    "SupportCheck",
]


class ExpressionChecks(Protocol):
    """Compiles expressions. Each method raises ExpressionSyntaxError.

    What the first five return is only for ``ExpressionReader``.
    """

    def path(self, source: str, /) -> object:
        """Compile a JSONPath."""

    def condition(self, source: str, /) -> object:
        """Compile a condition of a transition or a branch."""

    def template(self, source: str, /) -> object:
        """Compile a string with ``{{ }}``."""

    def rendered(self, source: str, /) -> object:
        """Compile a string of literals or custom configs: a template, or a path that can have templates."""

    def target(self, source: str, /) -> object:
        """Compile a dotted path in a step's input, ``a.b[0].c``."""

    def target_keys(self, source: str, /) -> tuple[str, ...]:
        """Return the keys of a valid dotted path in a step's input, from the outermost on."""

    def path_keys(self, source: str, /) -> tuple[str, ...] | None:
        """Return the keys of a valid JSONPath; None if it has more than names and indexes."""


class ExpressionReader(ExpressionChecks, Protocol):
    """Finds what expressions read."""

    def reads(self, compiled: Any, /) -> Sequence[Reference]:
        """Return what a JSONPath, a condition or a template reads; they are compiled."""

    def template_reads(self, source: str, /) -> Sequence[Reference]:
        """Return what a template that cannot be compiled reads, as far as it has the form of one.

        Raises ExpressionSyntaxError if it has not.
        """

    def never_true(self, source: str, /) -> Iterable[tuple[str, str]]:
        """Return the parts of a valid condition that are false for all data, each with reason and fix."""


SettingsProblems = Callable[
    [Mapping[str, Any], AbstractSet[str]], Iterable[tuple[tuple[str | int, ...], bool, str]]
]
"""Finds the settings with which a module always fails.

It gets the settings that are the same in every run, and the names of the others. It returns the keys of each
wrong setting, whether its name is what is wrong, and the problem as a sentence.
"""

SettingsCheck = Callable[[str], SettingsProblems | None]
"""Returns what checks the settings of a module; None if all settings are right, or the module is unknown."""

SupportCheck = Callable[[Step], tuple[str, str] | None]
"""Returns the field that keeps a step from running here, and the reason as a sentence; None if it runs."""


class ScheduleCheck(Protocol):
    """Returns what is wrong with a schedule and how to fix it; None if it is valid."""

    def __call__(self, schedule: str, /, flow_variables: Mapping[str, Any] | None = None) -> str | None:
        """Check a schedule. ``flow_variables`` are those that it can name; None for ``airflow.schedule``."""


@dataclass(frozen=True, slots=True)
class FlowChecks:
    """The checks of a flow that go beyond its own language.

    Attributes:
        expressions: parses expressions; None: expressions are not checked.
        supported: whether a step's type and module can run; None: all can.
        schedule: whether a schedule can be read; None: schedules are not checked.
        reader: what expressions read; None: there are no lints.
        settings: whether a module can run with its settings; None: they are not checked.
        notifiers: patterns of the notifiers that flows may name; None: notifiers are not checked.
        allowed: the connections and Variables that flows may name; checked with a ``reader``.
    """

    expressions: ExpressionChecks | None = None
    supported: SupportCheck | None = None
    schedule: ScheduleCheck | None = None
    reader: ExpressionReader | None = None
    settings: SettingsCheck | None = None
    notifiers: tuple[str, ...] | None = None
    allowed: AllowedSecrets = field(default_factory=AllowedSecrets)
