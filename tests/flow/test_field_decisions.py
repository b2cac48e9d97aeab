"""Every field of every model has a decision in `field_decisions.txt`: `Model.field decision`.

`used MODULE`: the module reads it. `warned`: it has no effect yet, and a lint says so. `refused`: the object
that has it is an error. `for people`: it describes, and nothing has to read it.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from airflow_allma.flow import bundle, completion_actions, event_options, models, notify_options
from airflow_allma.flow.lints.no_effect import NOT_YET
from airflow_allma.flow.model_base import Model
from airflow_allma.flow.steps import calls, fork_step, llm, messages, modules, starts, step_base

DECISIONS = dict(
    line.split(" ", 1)
    for line in (Path(__file__).parent / "field_decisions.txt").read_text().splitlines()
    if line
)
FOR_PEOPLE = {
    "authoringSource",
    "createdAt",
    "description",
    "exportedAt",
    "fill",
    "name",
    "position",
    "publishedAt",
    "tags",
    "updatedAt",
}


def own_fields():
    """Yield (Model.field, attribute) of the fields that each model defines itself."""
    for module in (
        models,
        completion_actions,
        event_options,
        notify_options,
        bundle,
        step_base,
        calls,
        fork_step,
        llm,
        messages,
        modules,
        starts,
    ):
        for name, model in vars(module).items():
            if inspect.isclass(model) and issubclass(model, Model) and model.__module__ == module.__name__:
                for attribute, field in model.model_fields.items():
                    if attribute in model.__annotations__:
                        yield f"{name}.{field.alias or attribute}", attribute


def test_every_field_has_a_decision_and_every_decision_a_field():
    assert set(DECISIONS) == {field for field, _ in own_fields()}


@pytest.mark.parametrize(("field", "attribute"), sorted(own_fields()))
def test_each_decision_is_true(field, attribute, repository):
    decision, _, where = DECISIONS[field].partition(" ")
    name = field.partition(".")[2]
    if decision == "used":
        source = (repository / "airflow_allma" / where).read_text()
        assert not where.startswith("flow/lints/")
        assert re.search(rf"\.{attribute}\b|[\"']{re.escape(name)}[\"']", source)
    elif decision == "warned":
        assert name in NOT_YET or field.split(".")[0] in {"Agent"} | START
    elif decision == "refused":
        assert field in REFUSED
    else:
        assert DECISIONS[field] == "for people"
        assert name in FOR_PEOPLE


START = {"EmailStartPointStep"}
REFUSED = {"SemanticCheck.similarityThreshold"}
