"""Payload schemas as params of Dags: payloads that Airflow itself refuses at the trigger."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.exceptions import ParamValidationError
from airflow.serialization.serialized_objects import DagSerialization

from airflow_allma.dag_factory import build_dag
from airflow_allma.flow import Flow
from tests.airflow.flows import compose, flow
from tests.flow.test_input_schema import DEEP, ORDER

SEEN = {"a": compose({"all": "$.initialContextData"})}


def dag_of(schema: dict[str, Any], **options: Any) -> Any:
    return build_dag(Flow.model_validate(flow("inputs", SEEN, airflow={"inputSchema": schema, **options})))


def refused(dag: Any, conf: dict[str, Any]) -> str | None:
    """Return the error of a trigger with this payload (by API, CLI or form), None if it is accepted."""
    served = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    try:
        served.params.deep_merge(conf).validate()
    except ParamValidationError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("payload", "key"),
    [
        (ORDER, None),
        ({**ORDER, "note": None, "limit": None, "size": None, "when": None, "extra": None}, None),
        ({**ORDER, "note": "yes", "limit": 3, "when": "2026-02-28", "size": "s", "extra": {"a": 1}}, None),
        ({}, "order"),
        ({"order": None}, "order"),
        ({"order": {"lines": [{"count": 1}]}}, "order"),
        ({"order": {"lines": [{"sku": 1}], "x": 1}}, "order"),
        ({**ORDER, "note": "n"}, "note"),
        ({**ORDER, "when": "2026-02-30"}, "when"),
        ({**ORDER, "size": "xl"}, "size"),
        ({**ORDER, "limit": "3"}, "limit"),
        ({**ORDER, "extra": 3}, "extra"),
    ],
)
def test_airflow_refuses_a_payload_that_does_not_fit_and_names_the_property(payload, key):
    message = refused(dag_of(DEEP), payload)
    assert (message is None) == (key is None), message
    if key is not None:
        assert message.startswith(f"Invalid input for param {key}: ")


@pytest.mark.parametrize(
    ("part", "fits", "does_not"),
    [
        ({"const": 3}, [3, None], [4]),
        ({"anyOf": [{"type": "string"}, {"minimum": 3, "type": "number"}]}, ["a", 4, None], [2, []]),
        ({"$ref": "#/$defs/line"}, [{"sku": 1}, None], [{}]),
        ({"not": {"type": "null"}}, [1, None], []),
        (True, [1, None, {}], []),
        ({}, [1, None, {}], []),
        ({"enum": [1, None]}, [1, None], [2]),
        ({"type": ["string", "integer"]}, ["a", 1, None], [[]]),
        # More than definitions: left to the check of the whole payload.
        ({"$ref": "#/properties/other"}, ["a", 1, None], []),
    ],
)
def test_an_optional_property_of_any_type_can_be_left_empty(part, fits, does_not):
    dag = dag_of({"properties": {"it": part, "other": {"type": "integer"}}, "$defs": DEEP["$defs"]})
    assert refused(dag, {}) is None
    for value in fits:
        assert refused(dag, {"it": value}) is None, value
    for value in does_not:
        assert refused(dag, {"it": value}), value


def test_the_form_shows_the_values_of_the_schema():
    schema = {
        "required": ["n", "undeclared"],
        "properties": {
            "n": {"type": "integer", "title": "How many", "description": "Of *them*.", "minimum": 1},
            "size": {"enum": ["s", "m"], "default": "m"},
            "never": False,
        },
    }
    params = dag_of(schema).params
    assert list(params) == ["n", "undeclared", "size"]
    number = params.get_param("n")
    assert number.description == "Of *them*."
    assert number.schema == {"type": "integer", "title": "How many", "minimum": 1}
    assert not number.has_value
    size = params.get_param("size")
    assert (size.value, size.schema) == ("m", {"enum": ["s", "m", None], "title": "size"})


def test_a_dag_with_a_schedule_has_no_required_params_and_still_refuses_what_does_not_fit():
    dag = dag_of({"required": ["n"], "properties": {"n": {"type": "integer"}}}, schedule="@daily")
    assert refused(dag, {}) is None
    assert refused(dag, {"n": "x"})


def test_a_run_whose_payload_does_not_fit_as_a_whole_fails_at_its_first_task(run):
    schema = {"properties": {"a": {"type": "integer", "default": 5}}, "additionalProperties": False}
    good = run(SEEN, {}, airflow={"inputSchema": schema})
    assert good.xcom("a") == {"all": {"a": 5}}
    bad = run(SEEN, {"b": 1}, airflow={"inputSchema": schema})
    assert bad.state == "failed"
    error = bad.xcom("a", key="allma_error")
    assert error["errorName"] == "PayloadError"
    assert "'b' was unexpected" in error["errorMessage"]
