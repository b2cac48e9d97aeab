"""Warnings about targets below other targets."""

import pytest

from airflow_allma.flow.validation import check_flow
from airflow_allma.loading import FLOW_CHECKS


def warned(**fields):
    """Return the path below the step -> the message of each warning."""
    step = {"stepType": "NO_OP", **fields}
    checked = check_flow(
        {"id": "f", "startStepInstanceId": "s", "steps": {"s": step, "w": {"stepType": "NO_OP"}}},
        checks=FLOW_CHECKS,
    )
    assert checked.flow is not None, checked.diagnostics
    return {one.path[2:]: one.message for one in checked.diagnostics if "which is set too" in one.message}


LEFT_OUT, REPLACED = "is left out if", "is set later and replaces it"


@pytest.mark.parametrize(
    ("fields", "path", "reason"),
    [
        ({"inputMappings": {"a": "$.n", "a.b": "$.t"}}, ("inputMappings", "a.b"), LEFT_OUT),
        ({"inputMappings": {"a.b": "$.n", "a": "$.t"}}, ("inputMappings", "a.b"), LEFT_OUT),
        ({"inputMappings": {"a.b.c.d": "$.n", "a": "$.t"}}, ("inputMappings", "a.b.c.d"), LEFT_OUT),
        ({"inputMappings": {"a[0]": "$.n", "a": "$.t"}}, ("inputMappings", "a[0]"), LEFT_OUT),
        ({"inputMappings": {"['a'].b": "$.n", "a": "$.t"}}, ("inputMappings", "['a'].b"), REPLACED),
        ({"inputMappings": {"a": "$.n"}, "literals": {"a.b": 1}}, ("literals", "a.b"), LEFT_OUT),
        ({"inputMappings": {"a.b": "$.n"}, "literals": {"a": "{{t}}"}}, ("inputMappings", "a.b"), REPLACED),
        ({"literals": {"a": 5, "a.b": 1}}, ("literals", "a.b"), LEFT_OUT),
        ({"literals": {"a.b": 1, "a": 5}}, ("literals", "a.b"), REPLACED),
        ({"outputMappings": {"$.a": "$", "$.a.b": "$.v"}}, ("outputMappings", "$.a.b"), LEFT_OUT),
        ({"outputMappings": {"$.a['b']": "$", "$.a": "$.v"}}, ("outputMappings", "$.a['b']"), REPLACED),
    ],
)
def test_a_target_below_another_is_warned_of_where_it_is_written(fields, path, reason):
    (entry,) = warned(**fields).items()
    assert entry[0] == path
    assert reason in entry[1]


@pytest.mark.parametrize(
    "fields",
    [
        {"inputMappings": {"a.b": "$.n", "a.c": "$.t", "ab": "$.x"}},
        # an object is combined with what is below it
        {"inputMappings": {"a.b": "$.n"}, "literals": {"a": {"c": 1}}},
        {"inputMappings": {"a.b": "$.n"}, "literals": {"a": "$.object"}},
        {"literals": {"a": {"c": 1}, "a.b": 2}},
        {"outputMappings": {"$": "$", "$.a": "$.v"}},
        {"outputMappings": {"$.a.b": "$", "$.a.c": "$.v", "$.x[$.a]": "$"}},
        {"inputMappings": {"a": "$.n"}, "outputMappings": {"$.a.b": "$"}},
    ],
)
def test_other_targets_are_not_warned_of(fields):
    assert warned(**fields) == {}


def test_the_targets_of_branches_are_checked():
    fields = {
        "stepType": "PARALLEL_FORK_MANAGER",
        "itemsPath": "$.items",
        "parallelBranches": [
            {"branchId": "b", "stepInstanceId": "w", "inputMappings": {"a": "$.n", "a.b": "$.t"}},
        ],
    }
    assert list(warned(**fields)) == [("parallelBranches", 0, "inputMappings", "a.b")]


def test_an_invalid_target_is_reported_once_and_the_others_are_checked():
    step = {"stepType": "NO_OP", "literals": {"a..b": 1, "a": 2, "a.c": 3}, "outputMappings": {"$.[": "$"}}
    checked = check_flow({"id": "f", "startStepInstanceId": "s", "steps": {"s": step}}, checks=FLOW_CHECKS)
    assert sorted(one.path[2:] for one in checked.diagnostics) == [
        ("literals", "a..b"),
        ("literals", "a.c"),
        ("outputMappings", "$.["),
    ]
