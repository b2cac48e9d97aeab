"""The plugin and the provider that Airflow finds through entry points."""

from __future__ import annotations

import configparser
import importlib
import json
import logging
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import airflow
import jsonschema
import pytest

from airflow_allma import operators
from airflow_allma.configuration import load_settings
from airflow_allma.flow import AirflowOptions
from airflow_allma.operators.airflow_services import build_services
from airflow_allma.plugin import AllmaPlugin
from airflow_allma.provider import get_provider_info
from airflow_allma.settings import OPTIONS
from demo.processes import clean_environment

pytestmark = pytest.mark.airflow


def test_the_entry_points_refer_to_this_package():
    (provider,) = (
        one for one in entry_points(group="apache_airflow_provider") if one.module == "airflow_allma.provider"
    )
    assert provider.load() is get_provider_info
    (plugin,) = (one for one in entry_points(group="airflow.plugins") if one.name == "allma")
    assert plugin.load() is AllmaPlugin


def test_the_providers_metadata_fits_airflows_schema():
    schema = json.loads(Path(airflow.__file__).with_name("provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


def test_every_module_of_the_providers_metadata_exists():
    info = get_provider_info()
    integrations = {one["integration-name"] for one in info["integrations"]}
    for operators_of_integration in info["operators"]:
        assert operators_of_integration["integration-name"] in integrations
        for name in operators_of_integration["python-modules"]:
            assert importlib.import_module(name).S3ManifestOperator is operators.S3ManifestOperator


@pytest.mark.parametrize("lazy", ["True", "False"])
def test_airflow_loads_the_plugin_once_and_without_an_import_error(tmp_path, lazy):
    code = (
        "from airflow import plugins_manager as manager;"
        "plugins, errors = manager._get_plugins();"
        "print([plugin.name for plugin in plugins], errors)"
    )
    own = {"AIRFLOW_HOME": str(tmp_path), "AIRFLOW__CORE__LAZY_DISCOVER_PROVIDERS": lazy}
    printed = subprocess.run(
        [sys.executable, "-c", code],
        env=clean_environment(own),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    names, _, errors = printed.splitlines()[-1].partition("] ")
    assert (names.count("'allma'"), errors) == (1, "{}")


def test_every_setting_is_listed_with_its_default():
    listed = get_provider_info()["config"]["allma"]["options"]
    assert {name: option["default"] for name, option in listed.items()} == {
        name: option.default for name, option in OPTIONS.items()
    }


def test_airflows_own_command_lists_every_setting_with_its_value(tmp_path):
    listed = subprocess.run(
        [sys.executable, "-m", "airflow", "config", "list", "--section", "allma", "--show-values"],
        env=clean_environment({"AIRFLOW_HOME": str(tmp_path), "AIRFLOW__ALLMA__MAX_CHUNKS": "9"}),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    section = configparser.RawConfigParser()
    section.read_string(listed)
    defaults = {name: option.default for name, option in OPTIONS.items()}
    assert dict(section["allma"]) == defaults | {"max_chunks": "9"}
    assert {
        "max_in_memory_items": "300",
        "max_in_memory_bytes": str(1 << 20),
        "max_waiting_tasks": "20",
        "chunk_bytes": str(1 << 20),
        "max_chunks": "200",
        "chunk_concurrency": "64",
        "offload_location": "",
        "aws_conn_id": "aws_default",
    }.items() <= defaults.items()


def test_settings_come_from_the_section_and_the_flow_wins(monkeypatch):
    monkeypatch.setenv("AIRFLOW__ALLMA__MAX_CHUNKS", "9")
    monkeypatch.setenv("AIRFLOW__ALLMA__AWS_CONN_ID", "mine")
    settings = load_settings(AirflowOptions(aws_conn_id="flows"))
    assert (settings.max_chunks, settings.aws_conn_id, settings.max_in_memory_items) == (9, "flows", 300)


def test_airflows_own_limit_on_mapped_lists_is_never_exceeded(monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__MAX_MAP_LENGTH", "50")
    settings = load_settings(AirflowOptions(max_in_memory_items=1000, max_chunks=1000))
    assert (settings.max_in_memory_items, settings.max_chunks) == (50, 50)


@pytest.mark.parametrize("name", ["custom_module_prefixes", "customModulePrefixes"])
def test_a_flow_cannot_extend_the_modules_that_it_may_use(name):
    with pytest.raises(ValueError, match=name):
        AirflowOptions.model_validate({name: "os"})


@pytest.mark.parametrize(
    ("text", "prefixes"), [("", ()), ("shop", ("shop",)), (" shop.a ,b,, ", ("shop.a", "b")), (",", ())]
)
def test_flows_may_use_functions_of_the_modules_that_the_setting_lists(monkeypatch, text, prefixes):
    monkeypatch.setenv("AIRFLOW__ALLMA__CUSTOM_MODULE_PREFIXES", text)
    services = build_services(load_settings(), logging.getLogger("x"))
    assert services.settings.custom_module_prefixes == prefixes


def test_public_operators_are_those_that_are_named():
    for name in operators.__all__:
        assert getattr(operators, name).__name__ == name
    with pytest.raises(AttributeError):
        _ = operators.Nothing
