"""Values that Airflow's transport or PostgreSQL refuses, in every mode on a real scheduler."""

from __future__ import annotations

import configparser
import json

import pytest
from sqlalchemy import create_engine, text

from airflow_allma.operators.transport import is_unchanged, xcom_safe
from demo.postgres import find_postgres
from tests.airflow.finished_run import FinishedRun
from tests.airflow.flows import branch, compose, failing, flow, fork
from tests.airflow.test_transport import CHANGED, REFUSED, SENT, UNCHANGED, nested

pytestmark = [pytest.mark.scheduler, pytest.mark.slow]

VALUES = [
    "a\0b",
    {"\0": "\0", "__type": 1, "__var": 2, "__classname__": "x"},
    2**64,
    -(2**63) - 1,
    10**300,
    {"value": 1e22, "b": {"z": 1, "a": -0.0}},
    nested(90),
    "\U0001f600",
    {"plain": [1, None, True]},
]
ONE = compose({"v": "$.currentItem"}, to="x")
SAME = compose({"v": "$.steps_output.w.v"})


@pytest.fixture(scope="module")
def flows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("awkward")
    manifest = folder / "items.jsonl"
    manifest.write_text("".join(f"{json.dumps(value)}\n" for value in VALUES), encoding="utf-8")
    pointer = {"bucket": "file://", "key": str(manifest).lstrip("/")}
    variables = {"values": VALUES, "manifest": pointer, "bad": "non\0sense"}
    last = compose({"all": "$.steps_output.f.aggregatedData"})
    bad = failing(customConfig={"sourceS3Uri": "{{flow_variables.bad}}"})

    def forking(name, items="values", **more):
        steps = {
            "f": fork(branch("w"), items=f"$.flow_variables.{items}", to="z", **more),
            "w": ONE,
            "x": SAME,
            "z": last,
        }
        options = {"offloadLocation": f"file://{folder}"} if items == "manifest" else {}
        return flow(name, steps, flowVariables=variables, airflow=options)

    path = {
        "f": compose({"v": "$.flow_variables.values"}, to="z"),
        "z": compose({"all": "$.steps_output.f.v"}),
    }
    return {
        "path": flow("awkward-path", path, flowVariables=variables),
        "strict": forking("awkward-strict"),
        "tolerant": forking("awkward-tolerant", failOnBranchError=False),
        "manifest": forking("awkward-manifest", items="manifest", failOnBranchError=False),
        "fails": flow("awkward-fails", {"a": bad}, flowVariables=variables),
        "handled": flow(
            "awkward-handled",
            {"a": {**bad, "onError": {"continueOnFailure": True}}},
            flowVariables=variables,
        ),
    }


@pytest.mark.parametrize("mode", ["path", "strict", "tolerant", "manifest"])
def test_a_run_completes_with_exactly_the_values_that_its_steps_gave(airflow_client, deploy, flows, mode):
    deploy(flows[mode])
    ran = FinishedRun(airflow_client, f"awkward-{mode}", {})
    assert ran.state == "success"
    state = json.loads(ran.xcom("z", key="allma_state"))
    expected = VALUES if mode == "path" else [{"v": value} for value in VALUES]
    # repr: the order of keys and the types of numbers count too.
    assert repr(state["context"]["steps_output"]["z"]) == repr({"all": expected})
    assert json.loads(ran.xcom("z")) == {"all": expected}


def test_an_error_with_such_a_value_is_an_error_like_any_other(airflow_client, deploy, flows):
    for name in ("fails", "handled"):
        deploy(flows[name])
    failed, handled = (FinishedRun(airflow_client, f"awkward-{name}", {}) for name in ("fails", "handled"))
    assert failed.state == "failed"
    assert json.loads(failed.xcom("a", key="allma_error"))["errorName"] == "PermanentStepError"
    assert "sourceS3Uri" in failed.logs("a")
    assert handled.state == "success"


@pytest.fixture
def stored_in_postgres(airflow_instance):
    """Return a function that stores a value as Airflow stores XComs, and returns what comes back."""
    if not find_postgres():
        pytest.skip("PostgreSQL is not installed")
    config = configparser.RawConfigParser()
    config.read(airflow_instance.home / "airflow.cfg", encoding="utf-8")
    engine = create_engine(config["database"]["sql_alchemy_conn"].replace("%%", "%"))

    def stored(value):
        with engine.connect() as connection:
            query = text("select cast(:value as jsonb)")
            return connection.execute(query, {"value": json.dumps(value)}).scalar_one()

    yield stored
    engine.dispose()


def test_what_is_shown_can_be_stored_and_what_is_unchanged_comes_back_as_it_was(stored_in_postgres):
    for name, value in (SENT | UNCHANGED).items():
        if is_unchanged(value):
            assert repr(stored_in_postgres(value)) == repr(value), name
    for name, value in (REFUSED | CHANGED).items():
        assert stored_in_postgres(xcom_safe(value)) == xcom_safe(value), name
