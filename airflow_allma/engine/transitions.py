"""The transitions of a step, compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from airflow_allma.engine.mappings import mentions_state
from airflow_allma.expressions import compile_condition
from airflow_allma.flow import Step

__all__ = ["CompiledTransition", "compile_transitions"]


@dataclass(frozen=True, slots=True)
class CompiledTransition:
    """One transition of a step.

    Attributes:
        matches: the condition over the context; None for the default transition.
        needs_state: whether the condition can refer to the run's state.
        target: the next step.
        max_taken: how often it can be taken in a run; 0 means no limit.
        counter: its key in ``RunState.transition_counts``.
    """

    matches: Callable[..., bool] | None
    needs_state: bool
    target: str
    max_taken: int
    counter: str


def compile_transitions(step: Step) -> Iterable[CompiledTransition]:
    """Yield the transitions of a step in the order in which they are tried; the default is the last."""
    for number, transition in enumerate(step.transitions):
        yield CompiledTransition(
            compile_condition(transition.condition).matches,
            mentions_state(transition.condition),
            transition.next_step_instance_id,
            transition.max_transitions,
            f"{step.step_instance_id}:{number}",
        )
    if step.default_next_step_instance_id is not None:
        yield CompiledTransition(
            None,
            False,
            step.default_next_step_instance_id,
            step.default_next_max_transitions,
            f"{step.step_instance_id}:default",
        )
