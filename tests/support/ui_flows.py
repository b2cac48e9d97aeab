"""Flows and runs for the pages' tests, in the shapes of the HTTP API; the pictures are the server's own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from airflow_allma.flow import Flow, parse_flow
from airflow_allma.picture import draw_flow
from tests.support.ui_items import HOSTILE, START

Json = dict[str, Any]

_SECRET_URL: Final = "https://user:hunter2@{{flow_variables.shop}}/orders/{{currentItem.id}}?key=hunter2"


def _step(following: str | None = None, step_type: str = "NO_OP", **fields: Any) -> Json:
    return {
        "stepType": step_type,
        **fields,
        **({"defaultNextStepInstanceId": following} if following else {}),
    }


def _call(following: str | None = None, **fields: Any) -> Json:
    url = {"apiHttpMethod": "POST", "apiUrlTemplate": {"template": _SECRET_URL}}
    return _step(following, "API_CALL", **url, **fields)


def _when(condition: str, target: str) -> Json:
    return {"condition": condition, "nextStepInstanceId": target}


def _orders() -> Json:
    to_operators = {"fallbackStepInstanceId": "tell_operators"}
    reviewed = {
        "ask_reviewer": _step(
            "notify_shop", "WAIT_FOR_EXTERNAL_EVENT", correlationKeyTemplate="order-{{currentItem.id}}"
        ),
        "notify_shop": _step(transitions=[_when("$.steps_output.ask_reviewer.approved", "refund")]),
        "refund": _call(),
    }
    fetched = {
        "get_profile": _call("check_profile", onError={"fallbackStepInstanceId": "use_cached"}),
        "use_cached": _step("check_profile"),
        "check_profile": _step(),
    }
    return {
        "load_orders": _call("check", displayName="Load orders", onError=to_operators),
        "check": _step(
            "enrich", transitions=[_when("$.steps_output.load_orders.data.length == 0", "nothing_to_do")]
        ),
        "nothing_to_do": {"stepType": "END_FLOW"},
        "enrich": _step(
            "wait_for_export",
            "PARALLEL_FORK_MANAGER",
            displayName="Enrich users",
            itemsPath="$.steps_output.load_orders.data",
            onError=to_operators,
            aggregationConfig={"maxConcurrency": 20},
            parallelBranches=[
                {"branchId": "enrich_user", "startStepInstanceId": "get_profile", "steps": fetched},
                {
                    "branchId": "review",
                    "condition": "$.currentItem.total >= 1000",
                    "startStepInstanceId": "ask_reviewer",
                    "steps": reviewed,
                },
                {"branchId": "audit", "stepType": "START_SUB_FLOW", "subFlowDefinitionId": "audit-flow"},
            ],
        ),
        "wait_for_export": _step(
            "done",
            "POLL_EXTERNAL_API",
            apiCallDefinition={
                "apiHttpMethod": "GET",
                "apiUrlTemplate": {"template": "https://export.example.com/jobs/{{job}}"},
            },
            pollingConfig={"intervalSeconds": 30, "maxAttempts": 10},
            exitConditions={"successCondition": "$.ok", "failureCondition": "$.failed"},
            transitions=[_when("$.steps_output.wait_for_export.again == true", "enrich")],
            onError=to_operators,
        ),
        "done": {"stepType": "END_FLOW"},
        "tell_operators": _step(
            None,
            "SNS_PUBLISH",
            displayName="Tell the operators",
            topicArn="arn:aws:sns:eu-west-1:123456789012:ops-alerts",
            payload={"text": "orders failed"},
        ),
    }


def _chain(length: int) -> Json:
    failing = {"onError": {"fallbackStepInstanceId": "bad"}}
    steps = {
        f"step_{index}": _step(f"step_{index + 1}", **(failing if index % 5 == 0 else {}))
        for index in range(length - 2)
    }
    return {**steps, f"step_{length - 2}": _step(), "bad": _step(displayName="Handle failures")}


def _hostile() -> Json:
    name = HOSTILE.replace("\n", " ")
    return {
        "a": _step(
            displayName=f"{name} {'very ' * 60}long", transitions=[_when(f"$.x == '{'é' * 300}'", "b")]
        ),
        "b": _step(),
    }


@cache
def _flows() -> Mapping[str, tuple[Flow, Json]]:
    made = {
        "orders": ("Orders", _orders()),
        "one": ("One step", {"only": _step()}),
        "long": ("300 steps", _chain(300)),
        "huge": ("600 steps", _chain(600)),
        "hostile": (HOSTILE, _hostile()),
    }
    flows = {}
    for flow_id, (name, steps) in made.items():
        schema = {"type": "object", "properties": {"shop": {"type": "string", "default": "shop-1"}}}
        raw = {
            "id": flow_id,
            "name": name,
            "version": 3,
            "isPublished": True,
            "startStepInstanceId": next(iter(steps)),
            "steps": steps,
            **({"airflow": {"inputSchema": schema}} if flow_id == "orders" else {}),
        }
        flows[flow_id] = (parse_flow(raw), raw)
    return flows


FLOW_RUNS: Final = ("success", "failed", "success", "running", "success", "success", "failed", "success")


def flow_list(query: Mapping[str, str]) -> Json:
    """Return the answer of route 1."""
    rows = [_row(flow_id, flow) for flow_id, (flow, _) in _flows().items()]
    rows += [
        {**_row(f"nightly-{number}", _flows()["one"][0]), "name": f"Nightly {number}", "lastRuns": []}
        for number in range(60)
    ]
    states = {"one": "paused", "nightly-0": "broken", "nightly-1": "unpublished"}
    for row in rows:
        row["state"] = states.get(row["dagId"], "active")
        if row["state"] == "broken":
            row["problem"] = (
                "nightly.json:12:7: $.steps.a.stepType: `NO_SUCH` is not a step type\n\n"
                "nightly.json:20:3: $.steps.b: no step leads to it"
            )
        row["schedule"] = "every day at 02:30 (Europe/Berlin)" if row["dagId"].startswith("n") else None
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["state"]] = counts.get(row["state"], 0) + 1
    text, state = query.get("q", "").lower(), query.get("state")
    found = [
        row
        for row in rows
        if text in f"{row['name']} {row['flowId']}".lower() and state in {None, row["state"]}
    ]
    offset, limit = int(query.get("offset", 0)), int(query.get("limit", 50))
    return {"flows": found[offset : offset + limit], "total": len(found), "counts": counts}


def _row(dag_id: str, flow: Flow) -> Json:
    runs = [
        {
            "runId": f"manual__{number}",
            "state": state,
            "start": START - 86_400 * number,
            "end": None if state == "running" else START - 86_400 * number + 61,
        }
        for number, state in enumerate(FLOW_RUNS)
    ]
    return {
        "dagId": dag_id,
        "flowId": dag_id,
        "version": flow.version,
        "name": flow.name,
        "description": "Loads the orders of a shop, enriches each user and tells the operators what failed.",
        "problem": None,
        "file": f"{dag_id}.json",
        "tags": ["allma", "shop"],
        "lastRuns": runs,
    }


def flow_page(dag_id: str) -> Json | None:
    """Return the answer of route 2; None if the flow does not exist."""
    if dag_id not in _flows():
        return None
    flow, raw = _flows()[dag_id]
    return {
        "isFlow": True,
        "dagId": dag_id,
        "flowId": dag_id,
        "version": 3,
        "name": flow.name,
        "description": "Loads the orders of a shop, enriches each user and tells the operators what failed.",
        "paused": dag_id == "one",
        "schedule": "every day at 02:30 (Europe/Berlin)",
        "picture": draw_flow(flow).to_json(),
        "source": json.dumps(raw, indent=2),
        "problems": [
            {
                "line": 12,
                "column": 7,
                "path": "$.steps.check",
                "severity": "warning",
                "message": "`check` compares with `==`; "
                + (HOSTILE if dag_id == "hostile" else "a long text"),
            }
        ],
        "versions": [
            {"version": 3 - number, "dagVersion": 3 - number, "createdAt": START - 86_400 * number}
            for number in range(3)
        ],
        "payload": {"schema": raw.get("airflow", {}).get("inputSchema"), "example": {"shop": "shop-1"}},
    }


ARN: Final = "arn:aws:bedrock:eu-central-1:123456789012:inference-profile/eu.anthropic.claude-sonnet-4-5-v1:0"


def _tokens(dag_id: str) -> list[Json]:
    """Return what the models of a run took, as the HTTP API has it."""
    if dag_id == "huge":
        return [
            {"model": f"OPENAI/tuned-{number:04}", "calls": 1, "inputTokens": 400, "outputTokens": 30}
            for number in range(1_000)
        ] + [{"model": "other models", "calls": 9_000, "inputTokens": 3_600_000, "outputTokens": 270_000}]
    return [
        {
            "model": "ANTHROPIC/claude-haiku-4-5" if dag_id != "hostile" else HOSTILE * 20,
            "calls": 12,
            "inputTokens": 4_800,
            "outputTokens": 360,
            "costs": {"USD": 0.0066},
        },
        {
            "model": f"AWS_BEDROCK/{ARN}",
            "calls": 1,
            "inputTokens": 20,
            "outputTokens": 4,
            "costs": {"EUR": 0.0000054, "USD": 0.00012},
        },
        {"model": "CUSTOM_LAMBDA/classify", "calls": 37},
        {
            "model": "OPENAI/gpt-4o-mini",
            "calls": 62_951,
            "inputTokens": 25_180_400,
            "outputTokens": 1_888_530,
            "cachedAnswers": 37_000,
            "costs": {"USD": 4.910178},
        },
        {"model": "OPENAI/gpt-4o", "cachedAnswers": 37},
    ]


def run_page(dag_id: str, run_id: str, fork: Json) -> Json | None:
    """Return the answer of route 4.

    Args:
        dag_id: a Dag.
        run_id: a run; "running" and "waiting" have not ended, "models" has asked models.
        fork: the summary of its fork.
    """
    if dag_id not in _flows():
        return None
    flow, _ = _flows()[dag_id]
    is_running = run_id in {"running", "waiting"}
    steps = {}
    for index, step_id in enumerate(flow.steps):
        state = "success" if index < 3 and step_id != "nothing_to_do" else "none"
        steps[step_id] = _state(state, index)
    if dag_id == "orders":
        bad = fork["failed"] > 0 and not is_running
        steps["enrich"] = _state("running" if is_running else "failed" if bad else "success", 3)
        steps["tell_operators"] = _state("success" if bad else "none", 5)
        steps["get_profile"] = {
            **_state("failed" if bad else "success", 4),
            "counts": {"success": 99_963, "failed": 37},
        }
        if fork["mode"] == "memory":
            # One task runs the branch: all of its steps have the task's state.
            whole = {
                "tasks": [{"taskId": "enrich.enrich_user.get_profile", "mapIndex": -1, "state": "failed"}]
            }
            for step_id in ("get_profile", "use_cached", "check_profile"):
                steps[step_id] = {**_state("failed", 4), "counts": {"failed": 5, "success": 115}, **whole}
        steps["nothing_to_do"] = _state("skipped", 2)
    return {
        "isFlow": True,
        "dagId": dag_id,
        "runId": run_id,
        "flowId": dag_id,
        "version": 3,
        "state": "running" if is_running else "failed" if fork["failed"] else "success",
        "start": START,
        "end": None if is_running else START + 341,
        "isRunning": is_running,
        "picture": draw_flow(flow).to_json(),
        "steps": steps,
        "forks": [fork] if dag_id == "orders" else [],
        "checkpoint": {"name": "Orders loaded", "at": START + 4},
        "tokens": _tokens(dag_id) if run_id == "models" else [],
        "waits": [
            {
                "key": "order-4711",
                "step": "ask_reviewer",
                "message": HOSTILE
                if dag_id == "hostile"
                else "Order 4711 costs 1,250.00: may it be refunded?",
                "since": START + 10,
                "until": START + 604_810,
                "mayResume": True,
            }
        ]
        if run_id == "waiting"
        else [],
        "error": None
        if is_running or not fork["failed"]
        else {
            "errorName": "BranchErrors",
            "errorMessage": "37 of 100,000 items failed",
            "isRetryable": False,
        },
    }


def _state(state: str, index: int) -> Json:
    ended = state in {"success", "failed"}
    return {
        "state": state,
        "counts": {} if state == "none" else {state: 1},
        "start": START + 4 * index if state not in {"none", "skipped"} else None,
        "end": START + 4 * index + 3.2 if ended else None,
        "seconds": 3.2 if ended else None,
        "tries": 2 if index == 0 else 1,
        "tasks": [],
    }


def step_page(dag_id: str, step_id: str) -> Json | None:
    """Return the answer of route 5."""
    if dag_id not in _flows():
        return None
    trace = {
        "step": step_id,
        "type": "API_CALL",
        "input": {"shop": "shop-1", "since": "2026-11-25"},
        "output": {"status": 200, "data": [{"id": "u-0000001", "note": HOSTILE}, {"id": "u-0000002"}]},
        "next": "check",
        "tries": 2,
        "seconds": 3.2,
        "at": START,
        "calls": [
            {
                "service": "http",
                "method": "POST",
                "target": "https://shop.example.com/orders?key=***",
                "status": status,
                "milliseconds": 120,
                "sent": 40,
                "received": 2_048,
            }
            for status in (503, 200)
        ],
    }
    return {
        "step": step_id,
        "type": "API_CALL",
        "task": {
            "taskId": step_id,
            "mapIndex": -1,
            "state": "success",
            "tries": 2,
            "start": START,
            "end": START + 3.2,
            "seconds": 3.2,
            "logUrl": f"/dags/{dag_id}/runs/ended/tasks/{step_id}",
        },
        "trace": [] if step_id == "check" else [trace],
        "note": None,
    }
