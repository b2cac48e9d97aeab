"""Mapped tasks that run without the list that they are mapped over, as in `airflow tasks test`."""

from __future__ import annotations

import pytest
from airflow.sdk.definitions._internal.mixins import ResolveMixin
from airflow.sdk.exceptions import AirflowFailException

from airflow_allma.dag_factory import load_flows
from tests.airflow.fake_dag_run import FakeDagRun
from tests.airflow.flows import branch, flow, fork
from tests.support.flow_files import write

pytestmark = [pytest.mark.airflow, pytest.mark.usefixtures("nothing_remembered")]


class _Unresolved(ResolveMixin):
    """What a mapped argument does in Airflow 3.3 when its upstream task has no return value."""

    def __init__(self, key):
        self.key = key

    def iter_references(self):
        return ()

    def resolve(self, context):
        raise KeyError(self.key)


def mapped_task(folder, step, key):
    write(folder, "f.json", flow("mapped", {"a": fork(branch("b")), "b": {"stepType": "NO_OP"}}))
    (dag,) = load_flows(folder).values()
    (task,) = [task for task in dag.tasks if task.task_id.endswith(f".{step}")]
    operator = task.unmap({"chunk": ""})
    operator.chunk = _Unresolved(key)
    return operator


def assert_explained(task, error):
    assert "this mapped task has no item" in str(error)
    assert f"`airflow tasks test mapped {task.task_id} RUN_ID --map-index 0`" in str(error)


def test_a_chunk_task_without_a_list_says_what_is_missing_and_how_to_pass_it(tmp_path):
    task = mapped_task(tmp_path, "chunk", "chunk")
    with pytest.raises(AirflowFailException) as raised:
        task.render_template_fields({})
    assert_explained(task, raised.value)


@pytest.mark.parametrize("items", [None, [], [1]])
def test_a_branch_task_without_an_item_says_what_is_missing_and_how_to_pass_it(items):
    steps = {"f": fork(branch("w")), "w": {"stepType": "NO_OP"}}
    dag_run = FakeDagRun(flow("mapped", steps), {"items": items})
    if items is not None:
        dag_run.run("f.items")
    assert_explained(dag_run.dag.get_task("f.b.w"), dag_run.run("f.b.w", 1))


def test_any_other_missing_key_is_not_explained_away(tmp_path):
    with pytest.raises(KeyError, match="other"):
        mapped_task(tmp_path, "chunk", "other").render_template_fields({})
