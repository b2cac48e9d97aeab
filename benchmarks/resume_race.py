"""Resuming waiting tasks at any moment on a real Airflow: how many end well, and how long it takes.

A mapped task waits 200 times, each time for a key of its own. Each wait is resumed through
``POST /allma/resume``, 0 to 10 s after it has parked. With ``--busy``, trivial runs keep the scheduler busy;
with ``--restarts``, the scheduler is killed and the API server restarted in between. With ``--raw``,
the tasks are woken in the database without the rule of ``server/waking.py``, to show what it is for. With
``--timeouts``, nothing is resumed, and all deadlines are the same. ``resumed_too_soon`` counts the tasks that
Airflow failed because it took the end of their first part for that of the second.

Tasks are not retried, except with ``--restarts``: Airflow fails a task that it starts while the API server is
down. Flows have two such retries (``[allma] lost_task_retries``).
"""

from __future__ import annotations

import configparser
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import Engine, create_engine, text

from benchmarks.measure import Measure
from demo.airflow_instance import AirflowInstance
from demo.processes import wait_until

DAG_ID = "resume-race"
TRIVIAL_ID = "resume-race-trivial"
MOST_SECONDS = 10.0
RUN_SECONDS = 1800.0
DEADLINE_SECONDS = 60.0
SOURCE = f"""
from datetime import timedelta
import time
from airflow.sdk import DAG, BaseOperator, task
from airflow.sdk.exceptions import TaskAwaitingInput
from airflow_allma.common.wait_keys import WaitRow, event_key, wait_key, wait_token


class Wait(BaseOperator):
    template_fields = ("number",)

    def __init__(self, number=None, **settings):
        super().__init__(**settings)
        self.number = number

    def execute(self, context):
        key = f"{{context['run_id']}}:{{self.number}}"
        until = context["dag_run"].conf["until"] or time.time() + 3600
        token, now = wait_token(key), time.time()
        if context["ti"].try_number > 1 and (event := context["task_state_store"].get(event_key(token))):
            return event["payload"]["number"]
        row = WaitRow(key=key, step="wait", since=now, until=until, item=self.number)
        context["ti"].xcom_push(wait_key(token), row.to_json())
        raise TaskAwaitingInput(
            method_name="resume", timeout=timedelta(seconds=max(1, until - now)), kwargs={{"token": token}}
        )

    def resume(self, context, event, token):
        if "error" in event:
            return event["error_type"]
        return context["task_state_store"].get(event_key(token))["payload"]["number"]


with DAG("{DAG_ID}", schedule=None, max_active_tasks=1000):
    @task
    def numbers(dag_run=None):
        return list(range(dag_run.conf["waits"]))

    # Without a priority, the waits would queue behind the trivial runs.
    retried = {{"retries": RETRIES, "retry_delay": timedelta(0)}}
    Wait.partial(task_id="wait", priority_weight=1000, **retried).expand(number=numbers())

with DAG("{TRIVIAL_ID}", schedule=None, max_active_runs=16):
    @task
    def one():
        return 1

    one()
"""
RAW_WAKER = f"""
import sys, time
from airflow._shared.timezones import timezone
from airflow.models.taskinstance import TaskInstance as TI
from airflow.models.trigger import handle_event_submit
from airflow.triggers.base import TriggerEvent
from airflow.utils.session import create_session
from sqlalchemy import select

waits = int(sys.argv[1])
while True:
    with create_session() as session:
        for ti in session.scalars(select(TI).where(TI.dag_id == "{DAG_ID}", TI.state == "awaiting_input")):
            if (timezone.utcnow() - ti.updated_at).total_seconds() >= {MOST_SECONDS} * ti.map_index / waits:
                event = TriggerEvent({{"error": "", "error_type": ti.map_index}})
                handle_event_submit(event, task_instance=ti, session=session)
    time.sleep(0.02)
"""


def run(
    waits: int = 200,
    *,
    busy: bool = False,
    restarts: bool = False,
    raw: bool = False,
    timeouts: bool = False,
) -> dict[str, Measure]:
    with tempfile.TemporaryDirectory(prefix="allma-bench-") as folder:
        root = Path(folder)
        dags = root / "dags"
        dags.mkdir()
        source = SOURCE.replace("RETRIES", "2" if restarts else "0")
        (dags / "race.py").write_text(source, encoding="utf-8")
        config = {"dag_processor": {"min_file_process_interval": "600"}}
        with AirflowInstance(root / "airflow", [dags], database="postgresql", config=config) as instance:
            instance.client.wait_for_dag(DAG_ID, timeout=120)
            with _busy_scheduler(instance, active=busy) as made, _raw_waker(instance, waits, active=raw):
                race = Race(instance, waits)
                if timeouts:
                    race.wait_for_deadlines()
                else:
                    race.run(restarts=restarts, send=not raw)
            return race.measures() | {"trivial_runs": Measure(len(made), "runs")}


@dataclass
class Race:
    """One run of the Dag, whose waits are resumed."""

    instance: AirflowInstance
    waits: int
    seconds: float = MOST_SECONDS
    parked: dict[int, float] = field(default_factory=dict)
    left: dict[int, float] = field(default_factory=dict)
    """By map index, when the database said that the task waits, and that it does not any more."""
    sent: dict[int, float] = field(default_factory=dict)
    answers: list[int] = field(default_factory=list)
    states: dict[int, str | None] = field(default_factory=dict)
    values: dict[int, Any] = field(default_factory=dict)
    until: float = 0.0
    too_soon: int = 0

    def run(self, *, restarts: bool = False, send: bool = True) -> None:
        """Resume each wait after its own time, and wait for the end of the run."""
        run_id = self._trigger()
        with ThreadPoolExecutor(16) as senders, _engine(self.instance) as engine:
            restarted = not restarts
            while not self._has_ended(run_id):
                self._look(engine, run_id)
                for number, since in self.parked.items():
                    due = since + self.seconds * number / self.waits
                    if send and number not in self.sent and time.time() >= due:
                        self.sent[number] = time.time()
                        senders.submit(self._send, run_id, number)
                if not restarted and len(self.sent) > self.waits / 2:
                    restarted = True
                    threading.Thread(target=restart, args=[self.instance]).start()
                time.sleep(0.05)
            self._count_mismatches(engine)
        self._read_results(run_id)

    def wait_for_deadlines(self) -> None:
        """Let all deadlines pass at once."""
        self.until = time.time() + DEADLINE_SECONDS + self.waits
        run_id = self._trigger()
        with _engine(self.instance) as engine:
            while not self._has_ended(run_id):
                self._look(engine, run_id)
                time.sleep(0.1)
        self._read_results(run_id)

    def _trigger(self) -> str:
        return self.instance.client.trigger(DAG_ID, {"waits": self.waits, "until": self.until})

    def _has_ended(self, run_id: str) -> bool:
        if len(self.left) < self.waits:
            return False
        return self.instance.client.wait_for_run(DAG_ID, run_id, timeout=RUN_SECONDS) is not None

    def _look(self, engine: Engine, run_id: str) -> None:
        query = text(
            "select map_index, state from task_instance"
            " where dag_id = :dag and run_id = :run and task_id = 'wait' and map_index >= 0"
        )
        with engine.connect() as connection:
            rows = connection.execute(query, {"dag": DAG_ID, "run": run_id}).all()
        for number, state in rows:
            if state == "awaiting_input":
                self.parked.setdefault(number, time.time())
            elif number in self.parked or state in {"success", "failed"}:
                self.left.setdefault(number, time.time())

    def _count_mismatches(self, engine: Engine) -> None:
        query = text(
            "select count(*) from log where event = 'state mismatch'"
            " and extra like '%finished with state success%' and dag_id = :dag"
        )
        with engine.connect() as connection:
            self.too_soon = int(connection.execute(query, {"dag": DAG_ID}).scalar_one())

    def _send(self, run_id: str, number: int) -> None:
        body = {"correlationValue": f"{run_id}:{number}", "payload": {"number": number}}
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                answer = self._post(body)
            except (httpx.TransportError, httpx.HTTPStatusError):
                time.sleep(0.5)
                continue
            if answer < 500:
                self.answers.append(answer)
                return
            time.sleep(0.5)

    def _post(self, body: dict[str, Any]) -> int:
        base = self.instance.base_url
        sign_in = {"username": self.instance.user, "password": self.instance.password}
        with httpx.Client(base_url=base, timeout=60, trust_env=False) as client:
            token = client.post("/auth/token", json=sign_in).raise_for_status().json()["access_token"]
            headers = {"Authorization": f"Bearer {token}"}
            return client.post("/allma/resume", json=body, headers=headers).status_code

    def _read_results(self, run_id: str) -> None:
        client = self.instance.client
        for one in client.task_instances(DAG_ID, run_id):
            if one.task_id == "wait":
                self.states[one.map_index] = one.state
                if one.state == "success":
                    self.values[one.map_index] = client.xcom(DAG_ID, run_id, "wait", one.map_index)

    @property
    def ended_well(self) -> int:
        """How many waits succeeded with the payload of their own event, or with their timeout."""
        return sum(value in {number, "timeout"} for number, value in self.values.items())

    def measures(self) -> dict[str, Measure]:
        begun = self.sent or dict.fromkeys(self.left, self.until)
        delays = sorted(self.left[number] - when for number, when in begun.items())
        measures = {
            "ended_well": Measure(self.ended_well, "waits", self.waits),
            "resumed_too_soon": Measure(self.too_soon, "tasks"),
            "failed": Measure(sum(state != "success" for state in self.states.values()), "waits"),
        }
        if self.sent or self.until:
            measures |= {
                "median_delay": Measure(delays[len(delays) // 2], "s"),
                "longest_delay": Measure(delays[-1], "s"),
            }
        if self.sent:
            measures["delivered"] = Measure(self.answers.count(202), "answers 202")
            measures["delivered_before"] = Measure(self.answers.count(409), "answers 409")
        return measures


def restart(instance: AirflowInstance) -> None:
    """Kill the scheduler and start it again, then stop and start the API server."""
    by_name = {process.name: process for process in instance.processes}
    by_name["scheduler"].kill()
    by_name["scheduler"].start()
    time.sleep(5)
    by_name["api-server"].stop()
    by_name["api-server"].start()
    wait_until(lambda: instance.client.health() is not None, what="the API server", timeout=120)


@contextmanager
def _engine(instance: AirflowInstance) -> Iterator[Engine]:
    config = configparser.RawConfigParser()
    config.read(instance.home / "airflow.cfg", encoding="utf-8")
    engine = create_engine(config["database"]["sql_alchemy_conn"].replace("%%", "%"))
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def _busy_scheduler(instance: AirflowInstance, *, active: bool) -> Iterator[list[str]]:
    made: list[str] = []
    with _repeated(lambda: made.append(instance.client.trigger(TRIVIAL_ID)), 0.2, active=active):
        yield made


@contextmanager
def _repeated(call: Callable[[], object], pause: float, *, active: bool) -> Iterator[None]:
    stopped = threading.Event()

    def repeat() -> None:
        while not stopped.wait(pause):
            try:
                call()
            except Exception as error:  # noqa: BLE001 - the API server may be down
                print(error)

    thread = threading.Thread(target=repeat)
    if active:
        thread.start()
    try:
        yield
    finally:
        stopped.set()
        if active:
            thread.join()


@contextmanager
def _raw_waker(instance: AirflowInstance, waits: int, *, active: bool) -> Iterator[None]:
    command = [sys.executable, "-c", RAW_WAKER, str(waits)]
    process = subprocess.Popen(command, env=instance.environment) if active else None
    try:
        yield
    finally:
        if process is not None:
            process.kill()
            process.wait()
