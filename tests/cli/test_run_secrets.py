"""`airflow-allma run` with the connections and Variables of the environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from urllib.parse import urlsplit

import pytest

from tests.support import planted_models
from tests.support import planted_secrets as planted
from tests.support.echo_server import open_echo_server
from tests.support.flow_files import write
from tests.support.planted_models import running_model_servers


@pytest.fixture
def server():
    with open_echo_server() as opened:
        yield opened


def run(folder, flow, payload, env, *options):
    file = write(folder, "flow.json", flow)
    return subprocess.run(
        [
            *(sys.executable, "-m", "airflow_allma", "run", str(file)),
            *("--payload", json.dumps(payload), "--trace", *options),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, **env},
        check=False,
    )


def test_a_run_that_succeeds_fails_and_retries_prints_no_secret(tmp_path, server):
    store = tmp_path / "store"
    ended = run(
        tmp_path,
        planted.planted_flow("planted"),
        planted.PAYLOAD,
        planted.environment(server),
        "--chunks",
        "--store",
        store.as_uri(),
    )
    assert ended.returncode == 1, ended.stderr
    result = json.loads(ended.stdout)
    assert result["error"]["errorDetails"]["status"] == 403
    assert "***" in result["error"]["errorMessage"]
    assert Counter(urlsplit(target).path for target, _ in server.requests) == planted.REQUESTS
    assert planted.hits([("sent", str(server.requests))])
    assert planted.hits([("output", ended.stdout), ("trace", ended.stderr)]) == []
    assert planted.hits(planted.files_below(store)) == []


def test_a_run_whose_models_and_tools_repeat_their_keys_prints_no_key(tmp_path):
    store = tmp_path / "store"
    with running_model_servers() as servers:
        env = planted_models.environment(servers)
        flow = planted_models.model_flow("planted")
        ended = run(tmp_path, flow, planted_models.PAYLOAD, env, "--chunks", "--store", store.as_uri())
        assert planted.hits([("sent", servers.sent())])
        assert servers.asked() == planted_models.ASKED
        assert servers.called() == planted_models.CALLED
    assert ended.returncode == 0, ended.stderr
    assert "***" in ended.stdout
    assert "***" in ended.stderr
    assert planted.hits([("output", ended.stdout), ("trace", ended.stderr)]) == []
    assert planted.hits(planted.files_below(store)) == []


def test_another_host_gets_no_secret(tmp_path, server):
    flow = {"id": "f", "startStepInstanceId": "a", "steps": {"a": planted.call("/away/x")}}
    assert run(tmp_path, flow, {}, planted.environment(server)).returncode == 0
    (_, first), (target, second) = server.requests
    assert planted.hits([("first", str(first))])
    assert planted.hits([("second", str((target, second)))]) == []


def test_a_missing_connection_names_what_would_define_it(tmp_path):
    flow = {"id": "f", "startStepInstanceId": "a", "steps": {"a": planted.call("/x", "shop_api")}}
    ended = run(tmp_path, flow, {}, {})
    assert ended.returncode == 1
    assert "AIRFLOW_CONN_SECRET_" in ended.stdout
    assert "does not exist" in ended.stdout


def test_what_is_not_allowed_is_an_error_before_the_run(tmp_path):
    flow = {"id": "f", "startStepInstanceId": "a", "steps": {"a": planted.call("/x")}}
    ended = run(tmp_path, flow, {}, {"AIRFLOW__ALLMA__ALLOWED_CONNECTIONS": "shop_*"})
    assert ended.returncode == 2
    assert "the connection `secret_shop` is not among those that flows may use" in ended.stderr
