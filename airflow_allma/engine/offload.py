"""Large step outputs leave the context: they go to the offload location, and a pointer takes their place."""

from __future__ import annotations

from typing import Any

from airflow_allma.common.pointer_key import POINTER_KEY
from airflow_allma.engine.errors import step_error_from
from airflow_allma.engine.program import CompiledStep
from airflow_allma.engine.services import Services
from airflow_allma.engine.state import RunState
from airflow_allma.engine.step_execution import StepExecution, is_unseen
from airflow_allma.exceptions import PermanentStepError, StorageError
from airflow_allma.storage.content import encode_value, store_value

__all__ = ["offloaded_output", "wants_offload"]


def wants_offload(step: CompiledStep, output: Any, state: RunState, services: Services) -> bool:
    """Whether an output is to be stored outside the context.

    A pointer is never stored again; outputs above the threshold are, unless the step says otherwise, or the
    context is one that nobody sees again.
    """
    if is_unseen(step, state) or not output or (isinstance(output, dict) and POINTER_KEY in output):
        return False
    if step.model.force_s3_offload:
        return True
    if step.model.disable_s3_offload or services.settings.offload_location is None or step.fork is not None:
        return False
    return len(encode_value(output)) > services.settings.output_offload_bytes


async def offloaded_output(run: StepExecution, output: Any) -> Any:
    """The output itself, or, once it is stored, the pointer that stands for it.

    Raises:
        PermanentStepError: the step forces the offload and there is nowhere to put it.
        StepError: the store refused.
    """
    step, info, services = run.step, run.info, run.services
    if not wants_offload(step, output, run.state, services):
        return output
    location, store = services.settings.offload_location, services.store
    if location is None or store is None:
        raise PermanentStepError(
            f"Step {step.id} has forceS3Offload, but no offload location is configured. Set offload_location "
            "in [allma], or airflow.offloadLocation in the flow."
        )
    pure = (
        {key: value for key, value in output.items() if key != "_meta"}
        if isinstance(output, dict)
        else output
    )
    parts = [*info.key_ids, step.id]
    if info.branch_id is not None:
        parts += [info.branch_id, str(info.item_index)]
    try:
        pointer = await services.in_thread(store_value, store, location, pure, *parts)
    except StorageError as error:
        raise step_error_from(error) from error
    return pointer.wrap()
