"""What users may do, as Airflow's auth manager says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.base_auth_manager import ResourceMethod
from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.models.dag import DagModel

__all__ = ["UserRights", "claims_of", "user_from_claims"]

_DAGS_ASKED: Final = 1000


class UserRights:
    """The rights of one user, asked once for each Dag.

    Resuming needs what answering one of Airflow's own required actions needs: PUT of the Dag's HITL details.
    Seeing what waits needs GET.
    """

    def __init__(self, user: BaseUser) -> None:
        self._user = user
        self._known: dict[tuple[ResourceMethod, str], bool] = {}

    def may_resume(self, dag_id: str) -> bool:
        """Return whether the user may resume tasks of a Dag."""
        return self._may("PUT", dag_id)

    def may_see(self, dag_id: str) -> bool:
        """Return whether the user may see what the tasks of a Dag wait for."""
        return self._may("GET", dag_id)

    def may_resume_any(self) -> bool:
        """Return whether the user may resume tasks of some Dag."""
        manager = get_auth_manager()
        if manager.is_authorized_dag(
            method="PUT", access_entity=DagAccessEntity.HITL_DETAIL, user=self._user
        ):
            return True
        ids = sorted(manager.get_authorized_dag_ids(user=self._user, method="PUT"))
        return any(self.may_resume(dag_id) for dag_id in ids[:_DAGS_ASKED])

    def _may(self, method: ResourceMethod, dag_id: str) -> bool:
        asked = (method, dag_id)
        if asked not in self._known:
            self._known[asked] = get_auth_manager().is_authorized_dag(
                method=method,
                access_entity=DagAccessEntity.HITL_DETAIL,
                details=DagDetails(id=dag_id, team_name=DagModel.get_team_name(dag_id)),
                user=self._user,
            )
        return self._known[asked]


def claims_of(user: BaseUser) -> dict[str, Any] | None:
    """Return what identifies a user later on; None if the auth manager needs the user's own tokens for that.

    Tokens are secrets and soon invalid: they are not stored.
    """
    claims = get_auth_manager().serialize_user(user)
    if any("token" in name.lower() for name in claims):
        return None
    return dict(json.loads(json.dumps(claims)))


def user_from_claims(claims: Mapping[str, Any]) -> BaseUser | None:
    """Return the user whom ``claims_of`` described; None if the auth manager does not know them any more."""
    try:
        user: BaseUser | None = get_auth_manager().deserialize_user(dict(claims))
    except Exception:  # noqa: BLE001 - each auth manager has its own errors
        return None
    return user
