"""Finished runs of flows on a real scheduler, and the API call step of such flows."""

from __future__ import annotations

from typing import Any

from demo.airflow_client import AirflowClient, TaskInstance
from tests.airflow.flows import Json
from tests.airflow.shop import Shop


def ask(shop: Shop, to: str | None = None, path: str = "/items/{{currentItem.id}}", **more: Any) -> Json:
    """Return a step that requests the item from the shop."""
    return {
        "stepType": "API_CALL",
        "apiHttpMethod": "GET",
        "apiUrlTemplate": {"template": shop.url + path},
        **({"defaultNextStepInstanceId": to} if to else {}),
        **more,
    }


class FinishedRun:
    """A run, which the constructor starts and waits for."""

    def __init__(self, client: AirflowClient, dag_id: str, conf: Json, timeout: float = 180.0) -> None:
        self.client, self.dag_id = client, dag_id
        self.run_id = client.trigger(dag_id, conf)
        self.state = client.wait_for_run(dag_id, self.run_id, timeout)

    def wait_again(self) -> None:
        """Wait until the run is over again, after tasks were cleared."""
        self.state = self.client.wait_for_run(self.dag_id, self.run_id, 180.0)

    def states(self, task_id: str) -> dict[int, str | None]:
        """Return the states of a task by map index."""
        return {t.map_index: t.state for t in self._instances() if t.task_id == task_id}

    def labels(self, task_id: str) -> dict[int, str | None]:
        """Return the labels of a task by map index."""
        return {t.map_index: t.label for t in self._instances() if t.task_id == task_id}

    def try_numbers(self, task_id: str) -> dict[int, int]:
        """Return the try numbers of a task by map index."""
        return {t.map_index: t.try_number for t in self._instances() if t.task_id == task_id}

    def xcom(self, task_id: str, map_index: int = -1, key: str = "return_value") -> Any:
        """Return the value that a task instance pushed."""
        return self.client.xcom(self.dag_id, self.run_id, task_id, map_index, key)

    def logs(self, task_id: str, map_index: int = -1) -> str:
        """Return the log of a task instance's last try."""
        return self.client.logs(self.dag_id, self.run_id, task_id, map_index)

    def _instances(self) -> list[TaskInstance]:
        return self.client.task_instances(self.dag_id, self.run_id)
