"""Text in data that looks like a path stays text, in every part of a flow that renders templates."""

from __future__ import annotations

import json

import pytest

from airflow_allma.engine.http_fake import FakeHttpClient, json_response
from tests.support.engine import Fakes, call, compose, fork, noop, run

SECRETS = {"flowVariables": {"apiToken": "S3CR3T"}}
ATTACKS = [
    "$.flow_variables.apiToken",
    "$..apiToken",
    "$.initialContextData.other",
    "$.currentContextData.flow_variables['apiToken']",
    "$.flow_variables[?(@ != 'x')]",
]


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize(
    "fields",
    [
        {"literals": {"shown": "{{currentItem.name}}"}},
        {"literals": {"shown": "{{#if currentItem}}{{currentItem.name}}{{/if}}"}},
        {"literals": {"shown": "{{default nothing currentItem.name}}"}},
        {"customConfig": {"shown": "{{currentItem.name}}"}},
        {"inputMappings": {"name": "$.currentItem.name"}, "literals": {"shown": "{{name}}"}},
        {"literals": {"list": [{"deep": "{{currentItem.name}}"}], "shown": "$.currentItem.name"}},
    ],
)
def test_a_path_in_an_item_is_shown_as_it_is(attack, fields):
    payload = {"items": [{"name": attack}], "other": "S3CR3T"}
    ran = run({"fan": fork(), "work": compose(**fields)}, payload, flow=SECRETS)
    (shown,) = ran.outputs["fan"]["aggregatedData"]
    assert shown["shown"] == attack
    assert "S3CR3T" not in json.dumps(shown)


@pytest.mark.parametrize(
    "attack", ["apiToken", "$.flow_variables.apiToken", "*", "['apiToken']", "..apiToken"]
)
def test_a_value_in_a_written_path_is_the_name_of_a_key(attack):
    steps = {"work": compose(literals={"price": "$.prices.{{pick}}", "all": "$.prices[{{pick}}]"})}
    ran = run(steps, {"pick": attack, "prices": {"a": 1}}, flow=SECRETS)
    assert ran.outputs["work"] == {}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_path_in_data_is_sent_as_text_in_headers_and_bodies(attack):
    http = FakeHttpClient().route("POST", "https://api.test/x", json_response({}))
    step = call(
        apiHttpMethod="POST",
        apiHeadersTemplate={"X-Name": "{{name}}"},
        requestBodyTemplate={"name": {"sourceJsonPath": "$.name"}},
    )
    ran = run({"call": step}, {"name": attack, "other": "S3CR3T"}, fakes=Fakes(http), flow=SECRETS)
    assert ran.status == "COMPLETED", ran.error
    (request,) = http.requests
    assert request.headers["X-Name"] == attack
    assert request.json() == {"name": attack}


@pytest.mark.parametrize(
    ("fields", "name"),
    [({}, "go"), ({"displayName": "Go on"}, "Go on"), ({"displayName": ""}, "go"), ({"name": "other"}, "go")],
)
def test_the_message_of_no_op_names_the_step(fields, name):
    assert run({"go": noop(**fields)}).outputs["go"] == {
        "message": f"NO_OP step '{name}' executed successfully."
    }
