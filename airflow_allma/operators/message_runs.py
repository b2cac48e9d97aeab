"""Runs of a flow that starts one for each message.

Airflow starts one run for all messages that have arrived. That run only starts the others: its first task
does, and all of its tasks are skipped. The id of each is made from the id of its message, so that a message
that is delivered twice, or a task that runs again, starts nothing twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn

from airflow.sdk.exceptions import AirflowSkipException

from airflow_allma.common.json_types import type_name
from airflow_allma.compat import RunRefusedError, start_dag_run
from airflow_allma.exceptions import PermanentStepError, StorageError
from airflow_allma.flow.ids import safe_id
from airflow_allma.operators.event_payload import queue_messages
from airflow_allma.operators.run_link import RESERVED_KEYS, conf_of
from airflow_allma.operators.task_context import LOG, TaskContext
from airflow_allma.timetables import MAIL_RUN, run_id_suffix

if TYPE_CHECKING:
    from airflow_allma.engine.events import QueueMessage

__all__ = ["start_message_runs"]

_MAX_REASONS: Final = 20
_MAX_ID_LENGTH: Final = 80
_MAX_FAILURES: Final = 3
"""After this many in a row, Airflow's API server counts as one that does not answer at all."""


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
    """Start a run for each message that has started this one, but for e-mails to other flows.

    Raises:
        AirflowSkipException: all of them are started.
        PermanentStepError: some messages cannot start a run; all others have, and the message says why. The
            asset events of this run have the messages.
        Exception: Airflow did not start some of the runs; a try that follows does.
    """
    messages = queue_messages(current.dag_run)
    started = failures_in_a_row = 0
    refused: list[str] = []
    failed: Exception | None = None
    for message in messages:
        try:
            start = _start_of(current, message)
            if start is None:
                continue
            is_new = start_dag_run(current.ti.dag_id, start.run_id, conf_of(start.payload))
        except (PermanentStepError, StorageError, RunRefusedError) as error:
            refused.append(f"{message.message_id}: {error}")
        except Exception as error:
            # One message must not keep the next ones from starting their runs.
            LOG.warning("%s: message %s has not started its run", error, message.message_id)
            failed = error
            failures_in_a_row += 1
            if failures_in_a_row == _MAX_FAILURES:
                raise
        else:
            started += 1
            failures_in_a_row = 0
            LOG.info("%s run %s", "Started" if is_new else "There is already", start.run_id)
    if failed is not None:
        raise failed
    if refused:
        raise _refusal(refused, len(messages))
    raise AirflowSkipException(f"This run has started {started} runs for {len(messages)} messages.")


def _refusal(reasons: Sequence[str], count: int) -> PermanentStepError:
    more = "" if len(reasons) <= _MAX_REASONS else f" (and {len(reasons) - _MAX_REASONS} more)"
    return PermanentStepError(
        f"{len(reasons)} of {count} messages cannot start a run{more}. {' '.join(reasons[:_MAX_REASONS])} "
        "The messages are in the asset events of this run. Send corrected ones, and mark this task as "
        "skipped.",
        details={"messages": [reason.partition(":")[0] for reason in reasons]},
    )


def _start_of(current: TaskContext, message: QueueMessage) -> _Start | None:
    """Return the run for a message; None for an e-mail that is not for this flow."""
    watch = current.flow.airflow.watch
    if current.flow.mail_start_points:
        # Few flows have one.
        from airflow_allma.operators.mail_runs import mail_payload

        found = mail_payload(current, message)
        if found is not None:
            route, payload = found
            if route is None:
                return None
            suffix = run_id_suffix(route.step_id)
            return _Start(f"{MAIL_RUN}__{_id_part(message)}{suffix}", payload)
    if watch is None or not watch.is_one_each:
        raise PermanentStepError("it is not a notification about an e-mail.")
    body = message.body
    if not isinstance(body, dict):
        raise PermanentStepError(f"its body must be a JSON object, not {type_name(body)}.")
    if reserved := sorted(RESERVED_KEYS & body.keys()):
        raise PermanentStepError(f"its body has the key {reserved[0]!r}, which is reserved.")
    payload = {**body, "s3Objects": list(message.objects)} if message.objects else body
    return _Start(f"message__{_id_part(message)}", payload)


def _id_part(message: QueueMessage) -> str:
    # The parts of a run's id are separated by two underscores.
    name = safe_id(message.message_id, _MAX_ID_LENGTH)
    return hashlib.sha256(name.encode()).hexdigest()[:32] if "__" in name else name
