"""Aggregation of branch results into ``aggregatedData``."""

from __future__ import annotations

import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_allma.engine import Aggregator, BranchResult, BranchStatus, EngineSettings
from airflow_allma.engine.custom_aggregators import load_custom_aggregator
from airflow_allma.engine.fork_limits import LimitFields
from airflow_allma.exceptions import ParallelBranchExecutionError, PermanentStepError
from airflow_allma.flow import ParallelForkManagerStep
from tests.support.aggregators import SEEN
from tests.support.engine import compose, fork, run

MINE = "tests.support.aggregators"
ERROR = {"errorName": "Oops", "errorMessage": "went wrong", "errorDetails": {}, "isRetryable": False}


def result(index, output=None, status=BranchStatus.OK):
    error = ERROR if status is BranchStatus.FAILED else None
    return BranchResult(index, 0, "b", status, output=output, error=error)


def failed(index):
    return result(index, status=BranchStatus.FAILED)


def skipped(index):
    return result(index, status=BranchStatus.SKIPPED)


def aggregator(config, **options):
    step = {**fork(config=config), "stepInstanceId": "fan"}
    model = ParallelForkManagerStep.model_validate(step)
    return Aggregator(model.aggregation_config, LimitFields(model).fixed, **options)


def aggregated(*results, **config):
    return aggregator(config).aggregate(iter(results))


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (
            "COLLECT_ARRAY",
            {"aggregatedData": [{"a": 1, "b": 1}, {"branchId": "b", "error": ERROR}, 4, {"b": 2}]},
        ),
        (
            "MERGE_OBJECTS",
            {"aggregatedData": {"a": 1, "b": 2, "_branchErrors": [{"branchId": "b", "error": ERROR}]}},
        ),
        ("SUM", {"aggregatedData": 4}),
        (
            "NONE",
            {"aggregatedData": None, "aggregationSkipped": True, "branchCount": 4, "failedBranchCount": 1},
        ),
    ],
)
def test_each_strategy_aggregates_results_and_tolerated_failures(strategy, expected):
    results = [result(0, {"a": 1, "b": 1}), failed(1), skipped(2), result(3, 4), result(4, {"b": 2})]
    assert aggregated(*results, strategy=strategy, failOnBranchError=False) == expected


def test_results_that_do_not_match_the_strategy_are_ignored_with_a_warning(caplog):
    assert aggregated(result(0, True), result(1, "1"), result(2, 1.5), strategy="SUM") == {
        "aggregatedData": 1.5
    }
    assert "SUM ignores a result that is not a number (item 0, branch b)" in caplog.text
    assert aggregated(result(7, [1]), strategy="MERGE_OBJECTS") == {"aggregatedData": {}}
    assert "MERGE_OBJECTS ignores a result that is not an object (item 7, branch b)" in caplog.text


@given(st.integers(1, 40), st.data(), st.integers(0, 100))
def test_a_fork_fails_only_above_the_tolerated_percentage(count, data, percentage):
    failures = data.draw(st.integers(0, count))
    results = [failed(index) if index < failures else result(index, index) for index in range(count)]
    fails = failures * 100 > percentage * count
    if not fails:
        output = aggregated(*results, toleratedFailurePercentage=percentage)
        assert len(output["aggregatedData"]) == count
        return
    with pytest.raises(ParallelBranchExecutionError) as caught:
        aggregated(*results, toleratedFailurePercentage=percentage)
    error = caught.value
    assert (error.details["failedBranchCount"], error.details["branchCount"]) == (failures, count)
    assert len(error.details["branchErrors"]) == min(failures, 10)
    start = f"{failures} of {count} branch runs failed. The first, of branch b: Oops:"
    assert error.message.startswith(start)


@pytest.mark.parametrize(("failures", "fails"), [(0, False), (1, False), (2, True)])
def test_exactly_the_tolerated_percentage_is_tolerated(failures, fails):
    results = [failed(index) for index in range(failures)]
    results += [result(index) for index in range(failures, 4)]
    if fails:
        with pytest.raises(ParallelBranchExecutionError):
            aggregated(*results, toleratedFailurePercentage=25)
    else:
        aggregated(*results, toleratedFailurePercentage=25)


@pytest.mark.parametrize(
    ("tolerance", "tolerated"),
    [
        ({"toleratedFailureCount": 0}, 0),
        ({"toleratedFailureCount": 2}, 2),
        ({"toleratedFailureCount": 99}, 8),
        ({"toleratedFailureCount": 3, "toleratedFailurePercentage": 25}, 2),
        ({"toleratedFailureCount": 1, "toleratedFailurePercentage": 25}, 1),
        ({"toleratedFailureCount": 5, "toleratedFailurePercentage": 0}, 0),
        ({"toleratedFailureCount": 0, "toleratedFailurePercentage": 100}, 0),
        ({"toleratedFailureCount": 0, "failOnBranchError": False}, 8),
    ],
)
@pytest.mark.parametrize("strategy", ["COLLECT_ARRAY", "NONE"])
def test_a_fork_fails_when_one_of_the_given_tolerances_is_exceeded(tolerance, tolerated, strategy):
    for failures in range(9):
        results = [failed(index) if index < failures else result(index) for index in range(8)]
        if failures <= tolerated:
            aggregated(*results, strategy=strategy, **tolerance)
        else:
            with pytest.raises(ParallelBranchExecutionError, match=f"{failures} of 8"):
                aggregated(*results, strategy=strategy, **tolerance)


def test_skipped_branch_runs_do_not_dilute_the_percentage():
    with pytest.raises(ParallelBranchExecutionError, match="1 of 1 branch runs"):
        aggregated(failed(0), *[skipped(index) for index in range(1, 100)], toleratedFailurePercentage=50)


def custom(identifier, items=(1, 2), prefixes=(), **config):
    steps = {
        "fan": fork(
            config={
                "strategy": "CUSTOM_MODULE",
                "customModuleIdentifier": identifier,
                "dataPath": "$.v",
                **config,
            }
        ),
        "work": compose(inputMappings={"v": "$.currentItem"}, outputValidation={"requiredFields": ["$.v"]}),
    }
    return run(steps, {"items": list(items)}, settings=EngineSettings(custom_module_prefixes=tuple(prefixes)))


@pytest.mark.parametrize("identifier", [f"{MINE}:joined", f"{MINE}.joined"])
@pytest.mark.parametrize("prefixes", [(), ("tests.support",), ("other", MINE)])
def test_a_flow_may_name_a_function_that_aggregates_the_results(identifier, prefixes):
    ran = custom(identifier, prefixes=prefixes)
    assert ran.outputs["fan"] == {"aggregatedData": "0.0:ok:1 1.0:ok:2"}


def test_the_function_sees_tolerated_failures_too():
    ran = custom(f"{MINE}:joined", items=(1, None), failOnBranchError=False)
    assert ran.outputs["fan"] == {"aggregatedData": "0.0:ok:1 1.0:failed:None"}


@pytest.mark.parametrize(
    ("identifier", "message"),
    [
        ("os.system", "is not allowed"),
        ("os:system", "is not allowed"),
        ("posix:system", "is not allowed"),
        ("builtins.exec", "is not allowed"),
        ("builtins:eval", "is not allowed"),
        ("subprocess:run", "is not allowed"),
        ("importlib.util:module_from_spec", "is not allowed"),
        (f"{MINE}:dumps", "is not a function that"),
        (f"{MINE}:AsFunction", "is not a function that"),
        (f"{MINE}:no_such", "is not a function that"),
        (f"{MINE}:joined.__globals__", "is not an import path"),
        ("joined", "is not an import path"),
        ("..joined", "is not an import path"),
        ("", "is not an import path"),
        ("a b:c", "is not an import path"),
        ("no_such_package.module:thing", "cannot be imported"),
    ],
)
def test_only_functions_defined_by_a_users_module_are_loaded(identifier, message):
    with pytest.raises(PermanentStepError, match=message):
        load_custom_aggregator(identifier)


def test_only_modules_below_an_allowed_prefix_are_loaded():
    for prefix in ("tests.sup", "tests.support.aggregators.joined", "other"):
        with pytest.raises(PermanentStepError, match="is not allowed"):
            load_custom_aggregator(f"{MINE}:joined", (prefix,))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("raising", f"'{MINE}:raising' raised RuntimeError: no 2"),
        ("not_json", "returned a value that is not JSON"),
    ],
)
def test_a_failing_function_fails_the_step(name, message):
    ran = custom(f"{MINE}:{name}")
    assert (ran.status, ran.error["errorName"]) == ("FAILED", "PermanentStepError")
    assert message in ran.error["errorMessage"]


def test_a_function_may_raise_a_step_error():
    ran = custom(f"{MINE}:busy")
    assert ran.error["errorName"] == "TransientStepError"
    assert ran.error["errorMessage"] == "come back later"


def reduced(name, *results, **config):
    settings = {"strategy": "CUSTOM_MODULE", "customModuleIdentifier": f"{MINE}:{name}", **config}
    return aggregated(*results, **settings)


def test_a_function_that_stops_reading_early_does_not_hide_failures():
    assert reduced("first_only", result(0, 4), result(1, 5)) == {"aggregatedData": 4}
    with pytest.raises(ParallelBranchExecutionError, match="1 of 3"):
        reduced("first_only", result(0, 4), result(1, 5), failed(2))


def test_a_function_sees_failures_only_if_some_are_tolerated_and_cannot_swallow_them():
    SEEN.clear()
    with pytest.raises(ParallelBranchExecutionError, match="2 of 4"):
        reduced("swallowing", result(0, 4), failed(1), result(2, 5), failed(3))
    assert SEEN.pop() == "4!"
    with pytest.raises(ParallelBranchExecutionError, match="2 of 4"):
        reduced("swallowing", result(0, 4), failed(1), result(2, 5), failed(3), toleratedFailurePercentage=49)
    assert SEEN.pop() == "4None5None!"
    with pytest.raises(ParallelBranchExecutionError, match="2 of 4"):
        reduced("swallowing", result(0, 4), failed(1), result(2, 5), failed(3), toleratedFailureCount=1)
    assert SEEN.pop() == "4None5!"


@pytest.mark.parametrize(
    ("percentage", "error"), [(10, ParallelBranchExecutionError), (50, PermanentStepError)]
)
def test_an_error_of_a_function_about_failures_counts_only_if_they_are_tolerated(percentage, error):
    with pytest.raises(error) as caught:
        reduced("demanding", result(0, 4), failed(1), toleratedFailurePercentage=percentage)
    assert type(caught.value) is error


@pytest.mark.parametrize("strategy", ["COLLECT_ARRAY", "MERGE_OBJECTS", "SUM", "NONE", "CUSTOM_MODULE"])
def test_a_result_is_released_after_the_strategy_has_used_it(strategy):
    alive = weakref.WeakSet()

    class Tracked(dict):
        """An output whose release can be observed."""

        __hash__ = object.__hash__

    def results():
        for index in range(50):
            output = Tracked(n=index)
            alive.add(output)
            yield result(index, output)
            del output
            alive_counts.append(len(alive))

    alive_counts: list[int] = []
    config = {"strategy": strategy, "customModuleIdentifier": f"{MINE}:counting"}
    aggregator(config, collect=lambda _: None).aggregate(results())
    assert len(alive_counts) == 50
    assert max(alive_counts) <= 2


def test_results_are_serialized_as_json():
    saved = result(3, {"a": [1]})
    assert BranchResult.from_dict(saved.to_dict()) == saved
    assert BranchResult.from_dict(failed(2).to_dict()) == failed(2)
    assert skipped(1).to_dict() == {"itemIndex": 1, "branchIndex": 0, "branchId": "b", "status": "skipped"}
