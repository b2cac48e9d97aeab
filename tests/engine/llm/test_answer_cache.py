from __future__ import annotations

from types import SimpleNamespace

import pytest

from airflow_allma.engine import EngineSettings
from airflow_allma.engine.llm.answer_cache import request_digest
from airflow_allma.storage import LocalStore, OffloadLocation
from tests.support.engine import run
from tests.support.model_calls import model_request
from tests.support.model_steps import FakeModels, model_step

DEFAULT = model_request("OPENAI", {})


def test_equal_requests_have_one_hash():
    assert request_digest(model_request("OPENAI", {}), "llm") == request_digest(DEFAULT, "llm")


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "other"},
        {"prompt": "Bye"},
        {"media": [["image/png", "AAAA"]]},
        {"json": True},
        {"config": {"timeoutMs": 1}},
        # A default of the language that the flow sets itself is sent to models that take no defaults.
        {"parameters": {"temperature": 0.7}},
        {"parameters": {"seed": 1}},
    ],
)
def test_requests_that_differ_have_different_hashes(fields):
    assert request_digest(model_request("OPENAI", fields), "llm") != request_digest(DEFAULT, "llm")


def test_a_request_that_cannot_be_sent_has_no_hash():
    assert request_digest(model_request("OPENAI", {"prompt": "\ud800"}), "llm") is None


def ask(models, folder, account="a"):
    """Run one step with a cache in a folder and the AWS credentials of an account."""
    return run(
        {"ask": model_step(llmProvider="CUSTOM_LAMBDA")},
        models=models.services(llm_cache=True),
        store=LocalStore(folder),
        settings=EngineSettings(offload_location=OffloadLocation("bucket")),
        aws=SimpleNamespace(connection=account),
    )


def test_the_functions_of_two_aws_accounts_are_not_the_same(tmp_path):
    models = FakeModels()
    for account in ("a", "b", "a"):
        assert ask(models, tmp_path, account).status == "COMPLETED"
    assert len(models.requests) == 2


def test_answers_are_not_cached_without_an_offload_location_and_one_warning_says_so(caplog):
    models = FakeModels()
    services = models.services(llm_cache=True)
    for _ in range(2):
        ran = run({"ask": model_step()}, models=services)
        assert ran.outputs["ask"] == {"llm_response": "fine"}
    assert len(models.asked) == 2
    assert [message.partition(".")[0] for message in caplog.messages] == [
        "Answers are not cached: [allma] llm_cache needs an offload location"
    ]
