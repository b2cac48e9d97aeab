"""The life cycle of a step: delays, input, literals, validation, output and its mappings."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_allma.engine.http_fake import json_response
from tests.support.engine import Fakes, call, compose, end, fork, noop, run, then


def composed(payload=None, **fields):
    """Return the input of a step with these fields, for a payload."""
    return run({"make": compose(**fields)}, payload).outputs["make"]


@pytest.mark.parametrize(
    ("delay", "before", "after"),
    [
        ({"milliseconds": 1500}, [], [1.5]),
        ({"milliseconds": 1500, "position": "after"}, [], [1.5]),
        ({"milliseconds": 250, "position": "before"}, [0.25], [0.25]),
        ({"delayFrom": 3000, "delayTo": 3000}, [], [3.0]),
    ],
)
def test_a_delay_is_before_or_after_the_step_as_configured(delay, before, after):
    fakes = Fakes()
    slept = []
    fakes.http.route(
        "GET", "https://api.test/x", lambda _: slept.extend(fakes.sleeps) or json_response({"ok": 1})
    )
    ran = run({"ask": call(delay=delay)}, fakes=fakes)
    assert (ran.status, slept, fakes.sleeps) == ("COMPLETED", before, after)


@given(st.integers(1, 10_000), st.integers(0, 10_000))
def test_a_random_delay_is_within_its_bounds(low, more):
    ran = run({"wait": noop(delay={"delayFrom": low, "delayTo": low + more})})
    (slept,) = ran.fakes.sleeps
    assert low / 1000 <= slept <= (low + more) / 1000


def test_a_delay_after_a_step_is_skipped_if_the_step_fails():
    fakes = Fakes()
    fakes.http.route("GET", "https://api.test/x", json_response({}, status=404))
    ran = run({"ask": call(delay={"milliseconds": 10})}, fakes=fakes)
    assert (ran.status, fakes.sleeps) == ("FAILED", [])


def test_inputs_are_copies_and_unknown_sources_leave_their_target_unset():
    payload = {"user": {"tags": ["a"]}, "n": None}
    ran = run(
        {
            "make": compose(
                inputMappings={
                    "user": "$.user",
                    "n": "$.n",
                    "gone": "$.no.such",
                    "a.b[1].c": "$.user.tags[0]",
                }
            )
        },
        payload,
    )
    built = ran.outputs["make"]
    assert built == {"user": {"tags": ["a"]}, "n": None, "a": {"b": [None, {"c": "a"}]}}
    built["user"]["tags"].append("b")
    assert payload["user"]["tags"] == ["a"]


def test_a_source_that_cannot_be_evaluated_leaves_its_target_unset_with_a_warning(caplog):
    assert composed(inputMappings={"a": "$.list[$.no.such]", "b": "$.x"}, payload={"x": 1}) == {"b": 1}
    assert "(input 'a' <- '$.list[$.no.such]' is not set)" in caplog.text


@pytest.mark.parametrize(
    ("mappings", "literals", "built"),
    [
        ({"a": "$.x"}, {"a": "fixed"}, {"a": "fixed"}),
        ({"q.limit": "$.x"}, {"q": {"table": "t"}}, {"q": {"limit": 7, "table": "t"}}),
        ({"q.a.b": "$.x"}, {"q": {"a": {"c": 1}}}, {"q": {"a": {"b": 7, "c": 1}}}),
        ({"q.a": "$.x"}, {"q": {"a": {"c": 1}}}, {"q": {"a": {"c": 1}}}),
        ({"q.a": "$.x"}, {"q.b": "{{q.a}}!"}, {"q": {"a": 7, "b": "7!"}}),
        ({"q.list": "$.list"}, {"q": {"list": [9]}}, {"q": {"list": [9]}}),
        ({}, {"typed": "$.x", "text": "{{x}}", "gone": "$.no.such"}, {"typed": 7, "text": "7"}),
        ({}, {"a[1]": True, "b": None}, {"a": [None, True], "b": None}),
        # Names that a JSONPath needs quotes for.
        ({"it's.a": "$.x"}, {"it's": {"b": 1}}, {"it's": {"a": 7, "b": 1}}),
        (
            {"list": "$.list"},
            {"a:b.c": {"d": 1}, "*.e": {"f": 1}},
            {"list": [1, 2], "a:b": {"c": {"d": 1}}, "*": {"e": {"f": 1}}},
        ),
        ({"l[0].a": "$.x"}, {"l[0]": {"b": 1}}, {"l": [{"a": 7, "b": 1}]}),
    ],
)
def test_literals_override_mapped_input_and_objects_are_merged(mappings, literals, built):
    assert composed({"x": 7, "list": [1, 2]}, inputMappings=mappings, literals=literals) == built


def test_runs_do_not_share_literals():
    steps = {
        "a": compose(literals={"list": [1]}, outputMappings={"$.kept": "$.list"}, **then("b")),
        "b": compose(literals={"list": [1]}, outputMappings={"$.kept[1]": "$.list"}),
    }
    assert run(steps).context["kept"] == [1, [1]]


def test_mappings_prefer_the_context_and_literals_the_state_of_the_run():
    payload = {"flowExecutionId": "mine", "status": "mine"}
    steps = {
        "make": compose(
            inputMappings={"mapped": "$.flowExecutionId", "flow": "$.flowDefinitionId"},
            literals={"literal": "{{flowExecutionId}}", "status": "{{status}}"},
        )
    }
    assert run(steps, payload).outputs["make"] == {
        "mapped": "mine",
        "flow": "shop",
        "literal": "run-1",
        "status": "RUNNING",
    }


STATE = {
    "step": "{{currentStepInstanceId}}",
    "logs": "{{enableExecutionLogs}}",
    "depth": "{{depth}}",
    "root": "{{rootFlowExecutionId}}",
    "kind": "{{executionKind}}",
    "done": "{{completedStepCount}}",
    "counts": "$.transitionCounts",
    "attempts": "$.stepRetryAttempts",
}


def test_templates_and_paths_can_name_the_state_of_the_run():
    steps = {
        "first": compose(**then("second")),
        "second": compose(
            inputMappings={"mapped": "$.currentStepInstanceId", "parent": "$.parentFlowExecutionId"},
            literals=STATE,
            transitions=[{"condition": "$.currentStepInstanceId == 'second'", "nextStepInstanceId": "third"}],
        ),
        "third": {"stepType": "NO_OP"},
    }
    ran = run(steps)
    assert ran.outputs["second"] == {
        "mapped": "second",
        "step": "second",
        "logs": "false",
        "depth": "0",
        "root": "run-1",
        "kind": "ROOT",
        "done": "1",
        "counts": {"first:default": 1},
        "attempts": {},
    }
    assert "third" in ran.outputs


def test_a_call_sees_how_often_its_step_was_tried_before():
    fakes = Fakes()
    fakes.http.route("GET", "https://api.test/?0", json_response({}, status=503))
    fakes.http.route("GET", "https://api.test/?1", json_response({"ok": True}))
    template = "https://api.test/?{{#if stepRetryAttempts.ask}}{{stepRetryAttempts.ask}}{{else}}0{{/if}}"
    ran = run({"ask": call(apiUrlTemplate={"template": template})}, fakes=fakes)
    assert ran.outputs["ask"]["data"] == {"ok": True}


@pytest.mark.parametrize("value", [0, "", False, []])
def test_a_required_field_may_be_falsy(value):
    steps = {
        "make": compose(inputMappings={"a": "$.x"}, outputValidation={"requiredFields": ["$.a"]}),
    }
    assert run(steps, {"x": value}).outputs["make"] == {"a": value}


@pytest.mark.parametrize("payload", [{}, {"x": None}])
def test_a_required_field_that_is_missing_or_null_is_a_content_error(payload):
    steps = {"make": compose(inputMappings={"a": "$.x"}, outputValidation={"requiredFields": ["$.b", "$.a"]})}
    ran = run(steps, payload)
    assert ran.status == "FAILED"
    assert ran.error["errorName"] == "ContentBasedRetryableError"
    assert ran.error["errorDetails"] == {"requiredField": "$.b", "failedStepInstanceId": "make"}


def test_meta_is_not_written_to_the_context_but_a_source_may_use_it():
    fakes = Fakes()
    fakes.http.route("GET", "https://api.test/x", json_response({"price": 3}))
    ran = run({"ask": call(**then("again")), "again": call(outputMappings={
        "$.whole": "$",
        "$.method": "$._meta.method",
        "$.meta": "$['_meta']",
        "$.no": "$._meta.no.such",
    })}, fakes=fakes)  # fmt: skip
    assert "_meta" not in ran.outputs["ask"]
    assert "_meta" not in ran.context["whole"]
    assert ran.context["method"] == "GET"
    assert ran.context["meta"] == fakes.record("again").meta != {}
    assert "no" not in ran.context


def test_a_field_whose_name_only_starts_with_meta_is_an_ordinary_field():
    steps = {"make": compose(literals={"_metadata": {"x": 1}}, outputMappings={"$.x": "$._metadata.x"})}
    assert run(steps).context["x"] == 1


@pytest.mark.parametrize(
    ("mappings", "outputs", "extra"),
    [
        (None, {"make": {"a": 1}}, {}),
        ({}, {}, {}),
        ({"$.got": "$"}, {}, {"got": {"a": 1}}),
        ({"$.got": "$."}, {}, {"got": {"a": 1}}),
        ({"$.list[1].x": "$.a"}, {}, {"list": [None, {"x": 1}]}),
        ({"$.got": "$.a", "$.steps_output.other": "$"}, {"other": {"a": 1}}, {"got": 1}),
        ({"$.got": "$.no.such"}, {}, {}),
    ],
)
def test_output_mappings_define_what_is_written_to_the_context(mappings, outputs, extra):
    fields = {} if mappings is None else {"outputMappings": mappings}
    ran = run({"make": compose(literals={"a": 1}, **fields)})
    rest = {key: value for key, value in ran.context.items() if key not in STANDING}
    assert (ran.status, ran.outputs, rest) == ("COMPLETED", outputs, extra)


STANDING = {"initialContextData", "flow_variables", "steps_output"}


def test_the_output_of_a_step_whose_id_is_not_an_identifier_has_that_id_as_its_key():
    assert run({"my step's": compose(literals={"a": 1})}).outputs == {"my step's": {"a": 1}}


def test_a_source_that_the_output_lacks_is_looked_up_in_the_input():
    fakes = Fakes()
    fakes.http.route("GET", "https://api.test/x", json_response({"price": None}))
    step = call(
        inputMappings={"id": "$.id", "data": "$.own"},
        outputMappings={
            "$.id_again": "$.id",
            "$.price": "$.data.price",
            "$.both": "$.data.x",
            "$.no": "$.no",
        },
    )
    ran = run({"ask": step}, {"id": 5, "own": {"price": 9, "x": 8}}, fakes=fakes)
    # A null in the output is a value; only a missing member falls back to the input.
    assert (ran.context["id_again"], ran.context["price"], ran.context["both"]) == (5, None, 8)
    assert "no" not in ran.context


def test_sources_and_targets_that_do_not_exist_are_warnings(caplog):
    mappings = {"$.a": "$.no.such", "$.list.name": "$.x", "$.b": "$.x[$.none]", "$.fine": "$.x"}
    ran = run({"make": compose(literals={"x": 1}, outputMappings=mappings)}, {"list": [1]})
    assert ran.status == "COMPLETED"
    assert ran.context["fine"] == 1
    assert ran.context["list"] == [1]
    assert "$.no.such finds nothing in the output of step make ($.a is not changed)" in caplog.text
    assert "(step make: $.list.name <- $.x is not written)" in caplog.text
    assert "(step make: $.b <- $.x[$.none] is not written)" in caplog.text


def test_a_record_shows_the_input_as_it_was_built():
    ran = run({"pass": noop(displayName="Pass", literals={"a": 1}, **then("end")), "end": end()})
    record = ran.fakes.record("pass")
    assert record.input == {"a": 1}
    assert record.output == {"a": 1, "message": "NO_OP step 'Pass' executed successfully."}
    assert (record.step_type, record.next_step, record.error, record.tries) == ("NO_OP", "end", None, 1)


@pytest.mark.parametrize(
    "field",
    [{"delay": {"milliseconds": 5}}, {"onError": {"retries": {"count": 1}}}, {"forceS3Offload": True}],
)
def test_end_flow_ends_the_path_and_does_not_change_the_last_output(field):
    steps = {
        "fan": fork(),
        "work": compose(inputMappings={"n": "$.currentItem"}, **then("stop")),
        "stop": end(**field),
    }
    ran = run(steps, {"items": [1, 2]})
    assert ran.outputs["fan"] == {"aggregatedData": [{"n": 1}, {"n": 2}]}
    assert ran.fakes.sleeps == []


def test_the_default_error_handler_does_not_change_the_result_of_a_branch():
    handler = {"defaultErrorHandler": {"retries": {"count": 2, "intervalSeconds": 1}}}
    steps = {
        "fan": fork(),
        "work": compose(inputMappings={"n": "$.currentItem"}, **then("stop")),
        "stop": end(),
    }
    ran = run(steps, {"items": [1]}, flow={"defaultStepConfig": handler})
    assert ran.outputs["fan"] == {"aggregatedData": [{"n": 1}]}


PATHS = st.sampled_from(
    ["$.a", "$.a.b", "$.list[0]", "$.list[2].x", "$.steps_output.s0", "$.new.deep[1]", "$"]
)
STEPS = st.lists(st.tuples(st.dictionaries(PATHS, PATHS, max_size=3), st.booleans()), min_size=1, max_size=5)
VALUES = st.recursive(
    st.none() | st.integers(-3, 3) | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abx"), inner, max_size=3),
    max_leaves=6,
)


@given(STEPS, VALUES, VALUES)
def test_writes_of_a_step_do_not_change_the_context_that_it_started_with(steps, a, list_item):
    document = {}
    for number, (mappings, waits) in enumerate(steps):
        step = compose(
            inputMappings={"a": "$.a", "list": "$.list", "new": "$.new"},
            literals={"x": number, "a.b": {"n": number}},
            outputMappings=mappings,
            **({"delay": {"milliseconds": 1}} if waits else {}),
        )
        document[f"s{number}"] = step
        if number:
            document[f"s{number - 1}"]["defaultNextStepInstanceId"] = f"s{number}"
    payload = {"a": a, "list": [list_item]}
    before = copy.deepcopy(payload)
    assert run(document, payload).status == "COMPLETED"
    assert payload == before


def test_branch_runs_do_not_share_mutable_values():
    shared = {"tags": ["x"]}
    steps = {
        "fan": fork(),
        "work": compose(
            inputMappings={"item": "$.currentItem"},
            outputMappings={"$.currentItem.tags[1]": "$.item.tags[0]", "$.mark": "$.item"},
            **then("look"),
        ),
        "look": compose(inputMappings={"item": "$.currentItem", "mark": "$.mark"}),
    }
    ran = run(steps, {"items": [shared, shared]})
    one = {"item": {"tags": ["x", "x"]}, "mark": {"tags": ["x"]}}
    assert ran.outputs["fan"] == {"aggregatedData": [one, one]}
    assert shared == {"tags": ["x"]}
    assert "mark" not in ran.context
    assert "currentItem" not in ran.context
