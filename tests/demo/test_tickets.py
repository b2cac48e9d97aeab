"""The demo's ticket flow, without Airflow."""

from __future__ import annotations

import json
import re

import pytest

from demo.data import TICKETS, ticket
from demo.ticket_counts import count_tickets
from demo.ticket_walkthrough import (
    API_KEY,
    FLOW,
    LARGE_MODEL,
    SMALL_MODEL,
    check_tickets,
    models_connection,
    ticket_models,
)
from demo.walkthrough import WalkthroughError
from tests.support.cli import run_cli

TICKET_COUNT = 70


@pytest.fixture
def models(tmp_path, monkeypatch):
    with ticket_models(tmp_path) as server:
        connection = json.dumps(models_connection(server.url))
        monkeypatch.setenv("AIRFLOW_CONN_MODELS", connection)
        monkeypatch.setenv("AIRFLOW__ALLMA__LLM_CONNECTIONS", '{"OPENAI": "models"}')
        yield server


def test_both_models_classify_all_tickets_and_the_categories_are_counted(models, repository):
    payload = json.dumps({"tickets": [ticket(number) for number in range(TICKET_COUNT)]})
    result = run_cli("run", repository / "demo" / "tickets", "--flow", FLOW.dag_id, "--payload", payload)
    counts = result.json["context"]["counts"]
    check_tickets(counts, TICKET_COUNT)
    # 2 % of the first model's calls fail, and the other one answers.
    assert counts["models"] == {SMALL_MODEL: TICKET_COUNT - 1, LARGE_MODEL: 1}
    assert API_KEY not in result.out + result.err


def test_every_ticket_has_an_id_and_text_of_its_own():
    tickets = [ticket(number) for number in range(500)]
    assert len({one["id"] for one in tickets}) == len({one["text"] for one in tickets}) == 500
    assert not any("{" in one["text"] for one in tickets)


def test_failed_tickets_are_counted_apart():
    answer = {"category": "billing", "urgent": True, "model": SMALL_MODEL}
    results = [{"output": answer}, {"status": "failed", "error": {}}]
    assert count_tickets(results) == {
        "categories": {"billing": 1},
        "urgent": 1,
        "models": {SMALL_MODEL: 1},
        "failed": 1,
    }


def right_counts():
    categories = [category for category, _, _ in TICKETS]
    return {
        "categories": {category: categories.count(category) for category in sorted(categories)},
        "urgent": 2,
        "models": {SMALL_MODEL: 6, LARGE_MODEL: 1},
        "failed": 0,
    }


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"urgent": 3}, "The counts are"),
        ({"failed": 1}, "The counts are"),
        ({"models": {SMALL_MODEL: 7}}, "Not both models"),
    ],
)
def test_wrong_counts_fail_the_demo(changed, message):
    check_tickets(right_counts(), len(TICKETS))
    with pytest.raises(WalkthroughError, match=re.escape(message)):
        check_tickets({**right_counts(), **changed}, len(TICKETS))
