"""Random flows that run to an end: conditions, loops, errors, forks over lists and over manifests."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any

from tests.airflow.flows import Json, compose, failing, fork, route

ITEM_KEYS = ("id", "price", "ok", "name")
VALUES = (
    "$.n",
    "$.name",
    "$.nested.a[1]",
    "$.items.length",
    "$.steps_output",
    "$.nowhere.x",
    "$.flow_variables.region",
)
CONDITIONS = (
    "$.n > 3",
    "$.name == 'b'",
    "$.nested.a",
    "$.flag === true || $.n < 2",
    "$.nowhere",
    "$.n != 5 && $.flag",
)
ITEM_CONDITIONS = ("$.currentItem.price > 4", "$.currentItem.ok", "$.currentItem.name != 'b' && $.n > 1")
TEMPLATES = (
    "{{n}}-{{name}}",
    "{{#each items}}{{id}},{{/each}}",
    "$.nested",
    "{{json nested}}",
    "{{#if flag}}y{{else}}z{{/if}}",
)
ITEM_TEMPLATES = ("{{currentItem.id}}:{{n}}", "$.currentItem", "{{json currentItem}}")


@dataclass(frozen=True)
class FlowRun:
    """A flow, its payload, and the manifest that it may read.

    Attributes:
        steps: the flow's steps; the first one begins.
        options: the flow's ``airflow`` object.
        payload: the run's payload.
        manifest: lines of the object that ``$.manifest`` points to.
    """

    steps: Json
    options: Json
    payload: Json
    manifest: tuple[bytes, ...]


def make(rng: random.Random) -> FlowRun:
    names = [f"s{number}" for number in range(rng.choice((1, 2, 3, 4, 5)))]
    steps: Json = {}
    inner: Json = {}
    for name, following in zip(names, [*names[1:], None], strict=True):
        steps[name] = _step(rng, name, following, inner)
    if rng.random() < 0.25 and len(names) > 1:
        _add_loop(rng, steps, names)
    manifest = tuple(
        b"{nope" if rng.random() < 0.1 else json.dumps(_item(rng, number)).encode()
        for number in range(rng.choice((0, 1, 3, 7)))
    )
    options = {"branchGranularity": rng.choice(("step", "branch"))}
    if rng.random() < 0.3:
        options |= {"maxInMemoryItems": rng.choice((0, 2)), "chunkBytes": rng.choice((30, 1_000))}
    return FlowRun({**steps, **inner}, options, _payload(rng), manifest)


def _payload(rng: random.Random) -> Json:
    return {
        "n": rng.randrange(7),
        "name": rng.choice(("a", "b", "é", "")),
        "flag": rng.random() < 0.5,
        "items": [_item(rng, number) for number in range(rng.choice((0, 1, 2, 3, 5)))],
        "nested": {"a": [0, {"b": rng.choice((None, 2**60, 0.1, "x"))}]},
    }


def _item(rng: random.Random, number: int) -> Json:
    item = {"id": number, "price": rng.randrange(9), "ok": rng.random() < 0.6, "name": rng.choice("abc")}
    if rng.random() < 0.1:
        del item[rng.choice(ITEM_KEYS)]
    return item


def _step(rng: random.Random, name: str, following: str | None, inner: Json) -> Json:
    choice = rng.random()
    if choice < 0.4:
        return _compose(rng, following)
    if choice < 0.55:
        ways = [(rng.choice(CONDITIONS), following)] if following else []
        return route(*ways, to=following)
    if choice < 0.65:
        return failing(following, onError=_on_error(rng, following))
    return _fork(rng, name, following, inner)


def _compose(rng: random.Random, following: str | None, values: tuple[str, ...] = VALUES) -> Json:
    mappings = {rng.choice(("a", "b", "c.d", "e[0].f")): rng.choice(values) for _ in range(rng.randrange(3))}
    more: Json = {"literals": {rng.choice(("t", "u.v")): rng.choice((*TEMPLATES, 7, None, [1, "{{n}}"]))}}
    if rng.random() < 0.3:
        more["outputMappings"] = {
            rng.choice(("$.kept", "$.n", "$.deep.er")): rng.choice(("$", "$.a", "$.t", "$.x"))
        }
    if rng.random() < 0.15:
        more["outputValidation"] = {"requiredFields": [rng.choice(("$.t", "$.nothing"))]}
        more["onError"] = _on_error(rng, following)
    return compose(mappings, following, **more)


def _on_error(rng: random.Random, following: str | None) -> Json:
    # Without retries, which the Dag waits for.
    fallback = {"fallbackStepInstanceId": following} if following else {}
    return rng.choice(({"continueOnFailure": True}, fallback, fallback, {}))


def _add_loop(rng: random.Random, steps: Json, names: list[str]) -> None:
    """Let a step go back to an earlier one, at most a few times."""
    start = rng.randrange(len(names) - 1)
    end = rng.randrange(start, len(names) - 1)
    back = {
        "condition": rng.choice(("$.n >= 0", "$.flag")),
        "nextStepInstanceId": names[start],
        "maxTransitions": 2,
    }
    step = steps[names[end]]
    if step["stepType"] == "PARALLEL_FORK_MANAGER" or "onError" in step:
        return
    # It would fail at the limit: the step counts, and leaves the loop before.
    steps[names[end]] = compose(
        {"count": "$.count[0]"},
        step.get("defaultNextStepInstanceId"),
        literals={"next": "x{{count}}"},
        outputMappings={"$.count": "$.next"},
        transitions=[
            {**back, "condition": rng.choice((f"{back['condition']} && $.count != 'x'", back["condition"]))}
        ],
    )


def _fork(rng: random.Random, name: str, following: str | None, inner: Json) -> Json:
    branches = []
    for number in range(rng.choice((1, 1, 2))):
        ids = [f"{name}_b{number}_{position}" for position in range(rng.choice((1, 2, 3)))]
        for step_id, next_id in zip(ids, [*ids[1:], None], strict=True):
            inner[step_id] = _branch_step(rng, step_id, next_id, inner)
        more: Json = {"condition": rng.choice(ITEM_CONDITIONS)} if rng.random() < 0.3 else {}
        if rng.random() < 0.3:
            more["inputMappings"] = {"given": rng.choice(("$.currentItem.price", "$.n"))}
        branches.append({"branchId": f"b{number}", "stepInstanceId": ids[0], **more})
    strategy = rng.choice(("COLLECT_ARRAY", "COLLECT_ARRAY", "MERGE_OBJECTS", "SUM", "NONE"))
    config: Json = {"strategy": strategy, "failOnBranchError": rng.random() < 0.3}
    if rng.random() < 0.3:
        config["dataPath"] = rng.choice(("$.currentItem.price", "$.t", "$.nothing"))
    if rng.random() < 0.3:
        config["toleratedFailurePercentage"] = rng.choice((0, 50, 100))
    return fork(
        *branches,
        items=rng.choice(("$.items", "$.items", "$.manifest", "$.items[?(@.price > 3)]", "$.n", "$.nowhere")),
        to=following,
        **config,
        **({"onError": _on_error(rng, following)} if rng.random() < 0.4 else {}),
        **({"itemLabelPath": "$.name"} if rng.random() < 0.3 else {}),
    )


def _branch_step(rng: random.Random, name: str, following: str | None, inner: Json) -> Json:
    choice = rng.random()
    if choice < 0.12:
        return failing(following, onError={"continueOnFailure": True} if rng.random() < 0.5 else {})
    if choice < 0.2:
        return route(*([(rng.choice(ITEM_CONDITIONS), following)] if following else []))
    if choice < 0.28 and "_f" not in name:
        last = f"{name}_f"
        inner[last] = compose({"id": "$.currentItem.id"})
        return fork({"branchId": "in", "stepInstanceId": last}, items="$.items", to=following)
    values = ("$.currentItem.id", "$.currentItem.price", "$.currentItem.nothing", "$.n", "$.given")
    step = _compose(rng, following, values)
    if rng.random() < 0.5:
        step["literals"]["item"] = rng.choice(ITEM_TEMPLATES)
    return step


def document(run: FlowRun, flow_id: str, location: str) -> dict[str, Any]:
    """Return the flow with its id, and with the place of its objects."""
    return {
        "id": flow_id,
        "startStepInstanceId": next(iter(run.steps)),
        "flowVariables": {"region": "eu"},
        "airflow": {**run.options, "offloadLocation": location},
        "steps": run.steps,
    }
