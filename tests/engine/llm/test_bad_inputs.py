"""Steps that cannot succeed: which error each ends with, and what its message says."""

from __future__ import annotations

import base64
import json
import logging
import sys
from pathlib import Path

import msgspec
import pytest

from demo.model_servers import Behaviour, ModelServer
from tests.support.model_runs import ask, model_step
from tests.support.model_servers import KEY

CASES = json.loads(Path(__file__).with_name("bad_input_cases.json").read_text())
CLASSES = {"PermanentStepError": False, "TransientStepError": True, "ContentBasedRetryableError": True}
"""Class -> whether the error says that it is retried as it is."""
JSON_STEP = model_step(customConfig={"jsonOutputMode": True})


def payload_of(case, server):
    if size := case.get("megabytes"):
        data = base64.b64encode(bytes(size << 20)).decode()
        return {"files": [{"base64": data, "mimeType": "image/png"}]}
    return json.loads(json.dumps(case.get("payload", {})).replace("$SERVER", server.url))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_what_cannot_work_has_its_error_with_a_cure_and_without_the_key(models: ModelServer, case, caplog):
    caplog.set_level(logging.INFO)
    behaviours = {"fake": msgspec.convert(case.get("model", {}), Behaviour)}
    behaviours["no-such-model"] = Behaviour(outcomes=(404,))
    models.configure_all(behaviours)
    step = model_step(**case["step"])
    without = frozenset(case.get("without", ()))
    ended = ask(models, step, payload_of(case, models), without=without)
    if "error" in case:
        kind, name, *words = case["error"]
        assert ended.status == "FAILED"
        assert ended.error["errorName"] == name
        assert ended.error["isRetryable"] is CLASSES[kind]
        assert [part for part in words if part not in ended.error["errorMessage"]] == [], ended.error
        assert ".." not in ended.error["errorMessage"]
        assert ended.error["errorDetails"]["failedStepInstanceId"] == "ask"
    else:
        assert ended.status == "COMPLETED", ended.error
        assert case["warning"] in caplog.messages
    assert models.stats["calls"] == case.get("calls", 1)
    shown = json.dumps(ended.context) + repr(ended.error) + repr(ended.fakes.records) + caplog.text
    assert KEY not in shown


@pytest.mark.parametrize(
    "prompt",
    [
        "{{#if user.note}}{{user.note.text}}{{/if}}",
        "{{#unless user.note}}no note{{/unless}} {{user.note}}",
        "{{user.city}} {{user.city.length}} {{user.tags.length}} {{user.tags.0}} {{user.nothing}}",
        "{{#each user.tags}}{{this.name}} {{name}}{{/each}}",
    ],
)
def test_data_that_can_be_missing_causes_no_warning(models: ModelServer, prompt, caplog):
    payload = {"user": {"city": "Rome", "tags": [{}], "nothing": None}}
    ended = ask(models, model_step(directPrompt=f"Say OK {prompt}"), payload)
    assert ended.status == "COMPLETED", ended.error
    assert not [message for message in caplog.messages if message.startswith("The prompt uses")]


def test_a_prompt_that_nobody_publishes_is_an_error_before_anything_is_sent(models):
    step = model_step(promptTemplateId="greeting")
    del step["directPrompt"]
    ended = ask(models, step)
    assert ended.error["errorName"] == "PermanentStepError"
    assert ended.error["errorMessage"].startswith(
        "No published version of prompt 'greeting' is in the folder"
    )
    assert models.stats["calls"] == 0


@pytest.mark.parametrize("provider", ["OPENAI", "ANTHROPIC", "GEMINI"])
@pytest.mark.parametrize("fault", ["html", "empty", "garbage"])
def test_an_answer_of_a_proxy_is_not_tried_again(models, provider, fault):
    models.configure(fake=Behaviour(outcomes=(fault,)))
    ended = ask(models, model_step(provider))
    assert ended.error["errorName"] == "PermanentStepError"
    assert models.stats["calls"] == 1


@pytest.fixture
def without_extra(monkeypatch):
    """Make the packages of the extra ``llm`` look as if they were not installed."""
    for name in (
        "json_repair",
        "json_repair.json_parser",
        "google.auth",
        "google.oauth2",
        "google.oauth2.service_account",
    ):
        monkeypatch.setitem(sys.modules, name, None)
    # Another test may have imported it with the package.
    monkeypatch.delitem(sys.modules, "airflow_allma.engine.llm.json_repairer", raising=False)


@pytest.mark.usefixtures("without_extra")
@pytest.mark.parametrize("provider", ["OPENAI", "ANTHROPIC", "GEMINI", "AWS_BEDROCK"])
@pytest.mark.parametrize("wrap", ["none", "fence", "prose"])
def test_models_are_asked_and_good_json_is_read_without_the_extra(models, provider, wrap):
    models.configure(fake=Behaviour(answer='{"category": "bug"}', wrap=wrap))
    ended = ask(models, {**JSON_STEP, "llmProvider": provider})
    assert ended.outputs == {"ask": {"category": "bug"}}, ended.error


@pytest.mark.usefixtures("without_extra")
def test_broken_json_without_the_extra_says_what_to_install(models):
    models.configure(fake=Behaviour(answer="{category: 'bug'"))
    ended = ask(models, JSON_STEP)
    assert ended.error["errorName"] == "ContentBasedRetryableError"
    assert "Install airflow-allma[llm] on the workers" in ended.error["errorMessage"]


def test_broken_json_is_repaired_with_the_extra(models):
    models.configure(fake=Behaviour(answer="{category: 'bug'"))
    assert ask(models, JSON_STEP).outputs == {"ask": {"category": "bug"}}
