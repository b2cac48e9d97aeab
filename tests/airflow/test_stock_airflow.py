"""What a user has after `pip install` and `airflow-allma init`: flows run in a stock Airflow, on SQLite."""

from __future__ import annotations

import json

import pytest

from demo.data import create_bucket, create_users
from demo.servers import aws_connection, aws_server, shop_server
from demo.walkthrough import PRODUCTS, USERS, check_products, check_users, run_walkthrough
from tests.support.stock_airflow import WheelEnvironment, error_lines, stock_airflow, wait_for_dags
from tests.support.stock_forks import DAG_ID, FLOW, lock_lines, run_fork

pytestmark = pytest.mark.scheduler

USER_COUNT = 200


@pytest.fixture(scope="module")
def environment(tmp_path_factory, repository):
    return WheelEnvironment(tmp_path_factory.mktemp("stock"), repository)


def test_the_environment_has_the_wheel_and_not_the_sources(environment, tmp_path):
    code = (
        "import airflow_allma; from importlib.metadata import entry_points;"
        "print(airflow_allma.__file__, *(one.dist.locate_file('') for group in"
        " ('apache_airflow_provider', 'airflow.plugins') for one in entry_points(group=group)"
        " if one.module.startswith('airflow_allma.')))"
    )
    module, *distributions = environment.run("python", "-c", code, cwd=tmp_path).split()
    assert module.startswith(str(environment.bin.parent))
    assert len(distributions) == 2
    assert all(folder.startswith(str(environment.bin.parent)) for folder in distributions)


def test_flows_run_in_a_stock_airflow_without_an_error_in_any_log(environment, tmp_path):
    home = tmp_path / "airflow"
    environment.run("airflow-allma", "init", home / "dags", "--examples", cwd=tmp_path)
    (home / "dags" / "fork.json").write_text(json.dumps(FLOW))
    with (
        aws_server(tmp_path / "servers") as aws,
        shop_server(tmp_path / "servers", USER_COUNT) as shop,
    ):
        create_bucket(aws.url)
        create_users(aws.url, USER_COUNT)
        with stock_airflow(environment, home, {"aws_default": aws_connection(aws.url)}) as client:
            own = [PRODUCTS.dag_id, USERS.dag_id]
            wait_for_dags(client, [DAG_ID, *own, *(f"example-{dag_id}" for dag_id in own)])
            for dag_id in (DAG_ID, *own):
                client.call("PATCH", f"dags/{dag_id}", body={"is_paused": False})
            check_products(run_walkthrough(client, PRODUCTS, shop.url, aws.url))
            check_users(client, run_walkthrough(client, USERS, shop.url, aws.url), aws.url, USER_COUNT)
            # SQLite does not bear a task for each item and step, 16 at a time.
            assert client.dag_details(DAG_ID)["max_active_tasks"] == 4
            for items in (30, 300):
                run_fork(client, items)
            assert lock_lines(home) == []
            assert (home / "allma").is_dir()
            assert client.import_errors() == []
            assert error_lines(home) == []
