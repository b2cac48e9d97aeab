"""Any content of a flow file is loaded or rejected, with the position of each problem."""

from __future__ import annotations

import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_allma.flow import FileKind, FlowChecks, StepType, load_file
from airflow_allma.flow.files import Bundle
from tests.support.flow_checks import BracketChecks
from tests.support.flow_files import flow, write

EXPRESSIONS = FlowChecks(BracketChecks())
EXPRESSIONS_AND_STEPS = FlowChecks(BracketChecks(), supported=lambda _: None)

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 9) | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *(
                        "id",
                        "steps",
                        "startStepInstanceId",
                        "stepType",
                        "a",
                        "onError",
                        "transitions",
                        "condition",
                    ),
                    *(
                        "parallelBranches",
                        "branchId",
                        "stepInstanceId",
                        "formatVersion",
                        "flows",
                        "stepDefinitions",
                    ),
                    *(
                        "inputMappings",
                        "outputMappings",
                        "literals",
                        "customConfig",
                        "airflow",
                        "delay",
                        "version",
                    ),
                    *(
                        "defaultStepConfig",
                        "defaultErrorHandler",
                        "stepDefinitionId",
                        "promptTemplates",
                        "content",
                    ),
                    *(
                        "aggregationConfig",
                        "nextStepInstanceId",
                        "requiredFields",
                        "tools",
                        "mediaAttachments",
                    ),
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)
STEP = st.dictionaries(
    st.sampled_from(
        ["onError", "delay", "transitions", "parallelBranches", "inputMappings", "moduleIdentifier", "to"]
    ),
    ANY_JSON,
    max_size=4,
).flatmap(lambda fields: st.sampled_from(sorted(StepType)).map(lambda kind: {"stepType": kind, **fields}))


def assert_problems_are_located(loaded):
    assert loaded.flows or loaded.problems or loaded.bundle != Bundle()
    for problem in loaded.problems:
        assert problem.line >= 1
        assert problem.column >= 1
        assert problem.path.startswith("$")
        assert "\n" not in str(problem)


RELAXED = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)


@RELAXED
@given(value=ANY_JSON)
def test_any_json_value_is_loaded_or_rejected_with_located_problems(tmp_path, value):
    loaded = load_file(write(tmp_path, "any.json", json.dumps(value)), EXPRESSIONS_AND_STEPS)
    if loaded.kind is not FileKind.EXPORT:
        assert_problems_are_located(loaded)


@RELAXED
@given(step=STEP, own=ANY_JSON)
def test_any_step_is_loaded_or_rejected_with_located_problems(tmp_path, step, own):
    steps = {"a": step, "b": {"stepType": "PARALLEL_FORK_MANAGER", "parallelBranches": [{"steps": own}]}}
    path = write(tmp_path, "any.json", json.dumps(flow(steps=steps, defaultStepConfig=own)))
    assert_problems_are_located(load_file(path, EXPRESSIONS_AND_STEPS))


@RELAXED
@given(value=ANY_JSON)
def test_any_value_in_an_export_is_loaded_or_rejected_with_located_problems(tmp_path, value):
    for part in ("flows", "stepDefinitions", "promptTemplates", "mcpConnections", "agents"):
        path = write(tmp_path, "any.json", json.dumps({"formatVersion": "1.0", part: [value]}))
        for problem in load_file(path, EXPRESSIONS).problems:
            assert problem.line >= 1
            assert problem.path.startswith("$")


@RELAXED
@given(data=st.binary(max_size=60), name=st.sampled_from(["x.json", "x.prompt.json"]))
def test_any_bytes_are_loaded_or_rejected_with_located_problems(tmp_path, data, name):
    path = tmp_path / name
    path.write_bytes(data)
    assert_problems_are_located(load_file(path, EXPRESSIONS))
