"""The demo's servers, data, result checks and shutdown. Its flows run in other tests."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import psutil
import pytest

from demo.airflow_client import AirflowClient, TaskInstance
from demo.data import BUCKET, TABLE, TENANT, create_bucket, create_users, user_record
from demo.processes import ServerError, wait_until
from demo.servers import LocalServer, aws_client, aws_server, shop_server
from demo.stages import Stages
from demo.walkthrough import (
    PRODUCTS,
    USERS,
    WalkthroughError,
    WalkthroughResult,
    check_products,
    check_users,
    print_result,
    run_walkthrough,
)

USER_COUNT = 60


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    with shop_server(tmp_path_factory.mktemp("shop"), USER_COUNT) as server:
        yield server


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    with aws_server(tmp_path_factory.mktemp("aws")) as server:
        create_bucket(server.url)
        create_users(server.url, USER_COUNT)
        yield server


def _get(url: str) -> tuple[int, dict]:
    try:
        with urlopen(url, timeout=10) as answer:
            return answer.status, json.load(answer)
    except HTTPError as error:
        return error.code, json.load(error)


def test_the_shop_knows_its_products_and_users(shop: LocalServer):
    status, product = _get(f"{shop.url}/products/101")
    assert status == 200
    assert {"productName", "price"} <= product.keys()
    status, user = _get(f"{shop.url}/users/u-00001?region=us")
    assert status == 200
    assert user["region"] == "us"
    assert user["plan"] in {"free", "team", "business"}


@pytest.mark.parametrize(
    "path",
    ["products/100", "products/abc", "products/%D9%A1%D9%A0%D9%A1", f"users/u-{USER_COUNT:05d}", "users/u-1"],
)
def test_an_unknown_id_is_a_404_with_a_json_error(shop: LocalServer, path: str):
    status, answer = _get(f"{shop.url}/{path}")
    assert status == 404
    assert answer["error"]["code"] == "NOT_FOUND"


def test_the_table_has_every_user_of_the_tenant_in_order(aws: LocalServer):
    answer = aws_client("dynamodb", aws.url).query(
        TableName=TABLE,
        KeyConditionExpression="tenant = :tenant",
        ExpressionAttributeValues={":tenant": {"S": TENANT}},
    )
    found = [{name: value["S"] for name, value in item.items()} for item in answer["Items"]]
    assert found == [user_record(number) for number in range(USER_COUNT)]


def test_a_server_that_cannot_start_is_reported_with_its_log(tmp_path: Path):
    server = LocalServer("broken", "demo.no_such_module", [], home=tmp_path, ready="/")
    with pytest.raises(ServerError, match=r"(?s)broken exited before it was ready.*no_such_module"):
        server.start()
    assert not server.process.running


class FakeAirflow(AirflowClient):
    """A client of an Airflow in which every run is over immediately."""

    def __init__(self, state: str, tasks: list[TaskInstance], xcoms: dict[str, object]) -> None:
        self.state = state
        self.tasks_of_run = tasks
        self.xcoms = xcoms
        self.triggered: list[tuple[str, dict]] = []

    def wait_for_dag(self, dag_id, **_):
        return {"dag_id": dag_id}

    def trigger(self, dag_id, conf=None, run_id=None):
        self.triggered.append((dag_id, conf))
        return "run-1"

    def wait_for_run(self, dag_id, run_id, timeout=120.0):
        return self.state

    def task_instances(self, dag_id, run_id):
        return self.tasks_of_run

    def xcom(self, dag_id, run_id, task_id, map_index=-1, key="return_value"):
        return self.xcoms[task_id]

    def logs(self, dag_id, run_id, task_id, map_index=-1, try_number=None):
        return f"the log of {task_id}"


def _task(
    task_id: str, map_index: int = -1, state: str = "success", label: str | None = None
) -> TaskInstance:
    return TaskInstance(task_id, map_index, state, 1, label, task_id, None, None, {})


def _products(ids: list[int]) -> FakeAirflow:
    aggregate = f"{PRODUCTS.fork}.aggregate"
    items = [{"id": product_id} for product_id in ids]
    return FakeAirflow("success", [_task(aggregate)], {aggregate: {"aggregatedData": items}})


def test_a_walkthrough_passes_the_payload_and_the_address_of_the_api():
    airflow = _products([101, 102, 103])
    check_products(run_walkthrough(airflow, PRODUCTS, "http://api", "http://aws"))
    conf = {**PRODUCTS.payload, "flow_variables": {"apiBaseUrl": "http://api"}}
    assert airflow.triggered == [("product-details", conf)]


@pytest.mark.parametrize("ids", [[102, 101, 103], [101, 102], []])
def test_a_result_that_is_not_the_input_in_order_fails_the_demo(ids: list[int]):
    with pytest.raises(WalkthroughError, match="not the payload's products in their order"):
        check_products(run_walkthrough(_products(ids), PRODUCTS, "http://api", "http://aws"))


def test_a_failed_run_is_reported_with_the_logs_of_its_failed_tasks():
    airflow = FakeAirflow("failed", [_task("a"), _task("b", state="failed")], {})
    with pytest.raises(WalkthroughError, match="the log of b") as raised:
        run_walkthrough(airflow, PRODUCTS, "http://api", "http://aws")
    assert "the log of a" not in str(raised.value)


@pytest.mark.parametrize("offloaded", [False, True])
def test_users_are_compared_with_the_manifest_also_if_the_result_is_offloaded(
    aws: LocalServer, offloaded: bool
):
    s3 = aws_client("s3", aws.url)
    users = [{"userId": user_record(number)["userId"]} for number in range(USER_COUNT)]
    lines = "\n".join(json.dumps(user) for user in users)
    for key in ("manifest.jsonl", "result.jsonl"):
        s3.put_object(Bucket=BUCKET, Key=key, Body=lines.encode())
    pointer = {"_s3_output_pointer": {"bucket": BUCKET, "key": "result.jsonl"}}
    airflow = FakeAirflow(
        "success",
        [_task(f"{USERS.fork}.aggregate")],
        {
            f"{USERS.fork}.aggregate": {"aggregatedData": pointer if offloaded else users},
            "generate_manifest": {
                "manifest": {"_s3_output_pointer": {"bucket": BUCKET, "key": "manifest.jsonl"}}
            },
        },
    )

    result = run_walkthrough(airflow, USERS, "http://api", aws.url)

    check_users(airflow, result, aws.url, USER_COUNT)
    with pytest.raises(WalkthroughError, match="has 60 lines, not 61"):
        check_users(airflow, result, aws.url, USER_COUNT + 1)


def test_a_result_is_printed_with_its_first_and_last_items_and_links_to_its_runs(
    capsys: pytest.CaptureFixture[str],
):
    tasks = [_task("fork.branch.get", index, label=str(101 + index)) for index in range(9)]
    result = WalkthroughResult(PRODUCTS, "run-1", tasks, [{"id": number} for number in range(9)])

    print_result(Stages(), result, "http://ui")

    printed = capsys.readouterr().out
    assert "9 items" in printed
    assert '{"id": 0}' in printed
    assert '{"id": 8}' in printed
    assert '{"id": 4}' not in printed
    assert "9 runs of fork.branch.get: 101, 102, 103, 104, ..." in printed
    assert "http://ui/dags/product-details/runs/run-1/tasks/fork.branch.get/mapped" in printed


def _reapers_of(pid: int) -> list[list[str]]:
    lines = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    return [line for line in lines if str(pid) in line and any(part.endswith("reaper.py") for part in line)]


@pytest.mark.scheduler
def test_a_terminated_demo_stops_all_of_its_processes(tmp_path: Path, repository: Path):
    out = tmp_path / "out"
    with out.open("w") as stream:
        demo = subprocess.Popen(
            [sys.executable, "-m", "demo", "--home", tmp_path / "home", "--users", "25"],
            cwd=repository,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    log = tmp_path / "home" / "airflow" / "logs" / "standalone.log"
    wait_until(lambda: log.exists() or demo.poll() is not None, what="the demo's Airflow", timeout=120)
    assert len(_reapers_of(demo.pid)) >= 3

    demo.send_signal(signal.SIGTERM)

    assert demo.wait(60) == 1
    assert "everything is stopped" in out.read_text()
    assert _reapers_of(demo.pid) == []
