"""Airflow's connections and Variables, through the task SDK: secrets backends, environment, API server."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

from airflow_allma.common.secret_sources import ConnectionSecret, decode_extra
from airflow_allma.compat import mask_values, unanswered_requests
from airflow_allma.exceptions import SecretError, SecretNotFoundError, SecretUnavailableError

__all__ = ["AirflowSecrets"]

_T = TypeVar("_T")
_NOT_FOUND: Final = frozenset({"CONNECTION_NOT_FOUND", "VARIABLE_NOT_FOUND"})


class AirflowSecrets:
    """The connections and Variables that a task can read. Runs in the task's process, in any thread."""

    def connection(self, conn_id: str) -> ConnectionSecret:
        """Return a connection.

        Raises:
            SecretNotFoundError: no secrets backend has it.
            SecretUnavailableError: Airflow's API server does not answer.
            SecretError: Airflow does not let this task read it, or it is not valid.
        """
        from airflow.sdk import Connection

        found = _look_up(
            f"connection {conn_id!r}",
            lambda: Connection.get(conn_id),
            f"Create it in Admin > Connections, or set AIRFLOW_CONN_{conn_id.upper()} in the environment of "
            "the workers.",
        )
        return ConnectionSecret(
            conn_id,
            found.conn_type or "",
            found.host or "",
            found.port,
            found.schema or "",
            found.login or "",
            found.password or "",
            decode_extra(conn_id, found.extra),
        )

    def variable(self, name: str) -> str:
        """Return the value of a Variable; raise as ``connection`` does."""
        from airflow.sdk import Variable

        value = _look_up(
            f"Variable {name!r}",
            lambda: Variable.get(name),
            f"Create it in Admin > Variables, or set AIRFLOW_VAR_{name.upper()} in the environment of the "
            "workers.",
        )
        return value if isinstance(value, str) else str(value)

    def hide(self, values: Iterable[str]) -> None:
        """Register values with Airflow's masker, in this process and its supervisor."""
        mask_values(values)


def _look_up(subject: str, get: Callable[[], _T], advice: str) -> _T:
    from airflow.sdk.exceptions import AirflowException, AirflowNotFoundException, AirflowRuntimeError

    reason: str
    capitalized = f"{subject[0].upper()}{subject[1:]}"
    with unanswered_requests() as unanswered:
        try:
            return get()
        except (AirflowNotFoundException, AirflowRuntimeError) as error:
            if unanswered.count:
                raise SecretUnavailableError(
                    f"Airflow's API server does not answer when asked for {subject}. If this persists, check "
                    "the server, and [core] execution_api_server_url of the worker."
                ) from None
            if isinstance(error, AirflowNotFoundException) or _is_not_found(error):
                raise SecretNotFoundError(f"{capitalized} does not exist. {advice}") from None
            reason = type(error).__name__
        except PermissionError:
            reason = "Airflow denies this task access to it"
        except (AirflowException, ValueError) as error:
            # Its message can show a part of a connection's URI.
            reason = f"its definition is not valid ({type(error).__name__})"
    raise SecretError(f"{capitalized} cannot be read: {reason}.")


def _is_not_found(error: Any) -> bool:
    return getattr(error.error.error, "name", "") in _NOT_FOUND
