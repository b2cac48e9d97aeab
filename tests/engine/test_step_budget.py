"""The budget of a step: what a step computes ends, with an error that names the setting, step and place."""

from __future__ import annotations

import pytest

from airflow_allma.common.work_budget import WorkBudget, begin_step, current_budget, own_budget
from airflow_allma.engine import EngineSettings
from airflow_allma.engine.context_size import json_size_up_to
from airflow_allma.engine.errors import step_error_from
from airflow_allma.engine.http_fake import json_response
from airflow_allma.exceptions import PermanentStepError
from tests.support.engine import Fakes, call, compose, fork, noop, run, then

LIMIT = 3_000
SMALL = EngineSettings(max_step_work=LIMIT)
NUMBERS = list(range(150))
LONG = "x" * 10_000
ROWS = [{"k": 1, "v": number} for number in range(60)]


def literal(value):
    return noop(literals={"x": value})


def context_mapping(**entry):
    return {
        "stepType": "API_CALL",
        "apiHttpMethod": "GET",
        "apiUrlTemplate": {
            "template": "https://api.test/{{m}}",
            "contextMappings": {"m": {"sourceJsonPath": "$.n", **entry}},
        },
    }


def join(join_type, left, right, **literals):
    return {
        "stepType": "DATA_TRANSFORMATION",
        "moduleIdentifier": "system/join-data",
        "inputMappings": {"left_source": left, "right_source": right},
        "literals": {
            "left_format": "json",
            "right_format": "json",
            "output_format": "json",
            "join_type": join_type,
            "join_keys": ["k"],
            **literals,
        },
    }


JOIN = join("inner", "$.rows", "$.rows")

HEAVY = {
    "a union of many keys, again and again": (literal(f"$.d{'[0,0,0,0,0,0,0,0,0,0]' * 5}"), "$.d[0,0"),
    "wildcards": (literal("$.t[*][*][*][*]"), "$.t[*]"),
    "a union after a wildcard": (literal("$.t[*]['a','a','a'][0:99][0:99]"), "$.t[*]"),
    "slices of slices": (literal("$.t[0:99].a[0:99][0:99]"), "$.t[0:99]"),
    "descendants of descendants": (literal("$..*..*..*"), "$..*..*"),
    "a filter within a filter": (literal("$.n[?($.n[?($.n[?(@ > 1)])])]"), "$.n[?("),
    "descendants within a filter": (literal("$..[?(@..[?(@..[0])])]"), "@..["),
    "a dynamic path": (literal(f"$.t[*].a[0{',0' * 20}][$.n[0]]"), "$.t[*]"),
    "loops within loops": (literal("{{#each n}}{{#each ../n}}{{/each}}{{/each}}"), "{{#each"),
    "sections within loops": (literal("{{#n}}{{#../n}}.{{/../n}}{{/n}}"), "{{#n}}"),
    "JSON that is only compared": (
        literal("{{#each n}}{{#if (eq (json @root) 1)}}{{/if}}{{/each}}"),
        "{{#each n}}",
    ),
    "base64 that is only compared": (
        literal("{{#each n}}{{#if (eq (base64 @root.n) 1)}}{{/if}}{{/each}}"),
        "{{#each n}}",
    ),
    "slices in a loop": (literal("{{#each n}}{{#if (slice ../n 0)}}{{/if}}{{/each}}"), "{{#each n}}"),
    "lists compared as strings": (literal("{{#each n}}{{#if (gt ../n 1)}}{{/if}}{{/each}}"), "{{#each n}}"),
    "long strings compared in code units": (
        literal("{{#each n}}{{#if (gt ../e 'a')}}{{/if}}{{/each}}"),
        "{{#each n}}",
    ),
    "long strings that are equal": (
        literal("{{#each n}}{{#if (eq @root.m @root.m2)}}{{/if}}{{/each}}"),
        "{{#each n}}",
    ),
    "long strings that are equal, in a filter": (literal("$.n[?($.m == $.m2)]"), "$.n[?("),
    "long strings that are equal, in order": (literal("$.n[?($.m < $.m2)]"), "$.n[?("),
    "characters of long strings": (literal("{{#each n}}{{@root.e.[4500]}}{{/each}}"), "{{#each n}}"),
    "lengths of long strings": (literal("{{#each n}}{{../e.length}}{{/each}}"), "{{#each n}}"),
    "a long body of a loop": (literal("{{#each n}}" + "{{q}}" * 200 + "{{/each}}"), "{{#each n}}"),
    "a long filter": (literal(f"$.n[?({' && '.join(['@ > 0'] * 500)})]"), "$.n[?("),
    "paths in a loop": (
        literal('{{#each n}}{{#with_json_path "$..*" as |q|}}{{/with_json_path}}{{/each}}'),
        "$..*",
    ),
    "one long text in many places": (literal("{{l}}" * 8), "the template {{l}}"),
    "a long text in many literals": (
        noop(literals={f"x{number}": "a{{l}}" for number in range(5)}),
        "the template a{{l}}",
    ),
    "long text beside a helper": (literal("{{#if n}}{{l}}{{/if}}" * 5), "the template {{#if n}}"),
    "copies of a list by mappings": (
        compose(inputMappings={f"x{number}": "$.t" for number in range(20)}),
        "the input 'x",
    ),
    "item templates": (context_mapping(formatAs="CUSTOM_STRING", itemTemplate="{{this}}" + "." * 500), None),
    "many fields of many objects": (
        context_mapping(selectFields=[f"f{number}" for number in range(300)]),
        None,
    ),
    "JSON in strings": (context_mapping(sourceJsonPath="$.json", selectFields=["a"]), None),
    "rows with equal keys": (JOIN, "system/join-data"),
    "rows without a partner": (join("left", "$.wide", "$.other"), "system/join-data"),
    "rows without a partner, on the right": (join("right", "$.other", "$.wide"), "system/join-data"),
    "many keys": (
        join("inner", "$.rows", "$.other", join_keys=["k"] * 600),
        "system/join-data",
    ),
    "a list of numbers": (
        noop(literals={"count": 3_001})
        | {"stepType": "DATA_TRANSFORMATION", "moduleIdentifier": "system/generate-array"},
        "system/generate-array",
    ),
}
PAYLOAD = {
    "d": [[[[[[1]]]]]],
    "n": NUMBERS,
    "t": [{"a": [NUMBERS[:10]] * 5} for _ in range(100)],
    "l": LONG,
    "e": "é" * 5_000,
    "m": "x" * 100_000,
    "m2": "x" * 100_000,
    "json": "[" + "1," * 20_000 + "1]",
    "wide": [{"k": 0, **{f"c{number}": 0 for number in range(50)}}, *[{"k": 0}] * 80],
    "other": [{"k": -1}],
    "p": [f"$.d[{number}]" + "[0]" * 20 for number in range(50)],
    "rows": ROWS,
}


@pytest.mark.parametrize("name", HEAVY)
def test_a_step_that_multiplies_work_fails_with_the_setting_its_name_and_the_place(name):
    step, place = HEAVY[name]
    ran = run({"heavy": step}, PAYLOAD, settings=SMALL)
    assert ran.status == "FAILED"
    assert (ran.error["errorName"], ran.error["isRetryable"]) == ("PermanentStepError", False)
    message = ran.error["errorMessage"]
    assert f"Step heavy does more work than [allma] max_step_work = {LIMIT} allows" in message
    assert ran.error["errorDetails"]["failedStepInstanceId"] == "heavy"
    if place is not None:
        assert place in message


@pytest.mark.parametrize("name", HEAVY)
@pytest.mark.parametrize("work", [0, 1_000_000])
def test_the_same_step_runs_with_a_larger_budget_or_none(name, work):
    step, _ = HEAVY[name]
    settings = EngineSettings(max_step_work=work)
    light = {**PAYLOAD, "n": NUMBERS[:3], "t": PAYLOAD["t"][:2], "p": [], "rows": ROWS[:2]}
    ran = run({"heavy": step}, light, settings=settings)
    assert "max_step_work" not in str(ran.error)


def test_every_step_has_a_budget_of_its_own():
    steps = {f"s{number}": literal("{{l}}-") | then(f"s{number + 1}") for number in range(10)}
    ran = run({**steps, "s10": literal("{{l}}")}, {"l": LONG}, settings=EngineSettings(max_step_work=1_200))
    assert ran.status == "COMPLETED"


def test_the_flow_can_continue_after_a_step_that_exceeds_its_budget():
    module = JOIN | then("after", onError={"continueOnFailure": True})
    ran = run({"heavy": module, "after": noop()}, PAYLOAD, settings=SMALL)
    assert (ran.status, ran.path) == ("COMPLETED", ["heavy", "after"])
    assert "max_step_work" in ran.outputs["heavy"]["errorMessage"]


def test_an_item_that_exceeds_the_budget_fails_alone():
    steps = {
        "fan": fork(config={"failOnBranchError": False}),
        "work": literal("{{#each currentItem}}{{#each ../currentItem}}.{{/each}}{{/each}}"),
    }
    ran = run(steps, {"items": [[1], NUMBERS, [1, 2]]}, settings=SMALL)
    first, heavy, last = ran.outputs["fan"]["aggregatedData"]
    assert (first["x"], last["x"]) == (".", "....")
    assert "Step work does more work" in heavy["error"]["errorMessage"]


def test_conditions_and_mappings_of_branches_have_a_budget_too():
    branches = [
        {"branchId": "a", "stepInstanceId": "work", "condition": "$.n[?($.n[?($.n[?(@ > 1)])])]"},
        {"branchId": "b", "stepInstanceId": "work", "literals": {"x": "{{l}}" * 9}},
    ]
    steps = {"fan": fork(parallelBranches=branches, config={"failOnBranchError": False}), "work": noop()}
    ran = run(steps, {"items": [1], "n": NUMBERS, "l": LONG}, settings=SMALL)
    errors = [member["error"]["errorMessage"] for member in ran.outputs["fan"]["aggregatedData"]]
    assert [message.partition(" more work")[0] for message in errors] == ["Step fan does"] * 2


def test_a_fork_does_not_pay_for_the_work_of_its_branches():
    work = literal("{{#each n}}.{{/each}}")
    ran = run(
        {"fan": fork() | then("after"), "work": work, "after": work},
        {"items": list(range(100)), "n": NUMBERS},
        settings=EngineSettings(max_step_work=500),
    )
    assert ran.status == "COMPLETED"


def test_data_that_grows_from_step_to_step_has_a_limit():
    steps = {
        f"s{number}": compose(inputMappings={"a": source, "b": source}) | then(f"s{number + 1}")
        for number, source in enumerate(["$.n", *[f"$.steps_output.s{one}" for one in range(30)]])
    }
    ran = run(
        {**steps, "s31": noop()},
        {"n": list(range(50_000))},
        settings=EngineSettings(max_context_bytes=10_000_000),
    )
    assert ran.status == "FAILED"
    assert "[allma] max_context_bytes = 10000000" in ran.error["errorMessage"]
    assert json_size_up_to(ran.context, 20_000_000) < 20_000_000


@pytest.mark.parametrize("kind", ["generated", "received"])
def test_data_that_arrives_without_work_is_measured_too(kind):
    steps, fakes = {}, Fakes()
    for number in range(30):
        if kind == "generated":
            step = {"stepType": "DATA_TRANSFORMATION", "moduleIdentifier": "system/generate-array"}
            step |= {"literals": {"count": 300_000}}
        else:
            url = f"https://api.test/{number}"
            step = call(url)
            fakes.http.route("GET", url, json_response("x" * 2_000_000))
        steps[f"s{number}"] = step | then(f"s{number + 1}")
    ran = run({**steps, "s30": noop()}, fakes=fakes, settings=EngineSettings(max_context_bytes=5_000_000))
    assert ran.status == "FAILED"
    assert "[allma] max_context_bytes = 5000000" in ran.error["errorMessage"]
    assert json_size_up_to(ran.context, 30_000_000) < 30_000_000


def test_a_task_measures_the_data_that_it_was_given_with_its_own_output():
    settings = EngineSettings(max_context_bytes=1_000)
    ran = run({"big": literal("{{l}}") | then("after"), "after": noop()}, {"l": "y" * 600}, settings=settings)
    assert (ran.status, ran.path) == ("FAILED", ["big"])
    assert ran.outputs == {}


def test_the_path_of_a_long_loop_keeps_its_beginning_and_its_end():
    steps = {
        "begin": noop() | then("turn"),
        "turn": noop() | then("turn", defaultNextMaxTransitions=25_000),
    }
    ran = run(steps)
    assert ran.error["errorDetails"]["maxTransitions"] == 25_000
    assert len(ran.path) <= 21_000
    assert (ran.path[:2], ran.path.count("...")) == (["begin", "turn"], 1)


@pytest.mark.parametrize(
    ("error", "words"), [(MemoryError(), "no memory left"), (RecursionError("deep"), "nested too deeply")]
)
def test_exhausted_memory_or_stack_is_a_permanent_error_of_the_step(error, words):
    converted = step_error_from(error)
    assert isinstance(converted, PermanentStepError)
    assert words in converted.message


def test_a_step_begins_with_a_full_budget_and_restores_that_around_it():
    with own_budget(5) as outer:
        with own_budget(7):
            begin_step(7, "inner")
            current_budget().spend(69)
            begin_step(7, "next")
            assert (current_budget().step, current_budget().spent) == ("next", 0)
        assert current_budget() is outer
    assert WorkBudget(0).left > 10**15
