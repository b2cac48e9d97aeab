"""What a user may see of all Dags, as Airflow's auth manager says; for the list of flows."""

from __future__ import annotations

from collections.abc import Iterable

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.auth.managers.models.resource_details import AccessView, DagAccessEntity, DagDetails
from airflow.models.dag import DagModel
from sqlalchemy.orm import Session

from airflow_allma.server.run_database import find_dag

__all__ = ["ReadRights"]


class ReadRights:
    """The rights of one user to see Dags.

    Airflow's own dependencies for this look for the auth manager in the application that is mounted, which
    does not have it.
    """

    def __init__(self, user: BaseUser) -> None:
        self._user = user

    def dag_ids(self) -> set[str]:
        """Return the ids of the Dags that the user may see."""
        found: set[str] = get_auth_manager().get_authorized_dag_ids(user=self._user, method="GET")
        return found

    def may_see(self, dag_id: str) -> bool:
        """Return whether the user may see a Dag."""
        return self._may(dag_id, None)

    def may_see_runs(self, dag_id: str) -> bool:
        """Return whether the user may see the runs of a Dag."""
        return self._may(dag_id, DagAccessEntity.RUN)

    def may_see_import_errors(self) -> bool:
        """Return whether the user may see import errors."""
        return get_auth_manager().is_authorized_view(access_view=AccessView.IMPORT_ERRORS, user=self._user)

    def without_dag(self, session: Session, dag_ids: Iterable[str]) -> list[str]:
        """Return the ids that no Dag has: there is no Dag whose rights could be asked for."""
        return [dag_id for dag_id in dag_ids if find_dag(session, dag_id) is None]

    def _may(self, dag_id: str, entity: DagAccessEntity | None) -> bool:
        return get_auth_manager().is_authorized_dag(
            method="GET",
            access_entity=entity,
            details=DagDetails(id=dag_id, team_name=DagModel.get_team_name(dag_id)),
            user=self._user,
        )
