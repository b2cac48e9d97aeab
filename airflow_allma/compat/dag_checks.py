"""What Airflow does with a Dag after it is built: cluster policies and serialization."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_allma.compat.missing_names import IS_MISSING, warn_once

if TYPE_CHECKING:
    from airflow.sdk import DAG

__all__ = ["StoredDag", "check_policies", "stored_dag"]


def check_policies(dag: DAG) -> DAG:
    """Pass a copy of a Dag to the cluster policies, so that a refusal is known before Airflow asks them.

    It is a copy because Airflow passes them the Dag itself later, and they can change it.
    Uses ``airflow.settings``: ``get_policy_plugin_manager`` (3.2), ``dag_policy`` and ``task_policy`` (2.0).
    Without them nothing is checked: a policy that refuses one Dag takes all Dags of the loader's file along.

    Returns:
        The Dag as the policies leave it; the same object if there are none.

    Raises:
        Exception: whatever a policy raises, except the request to skip the Dag, which Airflow honors itself.
    """
    try:
        from airflow.exceptions import AirflowClusterPolicySkipDag
        from airflow.settings import dag_policy, get_policy_plugin_manager, task_policy

        hooks = get_policy_plugin_manager().hook
        has_policies = hooks.dag_policy.get_hookimpls() or hooks.task_policy.get_hookimpls()
    except IS_MISSING as error:
        warn_once(
            f"airflow.settings.get_policy_plugin_manager, dag_policy or task_policy ({error})",
            "Cluster policies are not checked early; if one refuses a flow, all flows of its loader stop",
        )
        return dag
    if not has_policies:
        return dag
    copy = deepcopy(dag)
    try:
        dag_policy(copy)  # type: ignore[no-untyped-call]
        for task in copy.tasks:
            task_policy(task)  # type: ignore[no-untyped-call]
    except AirflowClusterPolicySkipDag:
        return dag
    return copy


class StoredDag(NamedTuple):
    """A Dag as the Dag processor passes it on.

    Attributes:
        data: the serialized Dag, a JSON object.
        schedule: the description of its schedule; empty for none.
    """

    data: dict[str, Any]
    schedule: str


def stored_dag(dag: DAG) -> StoredDag | None:
    """Serialize a Dag as the Dag processor does, and read it back as it does before it stores the Dag.

    Uses ``DagSerialization`` of ``airflow.serialization.serialized_objects`` (Airflow 3.2).
    Without it nothing is checked: a Dag that cannot be serialized takes all Dags of the loader's file along.

    Returns:
        What is stored; None if this Airflow has another way to serialize Dags.

    Raises:
        Exception: whatever Airflow raises for a Dag that it cannot serialize.
    """
    try:
        from airflow.serialization.serialized_objects import DagSerialization

        to_dict, from_dict = DagSerialization.to_dict, DagSerialization.from_dict
    except IS_MISSING as error:
        warn_once(
            f"airflow.serialization.serialized_objects.DagSerialization ({error})",
            "Dags are not serialized early; if one cannot be, all flows of its loader stop",
        )
        return None
    data: dict[str, Any] = to_dict(dag)
    read = from_dict(deepcopy(data))
    return StoredDag(data, str(getattr(read.timetable, "description", "") or ""))
