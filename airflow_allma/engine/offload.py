"""Large step outputs leave the context: they are written to the offload location, replaced by a pointer."""

from __future__ import annotations

from typing import Any

from airflow_allma.common.pointer_key import POINTER_KEY
from airflow_allma.engine.errors import step_error_from
from airflow_allma.engine.program import CompiledStep
from airflow_allma.engine.services import Services
from airflow_allma.engine.state import RunState
from airflow_allma.engine.step_execution import StepExecution, discards_context, without_meta
from airflow_allma.exceptions import PermanentStepError, StorageError
from airflow_allma.storage.content import encode_value, store_value

__all__ = ["needs_offload", "offload_output"]


def needs_offload(step: CompiledStep, output: Any, state: RunState, services: Services) -> bool:
    """Return whether an output is to be stored outside of the context.

    A pointer is never stored again. Outputs above the threshold are stored, unless the step forbids it or
    nothing reads the context any more.
    """
    if discards_context(step, state) or not output or (isinstance(output, dict) and POINTER_KEY in output):
        return False
    if step.model.force_s3_offload:
        return True
    if step.model.disable_s3_offload or services.settings.offload_location is None or step.stores_output:
        return False
    return len(encode_value(output)) > services.settings.output_offload_bytes


async def offload_output(execution: StepExecution, output: Any) -> Any:
    """Store an output that ``needs_offload``, and return the pointer that replaces it.

    Raises:
        PermanentStepError: the step forces the offload and no location is configured.
        StepError: the store refused.
    """
    step, info, services = execution.step, execution.info, execution.services
    location, store = services.settings.results_location, services.store
    if location is None or store is None:
        raise PermanentStepError(
            f"Step {step.id} has forceS3Offload, but no offload location is configured. Set offload_location "
            "in [allma], or airflow.offloadLocation in the flow."
        )
    value = without_meta(output)
    identifiers = [*info.key_ids, step.id]
    if info.branch_id is not None:
        identifiers += [info.branch_id, str(info.item_index)]
    try:
        pointer = await services.in_thread(store_value, store, location, value, *identifiers)
    except StorageError as error:
        raise step_error_from(error) from error
    return pointer.wrap()
