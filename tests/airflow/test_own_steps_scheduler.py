"""E-mails, downloads and a module of one's own in one flow on a real scheduler."""

from __future__ import annotations

import json
from uuid import uuid4

import pytest

from tests.airflow.finished_run import FinishedRun
from tests.airflow.flows import branch, flow, fork
from tests.support.moto import REGION, EndpointClients
from tests.support.own_modules import install
from tests.support.smtp_server import running_smtp

pytestmark = pytest.mark.scheduler

CODE = """
def score(inputs, call):
    return {"score": inputs["n"] * 2}
"""
CHUNKED = 10


def own_steps(prefix, after=None):
    """Return one step of each kind, each followed by the next one; ``after`` follows the last one."""
    steps = {
        "get": {
            "stepType": "FILE_DOWNLOAD",
            "sourceUrlTemplate": "{{files}}/item/{{currentItem.n}}",
            "destinationBucket": "{bucket}",
            "outputMappings": {"$.file": "$.filePointer"},
        },
        "rate": {
            "stepType": "CUSTOM_LOGIC",
            "moduleIdentifier": "acme/scheduled-score",
            "inputMappings": {"n": "$.currentItem.n"},
            "outputMappings": {"$.score": "$.score"},
        },
        "mail": {
            "stepType": "EMAIL",
            "connection": "own_post",
            "from": "desk@corp.example",
            "to": "u{{currentItem.n}}@corp.example",
            "subject": "{{score}} points",
            "body": "<p>Hi</p>",
            "attachments": [{"filename": "item.txt", "s3Pointer": "$.file"}],
            "outputMappings": {"$.output": "$.renderedEmail.subject"},
        },
    }
    names = [f"{prefix}{name}" for name in steps]
    following = [*names[1:], after]
    return {
        name: {**step, **({"defaultNextStepInstanceId": target} if target else {})}
        for name, step, target in zip(names, steps.values(), following, strict=True)
    }


def test_own_steps_run_on_the_main_path_in_mapped_tasks_and_in_a_chunk(
    airflow_client, airflow_instance, deploy, moto_endpoint, downloads
):
    bucket = f"own-{uuid4().hex[:8]}"
    EndpointClients(moto_endpoint).client("s3").create_bucket(
        Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    # Airflow looks for packages there too, in all of its processes.
    install(airflow_instance.home / "plugins", "acme_scheduled", CODE, {"acme/scheduled-score": "score"})
    steps = {
        **own_steps("", "mapped"),
        "mapped": fork(branch("b_get"), items="$.few", to="chunked"),
        "chunked": fork(branch("b_get"), items="$.many"),
        **own_steps("b_"),
    }
    written = json.loads(json.dumps(steps).replace("{bucket}", bucket))
    with running_smtp() as smtp:
        airflow_client.call(
            "POST",
            "connections",
            body={
                "connection_id": "own_post",
                "conn_type": "smtp",
                "host": "127.0.0.1",
                "port": smtp.port,
                "extra": json.dumps({"disable_ssl": True, "disable_tls": True}),
            },
        )
        deploy(flow("own-steps", written, airflow={"maxInMemoryItems": 3, "branchGranularity": "branch"}))
        many = [{"n": n} for n in range(CHUNKED)]
        payload = {"files": downloads.url, "currentItem": {"n": 100}, "few": many[:2], "many": many}
        ran = FinishedRun(airflow_client, "own-steps", payload)
        assert ran.state == "success"
        subjects = sorted(mail["Subject"] for mail in smtp.mails())
        assert subjects == sorted(f"{2 * n} points" for n in [100, 0, 1, *range(CHUNKED)])
        texts = {next(mail.iter_attachments()).get_content() for mail in smtp.mails()}
        assert texts == {f"item {n}" for n in [100, *range(CHUNKED)]}
    assert ran.xcom("chunked.aggregate")["aggregatedData"] == [f"{2 * n} points" for n in range(CHUNKED)]
