"""The completion actions of a run are started once for each of its ends, whichever way it ended."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest

from airflow_allma.common.completion_runs import COMPLETION_TAG, EndedRun
from airflow_allma.dag_factory import load_flows
from tests.airflow.flows import compose, flow
from tests.support import airflow_home
from tests.support.airflow import BUNDLE

pytestmark = pytest.mark.airflow

_numbers = count()
ACTIONS = [{"actionType": "LOG_ONLY"}]


class Flows:
    """Flows in the database, their runs, and the runs of their completion Dags."""

    def __init__(self, folder):
        from airflow_allma.server.completion_starts import CompletionStarter

        self.folder = folder
        self.starter = CompletionStarter()

    def add(self, **fields):
        """Add a flow and return its Dag's id."""
        from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db

        name = f"ending-{next(_numbers)}"
        folder = self.folder / name
        folder.mkdir()
        (folder / "flow.json").write_text(json.dumps(flow(name, {"a": compose({})}, **fields)))
        bag = DagBag(dag_folder=str(airflow_home.home() / "dags"), collect_dags=False)
        for dag in load_flows(folder).values():
            bag.bag_dag(dag)
        sync_bag_to_db(bag, BUNDLE, None)
        return name

    def run(self, session, dag_id, run_id=None, state="running", **columns):
        """Add a run of a flow."""
        from airflow.models.dagbag import DBDagBag
        from airflow.utils.types import DagRunTriggeredByType

        run = (
            DBDagBag()
            .get_latest_version_of_dag(dag_id, session=session)
            .create_dagrun(
                run_id=run_id or f"run-{next(_numbers)}",
                run_after=datetime.now(UTC),
                run_type="manual",
                triggered_by=columns.pop("triggered_by", DagRunTriggeredByType.UI),
                state="queued",
                session=session,
            )
        )
        self.end(session, run, state, **columns)
        return run

    @staticmethod
    def end(session, run, state, **columns):
        """Change a run as whatever ends it does."""
        values = {"end_date": datetime.now(UTC) if state in {"success", "failed"} else None, **columns}
        for name, value in {"_state": state, **values}.items():
            setattr(run, name, value)
        session.commit()

    def look(self, session, limit=100):
        return self.starter.start_missing(session, limit)

    @staticmethod
    def started(session, dag_id):
        """Return the runs of the completion Dag, in their order."""
        from airflow.models.dagrun import DagRun
        from sqlalchemy import select

        query = select(DagRun).where(DagRun.dag_id == f"{dag_id}.completion").order_by(DagRun.id)
        runs = session.scalars(query).all()
        assert all(run.state in {"queued", "running"} for run in runs)
        return [EndedRun.from_conf(run.conf) for run in runs]


@pytest.fixture
def flows(tasks, session, tmp_path):
    from airflow.models.dag import DagTag
    from sqlalchemy import delete

    # Other tests in this database have flows with actions, too.
    session.execute(delete(DagTag).where(DagTag.name == COMPLETION_TAG))
    session.commit()
    return Flows(tmp_path)


def test_runs_that_ended_get_one_completion_run_each(flows, session):
    dag_id = flows.add(onCompletionActions=ACTIONS)
    before = flows.run(session, dag_id, state="success")
    waiting = flows.run(session, dag_id)
    assert flows.look(session) == 0
    assert [one.run_id for one in flows.started(session, dag_id)] == [before.run_id]

    # One that was known, and one that began and ended since.
    flows.end(session, waiting, "failed")
    quick = flows.run(session, dag_id, state="success")
    flows.look(session)
    flows.look(session)
    started = flows.started(session, dag_id)
    assert [(one.run_id, one.state) for one in started] == [
        (before.run_id, "success"),
        (waiting.run_id, "failed"),
        (quick.run_id, "success"),
    ]
    assert started[1].ended_at == waiting.end_date.isoformat()


def test_a_run_that_was_cleared_ends_again(flows, session):
    dag_id = flows.add(onCompletionActions=ACTIONS)
    run = flows.run(session, dag_id, state="failed")
    flows.look(session)
    flows.end(session, run, "running", clear_number=1)
    flows.look(session)
    flows.end(session, run, "success")
    flows.look(session)
    assert [(one.number, one.state) for one in flows.started(session, dag_id)] == [
        (0, "failed"),
        (1, "success"),
    ]


def test_what_the_quick_looks_have_missed_is_found_thoroughly(flows, session):
    dag_id = flows.add(onCompletionActions=ACTIONS)
    run = flows.run(session, dag_id, state="success")
    flows.look(session)
    # Cleared and ended again between two looks, long after it was new.
    flows.starter._highest += 10_000
    flows.end(session, run, "success", clear_number=1)
    flows.look(session)
    assert len(flows.started(session, dag_id)) == 1
    flows.starter._thorough_at = 0.0
    flows.look(session)
    assert [one.number for one in flows.started(session, dag_id)] == [0, 1]


def test_another_api_server_starts_nothing_twice(flows, session):
    from airflow_allma.server.completion_starts import CompletionStarter

    dag_id = flows.add(onCompletionActions=ACTIONS)
    long = "x" * 250
    for run_id in ("one", "two", long):
        flows.run(session, dag_id, run_id, state="success")
    flows.look(session)
    assert CompletionStarter().start_missing(session, 100) == 0
    assert [one.run_id for one in flows.started(session, dag_id)] == ["one", "two", long]


def test_a_limit_leaves_the_others_for_the_next_look(flows, session):
    dag_id = flows.add(onCompletionActions=ACTIONS)
    for number in range(5):
        flows.run(session, dag_id, f"r{number}", state="success")
    assert flows.look(session, 2) == 3
    assert len(flows.started(session, dag_id)) == 2
    assert flows.look(session, 10) == 0
    assert [one.run_id for one in flows.started(session, dag_id)] == [f"r{number}" for number in range(5)]


def test_a_run_that_has_begun_again_before_its_turn_waits_for_its_next_end(flows, session):
    dag_id = flows.add(onCompletionActions=ACTIONS)
    first, second = (flows.run(session, dag_id, state="success") for _ in range(2))
    flows.look(session, 1)
    flows.end(session, second, "queued", clear_number=1)
    flows.look(session)
    assert [one.run_id for one in flows.started(session, dag_id)] == [first.run_id]


def test_old_runs_other_dags_and_tests_have_no_actions(flows, session, monkeypatch):
    from airflow.utils.types import DagRunTriggeredByType

    dag_id, plain = flows.add(onCompletionActions=ACTIONS), flows.add()
    now = datetime.now(UTC)
    flows.run(session, plain, state="success")
    flows.run(session, dag_id, state="success", end_date=now - timedelta(days=8))
    flows.run(session, dag_id, state="success", end_date=now - timedelta(hours=1))  # before it had actions
    flows.run(session, dag_id, state="success", triggered_by=DagRunTriggeredByType.TEST)
    flows.look(session)
    assert flows.started(session, dag_id) == []
    assert flows.started(session, plain) == []
    flows.run(session, dag_id, state="success")
    monkeypatch.setenv("AIRFLOW__ALLMA__COMPLETION_DAYS", "0")
    assert flows.look(session) == 0
    assert flows.started(session, dag_id) == []


def test_nothing_is_read_if_no_flow_has_actions(flows, session):
    flows.run(session, flows.add(), state="success")
    assert flows.look(session) == 0
    assert flows.starter._highest is None


MARKS = [
    ("patch_dag_run", {"state": "failed"}, True),
    ("patch_dag_run", {"note": "failed before"}, False),
    ("patch_dag_run", {"state": "success", "note": "not failed"}, False),
    ("patch_task_instance", {"new_state": "failed", "task_id": "a"}, True),
    ("patch_task_group_instances", {"new_state": "failed"}, True),
    ("trigger", {"state": "failed"}, False),
]


@pytest.mark.parametrize(("event", "extra", "marked"), MARKS)
def test_a_run_that_somebody_marked_as_failed_says_so(flows, session, event, extra, marked):
    from airflow.models.log import Log

    dag_id = flows.add(onCompletionActions=ACTIONS)
    start = datetime.now(UTC) - timedelta(seconds=5)
    run = flows.run(session, dag_id, state="failed", start_date=start)
    other = flows.run(session, dag_id, state="failed", start_date=start)
    session.add(Log(event=event, dag_id=dag_id, run_id=run.run_id, extra=json.dumps(extra)))
    session.commit()
    flows.look(session)
    assert {one.run_id: one.was_marked for one in flows.started(session, dag_id)} == {
        run.run_id: marked,
        other.run_id: False,
    }


def test_a_request_for_many_runs_marks_each(flows, session):
    from airflow.models.log import Log

    dag_id = flows.add(onCompletionActions=ACTIONS)
    start = datetime.now(UTC) - timedelta(seconds=5)
    runs = [flows.run(session, dag_id, state="failed", start_date=start) for _ in range(2)]
    entity = {"dag_run_id": runs[0].run_id, "dag_id": dag_id, "state": "failed"}
    extra = {"actions": [{"action": "update", "entities": [entity]}]}
    session.add(Log(event="bulk_dag_runs", dag_id="~", extra=json.dumps(extra)))
    session.commit()
    flows.look(session)
    assert [one.was_marked for one in flows.started(session, dag_id)] == [True, False]
