"""The tools of the other Airflow tests: `dag.test()` in this process, and a separate real Airflow."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from demo.airflow_client import AirflowApiError
from demo.processes import ManagedProcess, ServerError, wait_until
from tests.support.airflow import RunDag

MAPPED_GROUP = textwrap.dedent(
    """
    from airflow.sdk import dag, task, task_group

    @dag(schedule=None)
    def mapped_group():
        @task
        def items():
            return [{"id": "a", "n": 1}, {"id": "b", "n": 2}, {"id": "c", "n": 3}]

        @task_group
        def branch(item):
            @task(map_index_template="{{ task.op_kwargs['item']['id'] }}")
            def read(item):
                print("reading", item["id"])
                return item["n"]

            @task
            def double(value):
                return value * 2

            return double(read(item=item))

        @task
        def total(values):
            return sum(values)

        total(branch.expand(item=items()))

    built = mapped_group()
    """
)
UNSTEADY = textwrap.dedent(
    """
    import os
    import time
    from datetime import timedelta
    from pathlib import Path
    from airflow.sdk import dag, task

    @dag(schedule=None)
    def unsteady():
        @task(retries=1, retry_delay=timedelta(seconds=0))
        def fails_once(ti=None):
            if ti.try_number == 1:
                raise ValueError("not yet")
            return ti.try_number

        @task
        def needs_file(index, dag_run=None):
            file = Path(dag_run.conf["folder"]) / str(index)
            if not file.exists():
                raise ValueError(f"no file {index}")
            return file.read_text()

        @task(retries=1, retry_delay=timedelta(seconds=0))
        def sleeps_once(dag_run=None, ti=None):
            if ti.try_number == 1:
                Path(dag_run.conf["folder"], "pid").write_text(str(os.getpid()))
                time.sleep(120)
            return ti.try_number

        fails_once() >> needs_file.expand(index=[0, 1])
        sleeps_once()

    unsteady()
    """
)


def _mapped_group_dag():
    scope: dict = {}
    exec(MAPPED_GROUP, scope)
    return scope["built"]


@pytest.mark.airflow
def test_a_dag_made_in_memory_runs_in_the_test_process_with_its_mapped_tasks(run_dag: RunDag):
    result = run_dag(_mapped_group_dag(), {"any": "payload"})

    assert result.state == "success"
    assert result.states("branch.double") == dict.fromkeys(range(3), "success")
    assert result.labels("branch.read") == {0: "a", 1: "b", 2: "c"}
    assert [result.xcom("branch.double", index) for index in range(3)] == [2, 4, 6]
    assert result.xcom("total") == 12


@pytest.mark.airflow
def test_a_failed_task_leaves_its_state_and_no_result(run_dag: RunDag):
    from airflow.sdk import DAG, task

    with DAG("fails", schedule=None) as dag:

        @task
        def breaks():
            raise ValueError("broken")

        @task
        def follows(value):
            return value

        follows(breaks())

    result = run_dag(dag)

    assert result.state == "failed"
    assert result.task("breaks").state == "failed"
    assert result.task("follows").state == "upstream_failed"
    with pytest.raises(KeyError, match="breaks"):
        result.xcom("breaks")


@pytest.mark.airflow
def test_the_same_dag_can_run_again_with_another_payload(run_dag: RunDag):
    from airflow.sdk import DAG, task

    with DAG("echo", schedule=None) as dag:

        @task
        def echo(dag_run=None):
            return dag_run.conf

        echo()

    assert run_dag(dag, {"n": 1}).xcom("echo") == {"n": 1}
    assert run_dag(dag, {"n": 2}).xcom("echo") == {"n": 2}


@pytest.mark.scheduler
def test_a_mapped_task_group_runs_on_the_scheduler(airflow_client, deploy_source):
    deploy_source("mapped_group", MAPPED_GROUP)
    run_id = airflow_client.trigger("mapped_group")

    assert airflow_client.wait_for_run("mapped_group", run_id) == "success"

    tasks = airflow_client.task_instances("mapped_group", run_id)
    assert [(t.map_index, t.state, t.label) for t in tasks if t.task_id == "branch.read"] == [
        (0, "success", "a"),
        (1, "success", "b"),
        (2, "success", "c"),
    ]
    assert airflow_client.xcom("mapped_group", run_id, "branch.double", 2) == 6
    assert airflow_client.xcom("mapped_group", run_id, "total") == 12
    assert airflow_client.xcom_keys("mapped_group", run_id, "total") == ["return_value"]
    assert "reading b" in airflow_client.logs("mapped_group", run_id, "branch.read", 1)
    with pytest.raises(AirflowApiError, match="no_such_key"):
        airflow_client.xcom("mapped_group", run_id, "total", key="no_such_key")


@pytest.mark.scheduler
def test_retries_kill_clear_and_rerun_on_the_scheduler(airflow_client, deploy_source, tmp_path: Path):
    deploy_source("unsteady", UNSTEADY)
    (tmp_path / "0").write_text("zero")
    run_id = airflow_client.trigger("unsteady", {"folder": str(tmp_path)})

    wait_until(
        lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().isdigit(),
        what="a task that can be killed",
    )
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)

    assert airflow_client.wait_for_run("unsteady", run_id) == "failed"
    tasks = {(t.task_id, t.map_index): t for t in airflow_client.task_instances("unsteady", run_id)}
    assert (tasks["fails_once", -1].state, tasks["fails_once", -1].try_number) == ("success", 2)
    assert (tasks["sleeps_once", -1].state, tasks["sleeps_once", -1].try_number) == ("success", 2)
    assert tasks["needs_file", 0].state == "success"
    assert tasks["needs_file", 1].state == "failed"
    assert "not yet" in airflow_client.logs("unsteady", run_id, "fails_once", try_number=1)

    (tmp_path / "0").write_text("changed")
    (tmp_path / "1").write_text("1")
    cleared = airflow_client.clear("unsteady", run_id, ["needs_file"], only_failed=True)
    assert [(t.task_id, t.map_index) for t in cleared] == [("needs_file", 1)]
    assert airflow_client.wait_for_run("unsteady", run_id) == "success"
    assert airflow_client.xcom("unsteady", run_id, "needs_file", 0) == "zero"
    assert airflow_client.xcom("unsteady", run_id, "needs_file", 1) == "1"


@pytest.mark.scheduler
def test_a_flow_and_its_next_version_are_deployed(airflow_client, deploy):
    flow = {
        "id": "harness-flow",
        "version": 1,
        "description": "first",
        "startStepInstanceId": "only",
        "steps": {"only": {"stepType": "NO_OP"}},
    }
    assert deploy(flow) == "harness-flow"
    assert airflow_client.dag_details("harness-flow")["description"] == "first"

    deploy(flow | {"description": "second"})
    assert airflow_client.dag_details("harness-flow")["description"] == "second"


@pytest.mark.scheduler
def test_a_file_that_cannot_be_imported_is_listed_and_does_not_affect_others(
    airflow_client, airflow_instance, deploy_source
):
    broken = airflow_instance.dags[0] / "broken.py"
    broken.write_text("from airflow.sdk import dag\nraise RuntimeError('cannot be read')\n")
    deploy_source("mapped_group", MAPPED_GROUP)

    def listed() -> bool:
        traces = {error["filename"]: error["stack_trace"] for error in airflow_client.import_errors()}
        return "cannot be read" in traces.get(broken.name, "")

    wait_until(listed, what="the import error")
    assert airflow_client.dag_details("mapped_group")["is_stale"] is False

    broken.unlink()
    wait_until(lambda: not listed(), what="the end of the import error")


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


# starts a child that starts a grandchild in a new session, which ignores SIGTERM
STUBBORN = textwrap.dedent(
    """
    import pathlib, signal, subprocess, sys, time
    folder = pathlib.Path(sys.argv[1])
    code = (
        "import os, pathlib, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); os.setsid();"
        "f = pathlib.Path(sys.argv[1]); (f / 'part').write_text(str(os.getpid()));"
        "(f / 'part').rename(f / 'grandchild');"
        "time.sleep(300)"
    )
    subprocess.Popen([sys.executable, "-I", "-S", "-c", code, str(folder)])
    time.sleep(300)
    """
)


def _grandchild(folder: Path) -> int:
    wait_until((folder / "grandchild").exists, what="the grandchild")
    return int((folder / "grandchild").read_text())


def test_stopping_a_server_leaves_no_process_of_it(tmp_path: Path):
    server = ManagedProcess(
        "stubborn", [sys.executable, "-c", STUBBORN, tmp_path], log=tmp_path / "log", grace=1.0
    )
    server.start()
    grandchild = _grandchild(tmp_path)

    server.stop()

    assert not server.running
    assert not _alive(grandchild)


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's /proc")
def test_killing_a_server_leaves_no_process_of_it_and_it_can_be_started_again(tmp_path: Path):
    server = ManagedProcess("stubborn", [sys.executable, "-c", STUBBORN, tmp_path], log=tmp_path / "log")
    server.start()
    grandchild = _grandchild(tmp_path)

    server.kill()

    assert not server.running
    assert not _alive(grandchild)
    (tmp_path / "grandchild").unlink()
    server.start()
    assert _alive(_grandchild(tmp_path))
    server.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's child subreaper")
def test_servers_end_when_the_process_that_started_them_is_killed(tmp_path: Path, repository: Path):
    starter = textwrap.dedent(
        """
        import pathlib, sys, time
        from demo.processes import ManagedProcess
        folder = pathlib.Path(sys.argv[1])
        command = [sys.executable, "-c", sys.argv[2], str(folder)]
        scratch = folder / "scratch"
        scratch.mkdir()
        ManagedProcess("stubborn", command, log=folder / "log", grace=1.0, scratch=scratch).start()
        time.sleep(300)
        """
    )
    parent = subprocess.Popen([sys.executable, "-c", starter, tmp_path, STUBBORN], cwd=repository)
    grandchild = _grandchild(tmp_path)

    parent.kill()
    parent.wait()

    wait_until(lambda: not _alive(grandchild), what="the end of the grandchild", timeout=20)
    wait_until(lambda: not (tmp_path / "scratch").exists(), what="the end of its scratch folder")


def test_a_server_that_dies_is_reported_with_the_end_of_its_log(tmp_path: Path):
    server = ManagedProcess("short", [sys.executable, "-c", "print('out of luck')"], log=tmp_path / "log")
    server.start()

    with pytest.raises(ServerError, match=r"short exited before it was ready(?s:.*)out of luck"):
        wait_until(lambda: False, what="A server", processes=[server])


def test_a_command_that_does_not_exist_is_reported_by_name(tmp_path: Path):
    server = ManagedProcess("none", [tmp_path / "no-such-program"], log=tmp_path / "log")
    server.start()

    with pytest.raises(ServerError, match=r"cannot start .*no-such-program"):
        wait_until(lambda: False, what="A server", processes=[server])
