"""The list of flows, and what the page of one flow shows."""

from __future__ import annotations

import json

import pytest

from airflow_allma.dag_factory import build_dag, load_flows, report_problems
from airflow_allma.exceptions import FlowError
from airflow_allma.flow import Flow
from tests.airflow.flows import compose
from tests.support.airflow import BUNDLE, store_dag

pytestmark = pytest.mark.airflow


def small(flow_id, **more):
    return {"id": flow_id, "startStepInstanceId": "a", "steps": {"a": compose()}, **more}


@pytest.fixture
def no_dags(pages):
    """Make the Dags of other tests none of flows, and remove import errors."""
    from airflow.models.dag import DagTag
    from airflow.models.errors import ParseImportError
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    with create_session() as session:
        session.execute(delete(DagTag))
        session.execute(delete(ParseImportError))


def change(dag_id, **values):
    from airflow.models.dag import DagModel
    from airflow.utils.session import create_session
    from sqlalchemy import update

    with create_session() as session:
        session.execute(update(DagModel).where(DagModel.dag_id == dag_id).values(**values))


def add_import_error(text, filename="allma_problems.py"):
    from airflow.models.errors import ParseImportError
    from airflow.utils.session import create_session

    with create_session() as session:
        session.add(ParseImportError(filename=filename, bundle_name=BUNDLE, stacktrace=text))


def test_flows_are_listed_with_their_state_and_last_runs(pages, no_dags):
    for _ in range(3):
        pages.run(small("list-a", name="Orders ü", description="Ships orders", tags=["shop"]))
    for name in ("list-b", "list-c"):
        store_dag(build_dag(Flow.model_validate(small(name, airflow={"schedule": "cron(0 6 * * ? *)"}))))
    change("list-b", is_paused=True)
    change("list-a", is_paused=False)
    change("list-c", is_stale=True)
    found = pages.get("/flows")
    assert found["total"] == 3
    assert found["counts"] == {"active": 1, "paused": 1, "broken": 0, "unpublished": 1}
    b, c, a = found["flows"]
    assert (a["dagId"], a["name"], a["state"], a["version"], a["tags"]) == (
        "list-a",
        "Orders ü",
        "active",
        1,
        ["shop"],
    )
    assert [run["state"] for run in a["lastRuns"]] == ["success"] * 3
    assert a["schedule"] is None
    assert b["schedule"].startswith("At 06:00")
    assert c["state"] == "unpublished"
    assert "published" in c["problem"]


def test_flows_are_searched_filtered_and_paged(pages, no_dags):
    for number in range(5):
        store_dag(build_dag(Flow.model_validate(small(f"find-{number}", tags=[f"t{number}"]))))
    change("find-3", is_paused=False)

    def ids(**query):
        found = pages.get("/flows", **query)
        return [flow["dagId"] for flow in found["flows"]], found["total"]

    assert ids(q="FIND-2") == (["find-2"], 1)
    assert ids(q="t4") == (["find-4"], 1)
    assert ids(q="%") == ([], 0)
    assert ids(limit=2, offset=2) == (["find-2", "find-3"], 5)
    assert ids(state="active") == (["find-3"], 1)
    assert pages.ask("/flows", state="nonsense").status_code == 422
    assert isinstance(pages.ask("/flows", limit=1000).json()["detail"], str)


def test_only_flows_whose_dag_the_user_may_see_are_listed(pages, no_dags, monkeypatch):
    from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

    for name in ("mine", "other"):
        pages.run(small(name))
    add_import_error(broken_text(other=["other"], neither=["new"]))
    monkeypatch.setattr(SimpleAuthManager, "get_authorized_dag_ids", lambda self, **_: {"mine"})
    monkeypatch.setattr(SimpleAuthManager, "is_authorized_dag", only("mine"))
    found = pages.get("/flows")
    assert [flow["flowId"] for flow in found["flows"]] == ["mine", "new"]
    assert "other" not in json.dumps(found)
    monkeypatch.setattr(SimpleAuthManager, "is_authorized_view", lambda self, **_: False)
    assert [flow["flowId"] for flow in pages.get("/flows")["flows"]] == ["mine"]


def only(dag_id):
    def is_authorized(self, *, method, user, access_entity=None, details=None):
        return details.id == dag_id

    return is_authorized


def broken_text(**flows):
    from airflow_allma.common.broken_flows import broken_flows_line

    files = {f"{name}.json": ids for name, ids in flows.items()}
    problems = [f"{file}:3:4: error: $.steps: something is wrong" for file in files]
    lines = ["FlowError: 1 flow file has errors.", broken_flows_line(files), *problems]
    return "\n\n".join(lines)


def test_last_runs_need_the_right_to_see_runs(pages, no_dags, monkeypatch):
    from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

    pages.run(small("runs-hidden"))
    monkeypatch.setattr(
        SimpleAuthManager, "is_authorized_dag", lambda self, *, access_entity=None, **_: access_entity is None
    )
    assert pages.get("/flows")["flows"][0]["lastRuns"] == []


def test_broken_flows_are_listed_with_their_problem(pages, no_dags, tmp_path):
    def write(name, flow):
        (tmp_path / f"{name}.json").write_text(json.dumps(flow, indent=1))

    write("once", small("once"))
    write("fine", small("fine"))
    for dag in load_flows(tmp_path).values():
        store_dag(dag)
    write("once", small("once", startStepInstanceId="nowhere"))
    write("never", small("never ran", steps={"a": compose(to="b")}))
    with pytest.raises(FlowError) as raised:
        report_problems(tmp_path)
    add_import_error(f"Traceback\n  File x\nairflow_allma.exceptions.FlowError: {raised.value}\n")
    change("once", is_stale=True)
    change("fine", is_paused=False)
    found = {flow["flowId"]: flow for flow in pages.get("/flows")["flows"]}
    assert {name: flow["state"] for name, flow in found.items()} == {
        "fine": "active",
        "once": "broken",
        "never ran": "broken",
    }
    assert "$.startStepInstanceId" in found["once"]["problem"]
    assert "never.json" not in found["once"]["problem"]
    assert found["once"]["dagId"] == "once"
    assert found["never ran"]["dagId"] is None
    assert found["never ran"]["file"].endswith("never.json")


def test_the_page_of_a_flow_has_its_source_with_warnings_at_their_lines(pages):
    flow = small("page-flow", name="Orders", version=3, description="Ships")
    flow["steps"]["a"]["inputMappings"] = {"id": "$.initialContextData.orderId", "x": "$.steps_output.b.x"}
    pages.run(flow)
    found = pages.get("/dags/page-flow/flow")
    assert (found["isFlow"], found["flowId"], found["version"], found["name"]) == (
        True,
        "page-flow",
        3,
        "Orders",
    )
    assert json.loads(found["source"])["steps"]["a"]["inputMappings"] == flow["steps"]["a"]["inputMappings"]
    assert found["payload"] == {"schema": None, "example": {"orderId": None}}
    (version,) = found["versions"]
    assert (version["version"], version["dagVersion"]) == (3, 1)
    lines = found["source"].splitlines()
    assert found["problems"]
    for problem in found["problems"]:
        assert "steps_output.b" in lines[problem["line"] - 1] or problem["path"] == "$"


def test_an_input_schema_makes_an_example(pages):
    schema = {
        "type": "object",
        "properties": {"id": {"type": "integer"}, "kind": {"enum": ["x", "y"]}, "n": {"default": 7}},
        "required": ["id"],
    }
    store_dag(build_dag(Flow.model_validate(small("page-schema", airflow={"inputSchema": schema}))))
    found = pages.get("/dags/page-schema/flow")["payload"]
    assert found == {"schema": schema, "example": {"id": 0, "kind": "x", "n": 7}}


def test_a_dag_that_is_no_flow_and_none_at_all(pages, run_dag):
    from airflow.providers.standard.operators.empty import EmptyOperator
    from airflow.sdk import DAG

    with DAG("page-no-flow", schedule=None) as dag:
        EmptyOperator(task_id="a")
    store_dag(dag)
    assert pages.get("/dags/page-no-flow/flow") == {"isFlow": False}
    assert pages.ask("/dags/nothing/flow").status_code == 404
