"""Where flows can name connections and Variables, and which ones."""

from __future__ import annotations

import pytest

from airflow_allma.flow.diagnostics import Severity, json_path
from airflow_allma.flow.secret_names import AllowedSecrets, SecretName, secret_name
from airflow_allma.flow.validation import check_flow
from airflow_allma.loading import flow_checks
from airflow_allma.settings import names_in

ALL = AllowedSecrets()
SHOP = AllowedSecrets(names_in("shop_*,\n  billing"), names_in("flows_?"))
PASSWORD = "{{conn.shop.password}}"
COMPOSE = {"stepType": "DATA_TRANSFORMATION", "moduleIdentifier": "system/compose-object-from-input"}
CALL = {
    "stepType": "API_CALL",
    "apiHttpMethod": "GET",
    "apiUrlTemplate": {"template": "https://api.test/"},
}
DOWNLOAD = {"stepType": "FILE_DOWNLOAD", "sourceUrlTemplate": "https://api.test/", "destinationBucket": "b"}


def found(step, allowed=ALL, **flow):
    """Return path and message of the errors and of the warnings of a flow of one step."""
    raw = {"id": "f", "startStepInstanceId": "a", "steps": {"a": step}, **flow}
    diagnostics = check_flow(raw, checks=flow_checks(allowed)).diagnostics
    return tuple(
        [(json_path(one.path), one.message) for one in diagnostics if one.severity is severity]
        for severity in (Severity.ERROR, Severity.WARNING)
    )


@pytest.mark.parametrize(
    ("names", "meaning"),
    [
        ("conn.shop.password", SecretName("shop", "password")),
        ("conn.shop.extra.key", SecretName("shop", "extra", ("key",))),
        ("conn.shop.extra.a.b", SecretName("shop", "extra", ("a", "b"))),
        ("var.token", SecretName("token")),
        ("conn.shop", None),
        ("conn.shop.extra", None),
        ("conn.shop.other", None),
        ("conn.shop.password.x", None),
        ("var", None),
        ("var.a.b", None),
        ("variable.a", None),
    ],
)
def test_two_forms_are_reserved(names, meaning):
    assert secret_name(names.split(".")) == meaning


@pytest.mark.parametrize(
    "step",
    [
        {**CALL, "apiUrlTemplate": {"template": "https://{{conn.shop.host}}:{{conn.shop.port}}/{{var.x}}"}},
        {**CALL, "apiHeadersTemplate": {"X": f"Bearer {PASSWORD}", "Y": "{{base64 conn.[a.b].login}}"}},
        {**CALL, "apiHeadersTemplate": {"X": "{{#if initialContextData.x}}{{var.token}}{{/if}}"}},
        {**CALL, "apiUrlTemplate": {"template": "/orders"}, "connection": "shop"},
        {**DOWNLOAD, "sourceUrlTemplate": "https://api.test/{{var.x}}"},
        {**DOWNLOAD, "headersTemplate": {"X": PASSWORD}, "connection": "shop"},
    ],
)
def test_url_and_header_templates_can_name_them(step):
    assert found(step) == ([], [])


@pytest.mark.parametrize(
    ("step", "path"),
    [
        ({**COMPOSE, "literals": {"x": PASSWORD}}, "$.steps.a.literals.x"),
        ({**COMPOSE, "literals": {"x": [{"y": "a {{var.token}}"}]}}, "$.steps.a.literals.x[0].y"),
        ({**COMPOSE, "literals": {"x": "$.conn.shop.password"}}, "$.steps.a.literals.x"),
        ({**COMPOSE, "literals": {"x": "$.a.{{var.key}}"}}, "$.steps.a.literals.x"),
        ({**COMPOSE, "inputMappings": {"x": "$.conn.shop.password"}}, "$.steps.a.inputMappings.x"),
        ({**COMPOSE, "inputMappings": {"x": "$['var']['token']"}}, "$.steps.a.inputMappings.x"),
        ({**COMPOSE, "inputMappings": {"x": "$.list[$.var.index]"}}, "$.steps.a.inputMappings.x"),
        ({**COMPOSE, "customConfig": {"x": PASSWORD}}, "$.steps.a.customConfig.x"),
        (
            {
                **COMPOSE,
                "transitions": [{"condition": "$.var.mode == 'a'", "nextStepInstanceId": "a"}],
            },
            "$.steps.a.transitions[0].condition",
        ),
        ({**CALL, "apiStaticHeaders": {"X": PASSWORD}}, "$.steps.a.apiStaticHeaders.X"),
        ({**CALL, "apiHeadersTemplate": {"X": "$.conn.shop.password"}}, "$.steps.a.apiHeadersTemplate.X"),
        (
            {**CALL, "requestBodyTemplate": {"x": {"sourceJsonPath": "$.var.token"}}},
            "$.steps.a.requestBodyTemplate.x.sourceJsonPath",
        ),
        (
            {
                **CALL,
                "requestBodyTemplate": {
                    "x": {"sourceJsonPath": "$.l", "formatAs": "CUSTOM_STRING", "itemTemplate": "{{var.t}}"}
                },
            },
            "$.steps.a.requestBodyTemplate.x.itemTemplate",
        ),
        (
            {
                **CALL,
                "apiUrlTemplate": {
                    "template": "https://a.test/{{x}}",
                    "contextMappings": {"x": {"sourceJsonPath": "$.conn.shop.login"}},
                },
            },
            "$.steps.a.apiUrlTemplate.contextMappings.x.sourceJsonPath",
        ),
        (
            {**CALL, "customConfig": {"requestBodyPath": "$.conn.shop.login"}},
            "$.steps.a.customConfig.requestBodyPath",
        ),
        ({**DOWNLOAD, "destinationKeyTemplate": "a/{{var.token}}"}, "$.steps.a.destinationKeyTemplate"),
        ({**DOWNLOAD, "destinationBucket": "{{var.bucket}}"}, "$.steps.a.destinationBucket"),
        (
            {
                "stepType": "EMAIL",
                "from": "a@b.test",
                "to": "a@b.test",
                "subject": "{{var.token}}",
                "body": "x",
            },
            "$.steps.a.subject",
        ),
    ],
)
def test_anywhere_else_they_are_errors_that_say_where_they_can_be(step, path):
    errors, _ = found(step)
    (where, message), *more = [one for one in errors if "maxTransitions" not in one[1]]
    assert not more
    assert where == path
    if path == "$.steps.a.apiHeadersTemplate.X":
        assert message.endswith("is not a path in the run's data; write `{{conn.shop.password}}`")
    else:
        assert (
            "cannot be used here: connections and Variables can be named only in the URL and header"
            in message
        )
        assert "initialContextData." in message


@pytest.mark.parametrize(
    ("flow", "path"),
    [
        ({"flowVariables": {"x": "{{var.token}}"}}, "$.flowVariables.x"),
        ({"airflow": {"owner": PASSWORD}}, "$.airflow.owner"),
    ],
)
def test_fields_of_the_flow_cannot_name_them(flow, path):
    errors, _ = found(CALL, **flow)
    assert (path, True) in [(where, "cannot be used here" in message) for where, message in errors]


@pytest.mark.parametrize(
    "step",
    [
        {**COMPOSE, "literals": {"x": "{{initialContextData.conn.shop.password}} {{conn.name}} {{var}}"}},
        {**COMPOSE, "inputMappings": {"x": "$.initialContextData.var.token", "y": "$.conn.name"}},
        {**COMPOSE, "inputMappings": {"conn": "$.c"}, "outputMappings": {"$.x": "$.conn.shop.password"}},
        {**COMPOSE, "literals": {"x": "{{#each list}}{{var.name}}{{/each}}"}},
        {**COMPOSE, "literals": {"x": "{{currentContextData.conn.shop.password}}"}},
        {**COMPOSE, "description": "does what {{conn.shop.password}} would"},
    ],
)
def test_data_of_those_names_can_be_used(step):
    assert found(step)[0] == []


def test_in_a_block_the_names_are_those_of_its_value():
    step = {**CALL, "apiHeadersTemplate": {"X": "{{#each l}}{{var.token}}{{@root.var.token}}{{/each}}"}}
    errors, warnings = found(step, airflow={"inputSchema": {"properties": {"l": {"type": "array"}}}})
    assert errors == []
    ((_, message),) = warnings
    assert message == (
        "`{{var.token}}` is a field of the block's own value here; for the connection or Variable write "
        "`{{@root.var.token}}`"
    )


@pytest.mark.parametrize(
    ("step", "path", "subject"),
    [
        ({**CALL, "connection": "hr"}, "$.steps.a.connection", "connection `hr`"),
        (
            {**CALL, "apiHeadersTemplate": {"X": "{{conn.hr.password}}"}},
            "$.steps.a.apiHeadersTemplate.X",
            "connection `hr`",
        ),
        (
            {**CALL, "apiUrlTemplate": {"template": "https://a.test/{{var.flows_12}}"}},
            "$.steps.a.apiUrlTemplate.template",
            "Variable `flows_12`",
        ),
        ({**DOWNLOAD, "connection": "shop"}, "$.steps.a.connection", "connection `shop`"),
    ],
)
def test_what_is_not_allowed_is_refused_with_the_setting(step, path, subject):
    ((where, message),) = found(step, SHOP)[0]
    assert where == path
    setting = "variables` (flows_?)" if "Variable" in subject else "connections` (shop_*, billing)"
    assert message == (
        f"the {subject} is not among those that flows may use; use another one, or add it to "
        f"`[allma] allowed_{setting}"
    )


def test_the_connection_for_aws_is_bounded_too():
    ((where, message),) = found(CALL, SHOP, airflow={"awsConnId": "admin_aws"})[0]
    assert where == "$.airflow.awsConnId"
    assert "allowed_connections" in message
    assert found(CALL, SHOP, airflow={"awsConnId": "shop_aws"}) == ([], [])


def test_what_is_allowed_is_not_refused():
    step = {
        **CALL,
        "apiUrlTemplate": {"template": "/{{conn.billing.login}}"},
        "connection": "shop_api",
        "apiHeadersTemplate": {"X": "{{var.flows_1}}"},
    }
    assert found(step, SHOP) == ([], [])
    assert found(CALL, AllowedSecrets((), ())) == ([], [])
    assert found({**CALL, "connection": "x"}, AllowedSecrets((), ()))[0] != []


@pytest.mark.parametrize("connection", ["{{shop}}", "", "$.a b", 7, ["shop"], "a" * 251])
def test_a_connection_is_an_id_that_is_written_out(connection):
    ((where, message),) = found({**CALL, "connection": connection})[0]
    assert where == "$.steps.a.connection"
    assert "must be the id of an Airflow connection, written out" in message


def test_a_path_in_place_of_a_url_needs_a_connection():
    ((where, message),) = found({**CALL, "apiUrlTemplate": {"template": "/orders"}})[1]
    assert where == "$.steps.a.apiUrlTemplate.template"
    assert "set `connection`" in message
