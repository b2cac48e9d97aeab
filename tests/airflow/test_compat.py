"""What happens without a private name of Airflow: a worse answer and one warning, never a dead task."""

from __future__ import annotations

import builtins
import importlib
import importlib.util
import json
import logging
import sys
import types
from pathlib import Path

import pytest

from airflow_allma import compat
from airflow_allma.compat import (
    ignore_rule,
    instance_key,
    is_task_process,
    note_label,
    redact_connections,
    task_states,
)
from airflow_allma.compat.missing_names import warn_once
from airflow_allma.dag_factory import load_flows
from airflow_allma.dag_factory.airflowignore import AirflowIgnoreFiles
from tests.airflow.flows import branch, compose, flow, fork, route

pytestmark = pytest.mark.airflow

FILE_DISCOVERY = "airflow._shared.module_loading.file_discovery"
TASK_RUNNER = "airflow.sdk.execution_time.task_runner"
SECRETS_MASKER = "airflow.sdk._shared.secrets_masker"


@pytest.fixture(autouse=True)
def warnings(caplog):
    """Messages of warnings that the compatibility module logged."""
    warn_once.cache_clear()
    caplog.set_level(logging.WARNING, "airflow_allma.compat")
    yield lambda: [one.getMessage() for one in caplog.records if one.name == "airflow_allma.compat"]
    warn_once.cache_clear()


def delete(monkeypatch, module, name):
    """Hide a name, or (with None) its whole module, from our imports; Airflow itself needs it."""
    real_import = builtins.__import__

    def hiding_import(imported, globals=None, locals=None, fromlist=(), level=0):  # noqa: A002 - as Python's
        is_ours = globals is not None and globals.get("__name__", "").startswith(compat.__name__)
        if is_ours and imported == module and (name is None or name in (fromlist or ())):
            raise ImportError(f"{module} has no {name}")
        return real_import(imported, globals, locals, fromlist, level)

    monkeypatch.setattr(builtins, "__import__", hiding_import)


STEPS = {
    "start": route(("$.initialContextData.by == 'left'", "left"), to="right"),
    "left": compose(to="spread"),
    "right": compose(to="spread"),
    "spread": fork(branch("work"), to="choose"),
    "work": compose({"id": "$.currentItem.id"}, to="then"),
    "then": compose({"id": "$.steps_output.work.id"}),
    "choose": route(("$.initialContextData.again == true", "other"), to="end"),
    "other": fork(branch("work"), to="end"),
    "end": compose({"ids": "$.steps_output.spread.aggregatedData"}),
}


def put_flows(folder, name):
    (folder / "ignored").mkdir()
    (folder / ".airflowignore").write_text("ignored/\n")
    # A flow with a schema is serialized when it is loaded.
    airflow = {"inputSchema": {"type": "object"}}
    (folder / f"{name}.json").write_text(json.dumps(flow(name, STEPS, airflow=airflow)))
    (folder / "ignored" / "other.json").write_text(json.dumps(flow("other", STEPS)))


NAMES = [
    (SECRETS_MASKER, "redact", "secrets_masker.redact"),
    (FILE_DISCOVERY, "_GlobIgnoreRule", "_GlobIgnoreRule"),
    (FILE_DISCOVERY, None, "_GlobIgnoreRule"),
    ("airflow.settings", "get_policy_plugin_manager", "get_policy_plugin_manager"),
    ("airflow.settings", "task_policy", "task_policy"),
    ("airflow.exceptions", "AirflowClusterPolicySkipDag", "AirflowClusterPolicySkipDag"),
    ("airflow.serialization.serialized_objects", "DagSerialization", "DagSerialization"),
    (TASK_RUNNER, "get_task_states", "get_task_states"),
    ("airflow.sdk.execution_time.comms", "GetXComCount", "GetXComCount"),
]


@pytest.mark.parametrize("missing", NAMES)
def test_without_a_private_name_flows_load_and_tasks_and_forks_run(
    tmp_path, monkeypatch, run_dag, warnings, missing
):
    module, name, expected = missing
    flow_id = f"compat-{NAMES.index(missing)}"
    put_flows(tmp_path, flow_id)
    if module == TASK_RUNNER:
        monkeypatch.delattr(importlib.import_module(module).RuntimeTaskInstance, name)
    else:
        delete(monkeypatch, module, name)
    dags = load_flows(tmp_path)
    assert list(dags) == [flow_id]
    result = run_dag(dags[flow_id], {"by": "left", "items": [{"id": 1}, {"id": 2}]})
    assert result.state == "success"
    assert result.xcom("end") == {"ids": [{"id": 1}, {"id": 2}]}
    assert {one: result.task(one).state for one in ("left", "right", "other.aggregate")} == {
        "left": "success",
        "right": "skipped",
        "other.aggregate": "skipped",
    }
    assert [expected in one for one in warnings()] == [True]


def test_nothing_is_missing_in_this_airflow(tmp_path, run_dag, warnings):
    put_flows(tmp_path, "compat-all")
    result = run_dag(load_flows(tmp_path)["compat-all"], {"items": [{"id": 1}]})
    assert result.state == "success"
    assert not is_task_process()
    assert warnings() == []


# .airflowignore

PATTERNS = {
    "glob": (
        "skipped/\n*.tmp.json\n/top.json\nteam/*/old.json  # a comment\n\n   \n/\n"
        "!keep.tmp.json\n**/deep.json\n"
    ),
    "regexp": "skipped\ntmp\\.json$\n(\nteam/[^/]+/old  # a comment\n",
}
FILES = [
    "a.json",
    "a.tmp.json",
    "keep.tmp.json",
    "top.json",
    "skipped/a.json",
    "below/top.json",
    "below/skipped/a.json",
    "below/skipped.json",
    "team/one/old.json",
    "team/one/new.json",
    "x/y/deep.json",
]


@pytest.mark.parametrize("syntax", PATTERNS)
@pytest.mark.parametrize("inner", ["", "!top.json\nnew.json\n"])
def test_own_rules_of_airflowignore_leave_out_what_airflows_do(tmp_path, monkeypatch, syntax, inner):
    from airflow_allma.flow import find_files

    if syntax == "regexp" and inner:
        inner = "new\n"
    for file in FILES:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("{}")
    (tmp_path / ".airflowignore").write_text(PATTERNS[syntax])
    (tmp_path / "below/.airflowignore").write_text(inner)
    (tmp_path / "team/.airflowignore").write_text(inner)
    monkeypatch.setenv("AIRFLOW__CORE__DAG_IGNORE_FILE_SYNTAX", syntax)

    def found():
        return [Path(one.path).name for one in find_files(tmp_path, AirflowIgnoreFiles(tmp_path)).files]

    airflows = found()
    assert 0 < len(airflows) < len(FILES)
    delete(monkeypatch, FILE_DISCOVERY, None)
    assert ignore_rule(syntax).__module__.startswith(compat.__name__)
    assert found() == airflows


# the process of a task


@pytest.mark.parametrize(
    ("attributes", "expected", "warned"),
    [
        ({"SUPERVISOR_COMMS": object()}, True, False),
        ({"__annotations__": {"SUPERVISOR_COMMS": object}}, False, False),
        ({}, True, True),
    ],
)
def test_a_task_process_is_known_by_what_its_runner_has(monkeypatch, warnings, attributes, expected, warned):
    runner = types.ModuleType(TASK_RUNNER)
    runner.__dict__.update(attributes)
    monkeypatch.setitem(sys.modules, TASK_RUNNER, runner)
    assert is_task_process() is expected
    assert any("SUPERVISOR_COMMS" in one for one in warnings()) is warned


def test_without_a_task_runner_the_plugin_warms_nothing_up(monkeypatch, warnings):
    from airflow_allma import plugin

    monkeypatch.delitem(sys.modules, TASK_RUNNER, raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(plugin, "_warm_up", lambda: pytest.fail("warmed up"))
    plugin.AllmaPlugin.on_load()
    plugin.AllmaPlugin.on_load()
    assert ["SUPERVISOR_COMMS" in one for one in warnings()] == [True]


# states


class Instance:
    """A running task instance that only counts."""

    dag_id, run_id = "dag", "run"
    states = {("a_1", -1): "skipped", ("a", 1): "failed", ("a", 2): "success", ("b", -1): "running"}  # noqa: RUF012

    def get_ti_count(self, *, dag_id, task_ids, run_ids, map_index, states):
        assert (dag_id, run_ids) == ("dag", ["run"])
        return sum(self.states.get((task, map_index)) == state for task in task_ids for state in states)


def test_states_that_cannot_be_listed_are_counted(warnings):
    states = task_states(Instance(), ["a", "a_1", "b"])
    keys = [instance_key("a_1"), instance_key("a", 2), instance_key("b")]
    assert [states.get(key) for key in (*keys, instance_key("a", 3))] == ["skipped", "success", None, None]
    assert ["get_task_states" in one for one in warnings()] == [True]


def test_states_that_cannot_be_counted_either_count_as_success(warnings):
    states = task_states(types.SimpleNamespace(dag_id="d", run_id="r"), ["a"])
    assert states.get("a") == states.get(instance_key("a", 7)) == "success"
    assert ["before a clear" in one for one in warnings()] == [True]


# secrets


def test_secrets_of_connections_are_masked_where_airflow_can(monkeypatch):
    from airflow.sdk.log import mask_secret

    mask_secret("a-secret-of-this-test")
    assert redact_connections({"say": "a-secret-of-this-test"}) == {"say": "***"}
    delete(monkeypatch, SECRETS_MASKER, "redact")
    assert redact_connections({"say": "a-secret-of-this-test"}) == {"say": "a-secret-of-this-test"}


# Labels


def test_without_rendered_map_index_labels_are_sent_in_requests_of_their_own(warnings):
    class Instance:
        __slots__ = ()

    note_label(Instance(), "item 7")
    assert ["rendered_map_index" in one for one in warnings()] == [True]


# runs of other Dags

COMMS = "airflow.sdk.execution_time.comms"


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("TriggerDagRun", lambda: compat.start_dag_run("d", "r", {})),
        ("GetDagRunState", lambda: compat.other_run_state("d", "r")),
    ],
)
def test_without_its_messages_no_run_can_be_started_or_waited_for(monkeypatch, name, call):
    delete(monkeypatch, COMMS, name)
    with pytest.raises(compat.RunRefusedError, match=f"has no {name}") as caught:
        call()
    assert caught.value.reason == "missing"


def test_without_its_message_no_dag_counts_as_paused(monkeypatch, warnings):
    delete(monkeypatch, COMMS, "GetDag")
    assert compat.dag_is_paused("d") is False
    assert ["GetDag" in one for one in warnings()] == [True]


def test_without_its_message_nothing_is_known_about_the_tasks_of_a_run(monkeypatch, warnings):
    delete(monkeypatch, COMMS, "GetTaskBreadcrumbs")
    assert compat.ended_tasks("d", "r") == ()
    assert ["GetTaskBreadcrumbs" in one for one in warnings()] == [True]


@pytest.mark.parametrize(
    ("kind", "expected"), [("operator_triggered", True), ("manual", False), (None, False)]
)
def test_only_a_run_that_a_task_has_started_counts_as_one(kind, expected):
    assert compat.is_operator_triggered(types.SimpleNamespace(run_type=kind)) is expected
