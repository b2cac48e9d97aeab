"""The run's state and a step's output as XComs; large ones as objects in the offload location."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, Final

from airflow_allma.common.wait_keys import hand_over_key, wait_token
from airflow_allma.compat import NOT_MAPPED
from airflow_allma.exceptions import PermanentStepError, StorageError
from airflow_allma.operators.run_link import RESUME_KEY
from airflow_allma.operators.task_context import TaskContext
from airflow_allma.operators.transport import json_bytes, xcom_safe
from airflow_allma.operators.xcoms import Key, pull, push

if TYPE_CHECKING:
    from airflow_allma.engine import RunState
    from airflow_allma.storage import Pointer

__all__ = [
    "load_state",
    "load_suspended",
    "loaded_state",
    "restored_state",
    "return_value",
    "save_state",
    "save_suspended",
    "trace_in_state",
]

_LAST_OUTPUT_IS_LAST_WRITE: Final = "lastOutputIsLastWrite"
"""Key of a saved state whose last output is not repeated."""

_PAYLOAD_KEYS: Final = "payloadKeys"
"""Key of a saved state with the keys of the payload, which is not repeated under ``initialContextData``."""


_TASK_TRACE: Final = "taskTrace"
"""Key of a pushed state with the trace of the steps that have led to it."""


def save_state(
    current: TaskContext,
    state: RunState,
    *,
    items: list[Any] | None = None,
    trace: Mapping[str, Any] | None = None,
) -> None:
    """Push the run's state; a large one is stored, and a pointer is pushed instead.

    Args:
        current: this try.
        state: the state.
        items: a fork's list, if it is not part of the state; ``load_state`` returns it under ``items``.
        trace: the trace of the task's steps, which ``trace_in_state`` returns. An XCom of its own would be
            another request of every task.
    """
    # A branch goes on in another task, whose trace has the steps of this one too.
    saved = state.to_dict() if state.journal is None else state.suspended_form()
    if items is not None:
        saved["items"] = items
    if state.journal is None:
        # On the main path nothing reads the last output again.
        saved.pop("lastOutput", None)
    elif state.journal and state.journal[-1][1] is state.last_output:
        saved[_LAST_OUTPUT_IS_LAST_WRITE] = True
        del saved["lastOutput"]
    if state.next_step is not None and state.journal is None:
        _omit_payload(saved)
    pointer = _store_if_large(current, saved, "state")
    if pointer is not None:
        saved = {"nextStep": saved["nextStep"], "stored": pointer.wrap()}
    if trace is not None:
        saved[_TASK_TRACE] = trace
    push(current.ti, Key.STATE, saved)
    if state.next_step is None and state.journal is None:
        _hand_over(current, state.context)


def _hand_over(current: TaskContext, context: Mapping[str, Any]) -> None:
    """Let the API server deliver the final context to the run that waits for it, if there is one.

    Only a key that the step which has started this run passed on counts: whoever triggers a run could
    otherwise resume any other.
    """
    key = current.link.resume_key if current.link is not None else None
    if key is None or context.get(RESUME_KEY) != key:
        return
    pointer = _store_if_large(current, context, "result")
    payload = context if pointer is None else pointer.wrap()
    value = json_bytes({"key": key, "payload": payload}).decode()
    current.ti.xcom_push(key=hand_over_key(wait_token(key)), value=value)


def load_state(
    current: TaskContext,
    task_id: str,
    map_index: int = NOT_MAPPED,
    *,
    only_if: Collection[str] | None = None,
) -> dict[str, Any] | None:
    """Return the state that a task pushed, loaded if it was stored.

    Args:
        current: the asking task.
        task_id: the task that pushed it.
        map_index: which of its instances.
        only_if: return it only if the run continues with one of these steps.

    Returns:
        What ``RunState.to_dict`` returned; None when the task pushed none or the run continues elsewhere.

    Raises:
        StorageError: the stored state is gone or cannot be read.
    """
    saved: dict[str, Any] | None = pull(current.ti, task_id, Key.STATE, map_index)
    if saved is None or (only_if is not None and saved["nextStep"] not in only_if):
        return None
    return loaded_state(current, saved)


def loaded_state(current: TaskContext, saved: dict[str, Any]) -> dict[str, Any]:
    """Return a state as ``RunState.to_dict`` made it from what ``save_state`` pushed.

    Raises:
        StorageError: the stored state is gone or cannot be read.
    """
    return restored_state(saved, lambda stored: _load_stored(current, stored))


def restored_state(saved: dict[str, Any], load: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    """Return a state as ``RunState.to_dict`` made it.

    Args:
        saved: what ``save_state`` pushed; changed if it is not stored elsewhere.
        load: loads a stored state; called with its pointer.
    """
    if "stored" in saved:
        saved = load(saved["stored"])
    saved.pop(_TASK_TRACE, None)
    if saved.pop(_LAST_OUTPUT_IS_LAST_WRITE, False):
        saved["lastOutput"] = saved["journal"][-1][1]
    if _PAYLOAD_KEYS in saved:
        context = saved["context"]
        context["initialContextData"] = {key: context[key] for key in saved.pop(_PAYLOAD_KEYS)}
    return saved


def trace_in_state(saved: Any) -> Any:
    """Return the trace in a state that ``save_state`` pushed; None if it has none."""
    return saved.get(_TASK_TRACE) if isinstance(saved, dict) else None


def save_suspended(current: TaskContext, saved: dict[str, Any]) -> None:
    """Push what a task that waits needs to continue; a large value is stored, and a pointer is pushed."""
    pointer = _store_if_large(current, saved, "suspended")
    push(current.ti, Key.SUSPENDED, saved if pointer is None else {"stored": pointer.wrap()})


def load_suspended(current: TaskContext) -> dict[str, Any]:
    """Return what this task saved when it was suspended.

    Raises:
        PermanentStepError: it has saved nothing.
        StorageError: what it stored is gone or cannot be read.
    """
    saved: dict[str, Any] | None = pull(current.ti, current.ti.task_id, Key.SUSPENDED, current.map_index)
    if saved is None:
        raise PermanentStepError(
            f"Task {current.ti.task_id} was woken, but its XCom {Key.SUSPENDED} is gone. Clear the task to "
            "run it again from its beginning."
        )
    return _load_stored(current, saved["stored"]) if "stored" in saved else saved


def _omit_payload(saved: dict[str, Any]) -> None:
    """Leave ``initialContextData`` out of a state if all of it is at the context's root too."""
    context = saved["context"]
    payload = context.get("initialContextData")
    if isinstance(payload, dict) and all(
        key != "initialContextData" and key in context and context[key] is member
        for key, member in payload.items()
    ):
        saved[_PAYLOAD_KEYS] = list(payload)
        # Null keeps its place among the keys.
        saved["context"] = {**context, "initialContextData": None}


def _load_stored(current: TaskContext, stored: Any) -> dict[str, Any]:
    from airflow_allma.storage import Pointer, load_content

    pointer = Pointer.parse(stored)
    if pointer is None or current.services.store is None:
        raise StorageError(f"The state of the run cannot be read from {stored}.")
    whole: dict[str, Any] = load_content(current.services.store, pointer)
    return whole


def return_value(current: TaskContext, output: Any) -> Any:
    """Return a step's output as the task's return value, which the UI shows; a large one as a pointer."""
    pointer = _store_if_large(current, output, "output")
    return xcom_safe(output) if pointer is None else pointer.wrap()


def _store_if_large(current: TaskContext, value: Any, kind: str) -> Pointer | None:
    """Store a value that is too large for an XCom and return its pointer; None for other values."""
    location, store = current.services.settings.offload_location, current.services.store
    if location is None or store is None:
        return None
    if len(json_bytes(value)) <= current.settings.context_offload_bytes:
        return None
    from airflow_allma.storage import store_value

    return store_value(
        store, location, value, *current.info.key_ids, kind, current.ti.task_id, str(current.map_index)
    )
