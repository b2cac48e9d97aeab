"""Which models are asked again: after failures of some items, and with a cache of answers."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from airflow_allma.storage import LocalStore, Pointer
from demo.model_servers import Behaviour, ModelServer
from tests.airflow.flows import branch, fork
from tests.support.faulty_runs import aggregated, manifest_run, run_all
from tests.support.model_servers import KEY

pytestmark = [pytest.mark.airflow, pytest.mark.usefixtures("settings")]

COUNT = 400
FAILING = [7, 130, 131, 399]
"""One of a hundred items."""


@pytest.fixture
def settings(models: ModelServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The connection of the fake models, and a folder for results."""
    connection = {"conn_type": "http", "host": f"{models.url}/v1", "password": KEY}
    monkeypatch.setenv("AIRFLOW_CONN_MODELS", json.dumps(connection))
    monkeypatch.setenv("AIRFLOW__ALLMA__LLM_CONNECTIONS", '{"OPENAI": "models"}')
    monkeypatch.setenv("AIRFLOW__ALLMA__OFFLOAD_LOCATION", f"file://{tmp_path}")


STEP = {
    "w": {
        "stepType": "LLM_INVOCATION",
        "llmProvider": "OPENAI",
        "modelId": "{{currentItem.model}}",
        "directPrompt": 'Item {{currentItem.n}} as JSON: {"n": {{currentItem.n}} }',
        "customConfig": {"jsonOutputMode": True},
    }
}


def items(failing: list[int]) -> list[dict[str, Any]]:
    return [{"n": n, "model": "bad" if n in failing else "good"} for n in range(COUNT)]


def asked(models: ModelServer) -> Counter[int]:
    """Return how often the models were asked about each item since the last call."""
    numbers: Counter[int] = Counter()
    for request in models.requests:
        prompt = request.body["messages"][-1]["content"]
        numbers[int(prompt.split()[1])] += 1
    models.clear()
    return numbers


def test_after_a_failure_of_one_item_of_a_hundred_exactly_these_ask_again(models, tmp_path):
    models.configure(good=Behaviour(echo=True), bad=Behaviour(outcomes=(400,)))
    file = tmp_path / "items.jsonl"
    file.write_text("".join(json.dumps(item) + "\n" for item in items(FAILING)))
    pointer = Pointer("file://", str(file).lstrip("/"))
    size = file.stat().st_size
    dag_run = manifest_run(pointer, f"file://{tmp_path}", STEP, chunkBytes=size // 4 + 1, maxChunks=4)
    chunks = dag_run.plan("f")
    run_all(dag_run, chunks)
    assert asked(models) == dict.fromkeys(range(COUNT), 1)
    store = LocalStore(tmp_path)
    data = aggregated(dag_run, store)
    assert [n for n, one in enumerate(data) if "error" in one] == FAILING

    models.configure(bad=Behaviour(echo=True))
    for number, chunk in enumerate(chunks):
        dag_run.run("f.chunk", number, chunk, (2, 1))
    assert asked(models) == dict.fromkeys(FAILING, 1)
    assert aggregated(dag_run, store) == [{"n": n} for n in range(COUNT)]


@pytest.mark.parametrize("options", [{"maxInMemoryItems": 100}, {}], ids=["chunks", "mapped tasks"])
def test_with_the_cache_a_second_run_asks_nothing_and_failed_items_alone(
    options, models, run, monkeypatch, tmp_path
):
    monkeypatch.setenv("AIRFLOW__ALLMA__LLM_CACHE", "True")
    models.configure(good=Behaviour(echo=True), bad=Behaviour(outcomes=(400,)))
    count = COUNT if options else 3
    failing = [n for n in FAILING if n < count] or [1]
    payload = {"items": items(failing)[:count]}
    steps = {"f": fork(branch("w"), failOnBranchError=False), **STEP}

    def results() -> list[Any]:
        ended = run(steps, payload, airflow=options)
        assert ended.state == "success"
        data = ended.xcom("f.aggregate")["aggregatedData"]
        if isinstance(data, list):
            return data
        stored = Path("/", data["_s3_output_pointer"]["key"])
        return [json.loads(line) for line in stored.read_text().splitlines()]

    first = results()
    assert [n for n, one in enumerate(first) if "error" in one] == failing
    assert asked(models) == dict.fromkeys(range(count), 1)
    models.configure(bad=Behaviour(echo=True))
    for again in (failing, []):
        assert results() == [{"n": n} for n in range(count)]
        assert asked(models) == dict.fromkeys(again, 1)
    kept = [file.read_text() for file in (tmp_path / "llm-cache").rglob("*.json")]
    assert len(kept) == count
    assert KEY not in str(kept)
