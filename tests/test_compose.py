"""Checks of docker-compose.yaml: its form, and names that Airflow knows. No container is started."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

AIRFLOW = {"api-server", "scheduler", "dag-processor", "triggerer", "worker", "airflow-init"}
SERVERS = {"postgres", "redis", "s3"}
ONE_SHOT = {"airflow-init"}
VARIABLE = re.compile(r"\$\{(\w+)(:-([^}]*))?\}")


@pytest.fixture(scope="module")
def compose(repository: Path) -> dict[str, Any]:
    return yaml.safe_load((repository / "docker-compose.yaml").read_text())


@pytest.fixture(scope="module")
def airflow_options() -> dict[str, set[str]]:
    from airflow.providers.celery.get_provider_info import get_provider_info

    from airflow_allma.settings import OPTIONS

    package = importlib.util.find_spec("airflow")
    assert package is not None
    assert package.origin is not None
    config = Path(package.origin).with_name("config_templates") / "config.yml"
    sections = yaml.safe_load(config.read_text()) | get_provider_info()["config"]
    known = {section: set(content["options"]) for section, content in sections.items()}
    return known | {"allma": set(OPTIONS)}


def with_defaults(value: str) -> str:
    """Return a value with the default of every variable, like Docker when none is set."""
    return VARIABLE.sub(lambda found: found[3] or "", value)


def test_the_services_are_those_of_a_distributed_airflow(compose):
    assert set(compose["services"]) == AIRFLOW | SERVERS


def test_every_long_running_service_has_a_health_check(compose):
    without = {
        name for name, service in compose["services"].items() if "test" not in service.get("healthcheck", {})
    }
    assert without == ONE_SHOT


@pytest.mark.parametrize("name", sorted(AIRFLOW))
def test_every_airflow_variable_is_an_option_that_airflow_knows(compose, airflow_options, name):
    variables = [key for key in compose["services"][name]["environment"] if key.startswith("AIRFLOW__")]
    assert variables
    for variable in variables:
        _, section, key = variable.lower().split("__", 2)
        assert key in airflow_options[section], variable


def test_every_image_has_a_version(compose):
    images = {service["image"] for service in compose["services"].values()} - {"airflow-allma:local"}
    assert len(images) == len(SERVERS)
    for image in images:
        assert re.search(r":\d+\.\d+", image), image


def test_all_airflow_services_share_image_and_settings(compose):
    services = [compose["services"][name] for name in sorted(AIRFLOW)]
    assert {service["image"] for service in services} == {"airflow-allma:local"}
    base = compose["x-airflow"]["environment"]
    assert all(base.items() <= service["environment"].items() for service in services)


def test_the_image_is_built_from_the_supported_airflow_with_this_project(compose, repository):
    build = compose["services"]["airflow-init"]["build"]
    assert (repository / build["context"]).resolve() == repository.resolve()
    assert "FROM apache/airflow:3.3.2\n" in build["dockerfile_inline"]
    assert "/opt/allma" in build["dockerfile_inline"]


def test_mounted_folders_are_in_the_project_and_named_volumes_are_declared(compose, repository):
    volumes = [volume for service in compose["services"].values() for volume in service.get("volumes", [])]
    sources = {volume.split(":")[0] for volume in volumes}
    folders = {source for source in sources if source.startswith(".")}
    assert folders
    assert [source for source in folders if not (repository / source).is_dir()] == []
    assert sources - folders == compose["volumes"].keys()


def test_services_wait_for_services_that_exist(compose):
    for name, service in compose["services"].items():
        dependencies = service.get("depends_on", {})
        assert bool(dependencies) == (name in AIRFLOW), name
        for other, how in dependencies.items():
            expected = "service_completed_successfully" if other in ONE_SHOT else "service_healthy"
            assert how["condition"] == expected
            assert other in compose["services"]


def test_the_executor_is_celery_over_redis_and_postgresql(compose):
    environment = compose["x-airflow"]["environment"]
    assert environment["AIRFLOW__CORE__EXECUTOR"] == "CeleryExecutor"
    assert environment["AIRFLOW__CELERY__BROKER_URL"].startswith("redis://redis:")
    assert "@postgres/" in with_defaults(environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"])


def test_there_are_two_workers_and_tasks_of_a_lost_worker_run_again(compose):
    assert compose["services"]["worker"]["deploy"] == {"replicas": 2}
    environment = compose["x-airflow"]["environment"]
    assert int(environment["AIRFLOW__CORE__DEFAULT_TASK_RETRIES"]) > 0
    detected_after = int(environment["AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT"])
    assert detected_after < int(environment["AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT"])


def test_workers_keep_no_data_of_flows_on_their_own_disk(compose):
    assert with_defaults(compose["x-airflow"]["environment"]["AIRFLOW__ALLMA__OFFLOAD_LOCATION"]).startswith(
        "s3://"
    )
    assert compose["services"]["worker"]["volumes"] == ["./dags:/opt/airflow/dags:ro"]


def test_the_aws_connection_is_json_that_points_to_the_s3_server(compose):
    connection = json.loads(with_defaults(compose["x-airflow"]["environment"]["AIRFLOW_CONN_AWS_DEFAULT"]))
    assert connection["conn_type"] == "aws"
    assert connection["extra"]["endpoint_url"] == "http://s3:5000"


def test_ports_are_published_on_the_loopback_address_only(compose):
    published = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_every_password_and_key_comes_from_a_variable(compose):
    secrets = {
        key: value
        for service in compose["services"].values()
        for key, value in service.get("environment", {}).items()
        if any(word in key for word in ("PASSWORD", "SECRET", "FERNET"))
    }
    assert secrets
    assert [key for key, value in secrets.items() if not VARIABLE.fullmatch(value)] == []
