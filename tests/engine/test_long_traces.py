"""The trace of a loop costs little more than its steps, in time and in memory."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_allma.engine.outside_calls import NO_CALLS
from airflow_allma.engine.records import StepRecord
from airflow_allma.engine.secret_masks import SecretMasks
from airflow_allma.engine.traces import MAX_TRACED_STEPS, TraceForm
from airflow_allma.engine.tracing import StepNote, Trace


class CountingForm(TraceForm):
    """Counts the steps whose JSON is made."""

    made = 0

    def step(self, record: StepRecord) -> dict[str, Any]:
        self.made += 1
        return super().step(record)


class Step:
    id = "count"
    type_name = "DATA_TRANSFORMATION"


def trace_of(form: TraceForm, steps: int, output: Any) -> Trace:
    trace = Trace(form, lambda: 0.0)
    for number in range(steps):
        trace.add(
            StepNote(Step(), {"i": number}, output, None, "count", 0.0, 0.0, 0.0, 1, NO_CALLS, None, ())
        )
    return trace


def test_no_json_is_made_of_small_steps_that_are_dropped() -> None:
    form = CountingForm(SecretMasks(), 4096)
    steps, omitted = trace_of(form, 1000, "small").steps()
    assert len(steps) == MAX_TRACED_STEPS
    assert omitted == 1000 - MAX_TRACED_STEPS
    assert form.made <= MAX_TRACED_STEPS * 3 // 2
    shown = [step["input"]["i"] for step in steps]
    assert shown == [*range(50), *range(950, 1000)]


@pytest.mark.parametrize("steps", [40, 200])
def test_large_values_of_earlier_steps_are_kept_as_json_only(steps: int) -> None:
    form = CountingForm(SecretMasks(), 4096)
    trace_of(form, steps, "x" * 20_000)
    assert form.made == steps - 16
