"""Runs of a flow that starts one for each message.

Airflow starts one run for all messages that have arrived. That run only starts the others: its first task
does, and all of its tasks are skipped. The id of each is made from the id of its message, so that a message
that is delivered twice, or a task that runs again, starts nothing twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn

from airflow.sdk.exceptions import AirflowSkipException

from airflow_allma.common.json_types import type_name
from airflow_allma.compat import RunRefusedError, start_dag_run
from airflow_allma.exceptions import PermanentStepError
from airflow_allma.flow.ids import safe_id
from airflow_allma.operators.event_payload import queue_messages
from airflow_allma.operators.run_link import RESERVED_KEYS, conf_of
from airflow_allma.operators.task_context import LOG, TaskContext

if TYPE_CHECKING:
    from airflow_allma.engine.events import QueueMessage

__all__ = ["start_message_runs"]

_MAX_REASONS: Final = 20
_MAX_ID_LENGTH: Final = 80


@dataclass(frozen=True, slots=True)
class _Start:
    """A run to start.

    Attributes:
        run_id: its id.
        payload: its payload.
    """

    run_id: str
    payload: dict[str, Any]


def start_message_runs(current: TaskContext) -> NoReturn:
    """Start a run for each message that has started this one.

    Raises:
        AirflowSkipException: all of them are started.
        PermanentStepError: some messages cannot start a run; all others have, and the message says why. The
            asset events of this run have the messages.
    """
    messages = queue_messages(current.dag_run)
    refused: list[str] = []
    for message in messages:
        try:
            start = _start_of(message)
            is_new = start_dag_run(current.ti.dag_id, start.run_id, conf_of(start.payload))
        except (PermanentStepError, RunRefusedError) as error:
            refused.append(f"{message.message_id}: {error}")
        else:
            LOG.info("%s run %s", "Started" if is_new else "There is already", start.run_id)
    if refused:
        more = "" if len(refused) <= _MAX_REASONS else f" (and {len(refused) - _MAX_REASONS} more)"
        raise PermanentStepError(
            f"{len(refused)} of {len(messages)} messages cannot start a run{more}. "
            f"{' '.join(refused[:_MAX_REASONS])} The messages are in the asset events of this run. Send "
            "corrected ones, and mark this task as skipped.",
            details={"messages": [reason.partition(":")[0] for reason in refused]},
        )
    raise AirflowSkipException(f"This run has started a run for each of {len(messages)} messages.")


def _start_of(message: QueueMessage) -> _Start:
    body = message.body
    if not isinstance(body, dict):
        raise PermanentStepError(f"its body must be a JSON object, not {type_name(body)}.")
    if reserved := sorted(RESERVED_KEYS & body.keys()):
        raise PermanentStepError(f"its body has the key {reserved[0]!r}, which is reserved.")
    payload = {**body, "s3Objects": list(message.objects)} if message.objects else body
    return _Start(f"message__{safe_id(message.message_id, _MAX_ID_LENGTH)}", payload)
