"""The demo's ticket flow: the models that it asks, and its run and result."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from demo.airflow_client import AirflowClient
from demo.data import TICKETS
from demo.model_servers import Behaviour, models_process
from demo.servers import LocalServer
from demo.stages import Stages
from demo.walkthrough import DAG_SECONDS, Walkthrough, WalkthroughError, fork_output

SMALL_MODEL, LARGE_MODEL = "small-model", "large-model"
API_KEY = "demo-key"
FLOW = Walkthrough("classify-tickets", "classify_all", {})
PRICES = {
    f"OPENAI/{SMALL_MODEL}": {"inputPerMillion": 0.15, "outputPerMillion": 0.6, "currency": "USD"},
    f"OPENAI/{LARGE_MODEL}": {"inputPerMillion": 2.5, "outputPerMillion": 10, "currency": "USD"},
}
_WORDS = {
    "invoice": "billing",
    "charged": "billing",
    "parcel": "delivery",
    "broken": "defect",
    "refund": "return",
}


def ticket_models(home: Path) -> LocalServer:
    """Return a server of two models that classify by words. The small one refuses 2 % of the tickets."""
    keywords = {word: _answer(category) for word, category in _WORDS.items()}
    large = Behaviour(
        latency=0.6,
        keywords=keywords,
        keywords_after="Ticket:",
        answer=_answer("question"),
        wrap="fence",
    )
    small = Behaviour(
        latency=0.2,
        keywords=keywords,
        keywords_after="Ticket:",
        answer=_answer("question"),
        error_rate=0.02,
        error_status=400,
        error_code="content_filter",
        error_message="The content of the ticket was filtered",
    )
    return models_process(home, {SMALL_MODEL: small, LARGE_MODEL: large})


def _answer(category: str) -> str:
    return json.dumps({"category": category, "urgent": category == "defect"})


def models_connection(url: str) -> dict[str, Any]:
    """Return the Airflow connection to the server of models."""
    return {"conn_type": "http", "host": f"{url}/v1", "password": API_KEY}


def run_tickets(
    client: AirflowClient, pointer: Mapping[str, str], count: int, stages: Stages, base_url: str
) -> None:
    """Run the flow over a manifest, check the counts and print them.

    Raises:
        WalkthroughError: the run failed, or a count is wrong.
    """
    client.wait_for_dag(FLOW.dag_id, timeout=DAG_SECONDS)
    run_id = client.trigger(FLOW.dag_id, {"tickets": dict(pointer)})
    tasks, output = fork_output(client, FLOW, run_id)
    counts = output["aggregatedData"]
    check_tickets(counts, count)
    chunks = len({task.map_index for task in tasks if task.map_index >= 0})
    stages.detail(f"{count} tickets in {chunks} chunks:")
    for category, number in counts["categories"].items():
        stages.detail(f"  {number:4} {category}")
    stages.detail(f"  {counts['urgent']:4} of them are urgent")
    for model, number in counts["models"].items():
        stages.detail(f"{number} answers of {model}")
    stages.detail(f"the whole run: {base_url}/dags/{FLOW.dag_id}/runs/{run_id}")


def check_tickets(counts: Mapping[str, Any], count: int) -> None:
    """Check the counts of a run over `count` tickets.

    Raises:
        WalkthroughError: a count is wrong, or the large model was never asked.
    """
    numbers = [TICKETS[number % len(TICKETS)] for number in range(count)]
    expected = {
        "categories": dict(sorted(Counter(category for category, _, _ in numbers).items())),
        "urgent": sum(urgent for _, urgent, _ in numbers),
        "failed": 0,
    }
    found = {name: counts[name] for name in expected}
    if found != expected:
        raise WalkthroughError(f"The counts are {found}; they should be {expected}.")
    if set(counts["models"]) != {SMALL_MODEL, LARGE_MODEL}:
        raise WalkthroughError(f"Not both models have answered: {counts['models']}.")
