from __future__ import annotations

import pytest

from airflow_allma.flow.secret_names import AllowedSecrets
from airflow_allma.flow.validation import check_flow
from airflow_allma.loading import flow_checks


def support(name):
    return f"tests.support.notifiers.{name}"


NOTED = support("Noted")
ALLOWED = ("tests.support.*", "tests.nowhere.*", "json.*")


def findings(allowed=ALLOWED, **options):
    document = {
        "id": "shop",
        "startStepInstanceId": "a",
        "steps": {"a": {"stepType": "NO_OP"}},
        "airflow": options,
    }
    checked = check_flow(document, checks=flow_checks(AllowedSecrets(), allowed))
    return [
        (".".join(map(str, one.path[1:])), one.severity.value, one.message) for one in checked.diagnostics
    ]


def notify(notifier=NOTED, on=("failure",), args=None, **more):
    return [{"on": list(on), "notifier": notifier, "args": args or {"message": "{{dag_id}}"}, **more}]


DEADLINE = {"seconds": 60, "notifier": NOTED, "args": {"message": "late: {{deadline}}"}}


@pytest.mark.parametrize(
    "options",
    [
        {"notify": notify()},
        {"notify": notify(on=["failure", "success", "retry"], args={"message": "$.error", "data": [1]})},
        {"notify": notify(support("NotedLater"))},
        {"notify": notify(args={"message": "{{#if error}}{{error}}{{else}}{{url}}{{/if}}"})},
        {"deadline": DEADLINE},
        {"deadline": {**DEADLINE, "from": "logicalDate"}},
        {"dagDisplayName": "The shop"},
    ],
)
def test_a_valid_notification_has_no_findings(options):
    assert findings(**options) == []


@pytest.mark.parametrize(
    ("options", "path", "message"),
    [
        ({"notify": notify(on=[])}, "notify.0.on", "at least 1"),
        ({"notify": notify(on=["late"])}, "notify.0.on.0", "failure"),
        ({"notify": notify(when="now")}, "notify.0.when", "when"),
        ({"notify": {"on": []}}, "notify", "list"),
        ({"notify": notify("Noted")}, "notify.0.notifier", "looks like `package.module.Class`"),
        ({"notify": notify(support("Noted()"))}, "notify.0.notifier", "looks like"),
        ({"notify": notify("os.system")}, "notify.0.notifier", "`[allma] notifiers` (json.*, tests."),
        ({"notify": notify("tests.nowhere.Noted")}, "notify.0.notifier", "cannot be imported (Module"),
        ({"notify": notify(support("Nobody"))}, "notify.0.notifier", "has no class Nobody; correct the name"),
        ({"notify": notify(support("NotedLatr"))}, "notify.0.notifier", "did you mean tests.support."),
        ({"notify": notify(support("NOT_A_CLASS"))}, "notify.0.notifier", "is not a subclass of"),
        ({"notify": notify("json.JSONDecoder")}, "notify.0.notifier", "is not a subclass of"),
        ({"notify": notify(kwargs={})}, "notify.0.kwargs", "of `airflow.notify`; did you mean `args`?"),
        ({"notify": notify(minutes=1)}, "notify.0.minutes", "the keys are args, notifier, on"),
        ({"deadline": {**DEADLINE, "notify": "x"}}, "deadline.notify", "did you mean `notifier`?"),
        ({"notify": notify(args={"text": "x"})}, "notify.0.args.text", "`text` is not an argument of"),
        ({"notify": notify(args={"data": "x"})}, "notify.0.args", "Noted also needs message"),
        ({"notify": notify(args={"message": "", "context": {}})}, "notify.0.args.context", "not an argument"),
        ({"notify": notify(args={"message": "{{#if}}"})}, "notify.0.args.message", "not a valid template"),
        ({"notify": notify(args={"message": "{{conn.x.password}}"})}, "notify.0.args.message", "used here"),
        ({"deadline": {**DEADLINE, "seconds": 0}}, "deadline.seconds", "0"),
        ({"deadline": {**DEADLINE, "seconds": 1e12}}, "deadline.seconds", "must be 3153600000 or less"),
        ({"deadline": {**DEADLINE, "from": "start"}}, "deadline.from", "queued"),
        ({"deadline": {**DEADLINE, "notifier": "os.system"}}, "deadline.notifier", "is not among those"),
        ({"deadline": {**DEADLINE, "args": {"message": "a\x00"}}}, "deadline.args.message", "U+0000"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_found_at_its_place(options, path, message):
    errors = [found for found in findings(**options) if found[1] == "error"]
    assert path in [error[0] for error in errors]
    assert [error for error in errors if error[0] == path and message in error[2]]


def test_without_the_setting_no_notifier_is_allowed():
    ((path, severity, message),) = findings(allowed=(), notify=notify())
    assert (path, severity) == ("notify.0.notifier", "error")
    assert message.endswith("add it to `[allma] notifiers` (empty)")


@pytest.mark.parametrize(
    ("args", "advice"),
    [
        ({"message": "{{dagId}}"}, "did you mean `dag_id`?"),
        ({"message": "x", "data": {"a": ["$.payload.b"]}}, "facts: dag_id, "),
    ],
)
def test_a_name_that_is_no_fact_of_the_run_has_a_warning(args, advice):
    (found,) = findings(notify=notify(args=args))
    assert found[1] == "warning"
    assert advice in found[2]


def test_the_documentation_names_every_fact(repository):
    from airflow_allma.flow.notification_rules import NOTIFICATION_FACTS

    page = (repository / "docs/runs.md").read_text()
    assert [fact for fact in NOTIFICATION_FACTS if f"`{fact}`" not in page] == []


def test_an_unknown_event_is_one_problem():
    assert [path for path, _, _ in findings(notify=notify(on=["fail"]))] == ["notify.0.on.0"]


def test_names_of_airflow_are_only_compared_with_the_facts():
    found = findings(notify=notify(args={"message": "{{ds}}"}))
    assert [(path, severity) for path, severity, _ in found] == [("notify.0.args.message", "warning")]
    assert "`ds` is not a fact of the run" in found[0][2]
