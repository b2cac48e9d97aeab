"""Flows whose steps wait for runs of their own, on a running Airflow."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import quote

from demo.airflow_client import AirflowClient
from tests.airflow.flows import Json, branch, compose, flow, fork


def own_run_flows(name: str, seconds: float = 1.0) -> list[Json]:
    """Return a flow, and one that runs it in runs of its own: on the main path, and for each item.

    Args:
        name: begins the ids.
        seconds: how long the inner flow takes.
    """
    child = f"{name}-child"
    inner = compose(
        {"n": "$.n"}, outputMappings={"$.out": "$.n"}, delay={"milliseconds": int(seconds * 1000)}
    )
    run_child: Json = {
        "stepType": "START_SUB_FLOW",
        "subFlowDefinitionId": child,
        "airflow": {"ownRun": True},
    }
    steps = {
        "one": {**run_child, "inputMappingsToSubFlow": {"n": "$.n"}, "defaultNextStepInstanceId": "each"},
        "each": fork(branch("b"), items="$.items", to="start", dataPath="$.out"),
        "item": {**run_child, "inputMappingsToSubFlow": {"n": "$.currentItem"}},
        "start": {
            "stepType": "START_FLOW_EXECUTION",
            "moduleIdentifier": "system/start-flow-execution",
            "flowDefinitionId": child,
            "inputMappings": {"n": "$.n"},
            "defaultNextStepInstanceId": "end",
        },
        "end": compose({"one": "$.steps_output.one.out", "each": "$.steps_output.each.aggregatedData"}),
    }
    steps["each"]["parallelBranches"][0]["stepInstanceId"] = "item"
    return [flow(child, {"c": inner}), flow(f"{name}-parent", steps)]


class OwnRuns:
    """Runs of the outer flow, all triggered at once.

    Args:
        client: the API of the running Airflow.
        name: as for ``own_run_flows``.
        count: how many runs.
        items: how many items each has.
    """

    def __init__(self, client: AirflowClient, name: str, count: int, items: int) -> None:
        self.client, self.parent, self.child = client, f"{name}-parent", f"{name}-child"
        self._items = items
        self._began = time.monotonic()
        self.run_ids = [
            client.trigger(self.parent, {"n": number, "items": list(range(items))}) for number in range(count)
        ]

    def wait(self, timeout: float) -> float:
        """Wait until all runs have succeeded, also those that nothing waits for; return the seconds."""
        for run_id in self.run_ids:
            assert self.client.wait_for_run(self.parent, run_id, timeout) == "success", run_id
        for run in self.children():
            assert self.client.wait_for_run(self.child, run["dag_run_id"], timeout) == "success"
        return time.monotonic() - self._began

    def children(self) -> list[dict[str, Any]]:
        """Return the runs of the inner flow."""
        return self.client.runs(self.child)

    def check(self) -> None:
        """Check results, links and notes."""
        assert len(self.children()) == len(self.run_ids) * (self._items + 2)
        for number, run_id in enumerate(self.run_ids):
            ended = self.client.xcom(self.parent, run_id, "end")
            assert ended == {"one": number, "each": list(range(self._items))}
            linked = [self.link(run_id, "one"), self.link(run_id, "start")]
            linked += [self.link(run_id, "each.b.item", index) for index in range(self._items)]
            found = {link.rpartition("/")[2] for link in linked}
            assert len(found) == self._items + 2
            for child in found:
                run = self.client.run(self.child, child)
                assert run["state"] == "success"
                assert run_id.replace(":", "%3A").replace("+", "%2B") in run["note"]

    def link(self, run_id: str, task_id: str, map_index: int = -1) -> str:
        """Return the address of the run that a task has started, as the UI gets it."""
        path = f"dags/{self.parent}/dagRuns/{quote(run_id)}/taskInstances/{task_id}/links"
        links = self.client.call("GET", path, map_index=map_index)["extra_links"]
        return str(links["Started run"])
