"""Steps that ask models have the same result on the command line, as a task, in mapped tasks and in a chunk.

The folder ``model_flows`` has the steps, and flows and prompts in files as the build tool writes them.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from airflow_allma.dag_factory import load_flows
from demo.model_servers import Behaviour, CalledTool, ModelServer
from demo.servers import aws_connection
from tests.airflow.flows import Json, branch, flow, fork
from tests.support.artifact_files import put
from tests.support.cli import run_cli
from tests.support.model_servers import KEY

pytestmark = [pytest.mark.airflow, pytest.mark.usefixtures("nothing_remembered", "asked")]

FOLDER = Path(__file__).with_name("model_flows")
SHAPES = json.loads((FOLDER / "shapes.json").read_text())
MANY = 200
FIND = {"type": "function", "name": "find_order", "description": "Finds.", "parameters": {"type": "object"}}
CHUNK = {"maxInMemoryItems": 1, "maxChunks": 1, "chunkConcurrency": 8}


@pytest.fixture
def asked(models: ModelServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModelServer:
    """The fake models, with the connections and settings of Dags and of the command line."""
    models.configure(
        echo=Behaviour(echo=True),
        tools=Behaviour(answer="", tool_calls=(CalledTool(name="find_order", args={"number": 7}),)),
        down=Behaviour(outcomes=(404,)),
    )
    named = {"OPENAI": "main_openai", "ANTHROPIC": "claude", "GEMINI": "gemini"}
    monkeypatch.setenv("AIRFLOW__ALLMA__OFFLOAD_LOCATION", f"file://{tmp_path}")
    monkeypatch.setenv("AIRFLOW__ALLMA__LLM_CONNECTIONS", json.dumps(named))
    for name in ("MAIN_OPENAI", "OTHER_OPENAI", "CLAUDE", "GEMINI"):
        host = f"{models.url}/v1" if name.endswith("OPENAI") else models.url
        connection = {"conn_type": "http", "host": host, "password": KEY}
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps(connection))
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(aws_connection(models.url)))
    aws = {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": KEY, "AWS_DEFAULT_REGION": "eu-west-3"}
    for name, value in aws.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", models.url)
    return models


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A flow folder with all flows and prompts of ``model_flows``."""
    copied = tmp_path / "flows"
    shutil.copytree(FOLDER, copied, ignore=shutil.ignore_patterns("shapes.json"))
    return copied


def payload_of(folder: Path) -> Json:
    scan = folder / "scan.gif"
    scan.write_bytes(b"GIF89a")
    pointer = {"bucket": "file://", "key": str(scan).lstrip("/")}
    return {
        "desk": "north",
        "lines": [{"text": "late"}, {"text": "broken"}],
        "facts": {"plan": "gold", "note": "hidden"},
        "models": {"provider": "OPENAI", "fast": "echo", "timeout": 20_000},
        "tools": [FIND],
        "files": [{"base64": "iVBORw0KGgo=", "mimeType": "image/png"}, {"s3Pointer": pointer}],
    }


def problems_and_dag(folder: Path, flow_id: str) -> tuple[list[str], Any]:
    problems: list[Any] = []
    dags = load_flows(folder, on_problem=problems.append)
    return [str(problem) for problem in problems], dags[flow_id]


class Place:
    """Runs a step for items, somewhere.

    Args:
        folder: gets the flow's file.
        run_dag: runs a Dag.
    """

    def __init__(self, folder: Path, run_dag: Any) -> None:
        self._folder, self._run_dag = folder, run_dag

    def command_line(self, step: Json, payload: Json) -> list[Any]:
        put(self._folder, "once.flow.json", flows=[flow("once", {"w": step})])
        # On the command line a folder stands for a bucket.
        written = _first(payload).replace('"file://"', '"flows"').replace(str(self._folder)[1:] + "/", "")
        store = f"file://{self._folder.parent}"
        ended = run_cli("run", self._folder / "once.flow.json", "--payload", written, "--store", store)
        assert ended.json["status"] == "COMPLETED", ended.out
        return [ended.json["context"]["steps_output"]["w"]]

    def task(self, step: Json, payload: Json) -> list[Any]:
        ended = self._run({"w": step}, json.loads(_first(payload)))
        return [ended.xcom("w")]

    def mapped(self, step: Json, payload: Json) -> list[Any]:
        return self._over(2, step, payload)

    def chunk(self, step: Json, payload: Json) -> list[Any]:
        return self._over(MANY, step, payload, **CHUNK)

    def _over(self, count: int, step: Json, payload: Json, **options: Any) -> list[Any]:
        items = [{"n": n} for n in range(count)]
        ended = self._run({"f": fork(branch("w")), "w": step}, {**payload, "items": items}, airflow=options)
        place = ended.task("f.chunk", 0 if options else -1)
        assert place.state == ("success" if options else "skipped")
        found: Any = ended.xcom("f.aggregate")["aggregatedData"]
        if isinstance(found, dict):
            stored = Path("/", found["_s3_output_pointer"]["key"])
            found = [json.loads(line) for line in stored.read_text().splitlines()]
        return list(found)

    def _run(self, steps: Json, payload: Json, **more: Any) -> Any:
        put(self._folder, "once.flow.json", flows=[flow("once", steps, **more)])
        problems, dag = problems_and_dag(self._folder, "once")
        # A payload can have an item, too.
        assert [one for one in problems if "this flow has no fork" not in one] == []
        ended = self._run_dag(dag, payload)
        assert ended.state == "success"
        return ended


def _first(payload: Json) -> str:
    return json.dumps({**payload, "currentItem": {"n": 0}})


def filled(value: Any, number: int) -> Any:
    return json.loads(json.dumps(value).replace("$N", str(number)))


def without_ids(output: Any) -> Any:
    calls = output.get("tool_calls", [])
    return {**output, **({"tool_calls": [{**call, "id": "*"} for call in calls]} if calls else {})}


@pytest.mark.parametrize("place", ["command_line", "task", "mapped", "chunk"])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape["name"])
def test_a_step_asks_the_same_in_each_place(shape, place, asked, folder, run_dag):
    outputs = getattr(Place(folder, run_dag), place)(shape["step"], payload_of(folder))
    count = {"mapped": 2, "chunk": MANY}.get(place, 1)
    assert [without_ids(one) for one in outputs] == [filled(shape["output"], n) for n in range(count)]
    good = [request for request in asked.requests if request.status == 200]
    assert len(good) == count
    assert all(request.status == 200 for request in asked.requests) or shape.get("fallback")
    first = Counter(shape["sent"][0].replace("$N", str(n)) for n in range(count))
    assert Counter(found for request in good for found in first if asks(request, found)) == first
    for request in good:
        sent = request.content.decode()
        assert [one for one in shape["sent"][1:] if one not in sent] == []
        assert [one for one in shape.get("not_sent", ()) if one in sent] == []


def asks(request: Any, words: str) -> bool:
    """Return whether a request has these words, which a digit does not follow."""
    return re.search(re.escape(words) + r"(?!\d)", request.content.decode()) is not None


URGENT = {"n": 4, "urgent": True, "from": "Ann"}
LATER = {"n": 5, "urgent": False, "from": "Bob"}
TEXTS = {"Write an answer to Ann, request 4.": URGENT, "Parked 5": LATER}


@pytest.mark.parametrize("text", TEXTS)
def test_a_flow_with_its_prompts_in_a_file_runs_alone(text, folder, run_dag):
    problems, dag = problems_and_dag(folder, "triage")
    assert problems == []
    payload = {"request": TEXTS[text]}
    ended = run_cli("run", folder / "triage.flow.json", "--payload", json.dumps(payload))
    assert ended.json["context"]["answer"]["text"] == text
    ran = run_dag(dag, payload)
    assert ran.state == "success"
    assert text in json.dumps(list(ran.xcoms.values()))


@pytest.mark.parametrize("options", [{}, CHUNK], ids=["mapped tasks", "a chunk"])
def test_a_flow_with_its_prompts_in_a_file_runs_for_each_item(options, folder, run_dag):
    sub_flow = {
        "stepType": "START_SUB_FLOW",
        "subFlowDefinitionId": "triage",
        "inputMappingsToSubFlow": {"request": "$.currentItem"},
        "outputMappings": {"$.output": "$.answer.text"},
    }
    whole = flow("many", {"f": fork(branch("w")), "w": sub_flow}, airflow=options)
    put(folder, "many.flow.json", flows=[whole])
    problems, dag = problems_and_dag(folder, "many")
    assert problems == []
    ran = run_dag(dag, {"items": list(TEXTS.values())})
    assert ran.state == "success"
    assert ran.xcom("f.aggregate")["aggregatedData"] == list(TEXTS)


@pytest.mark.parametrize("options", [{}, CHUNK], ids=["mapped tasks", "a chunk"])
def test_a_prompt_gets_the_answers_of_all_items(options, folder, run_dag, asked):
    file = folder / "digest.flow.json"
    written = json.loads(file.read_text())
    written["flows"][0]["airflow"] = options
    file.write_text(json.dumps(written))
    payload = {"items": [{"n": n} for n in range(3)]}
    wanted = "Shorten: 0=w0, 1=w1, 2=w2"
    ended = run_cli("run", file, "--payload", json.dumps(payload))
    assert ended.json["context"]["digest"] == wanted
    problems, dag = problems_and_dag(folder, "digest")
    assert problems == []
    ran = run_dag(dag, payload)
    assert ran.state == "success"
    assert wanted in json.dumps(list(ran.xcoms.values()))
    assert asked.stats["calls"] == 8
