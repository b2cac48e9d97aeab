"""What a Python module of an installation gets in addition to its input."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_allma.engine.errors import step_error_from
from airflow_allma.exceptions import PermanentStepError, StorageError
from airflow_allma.expressions import copy_value
from airflow_allma.storage import ObjectStore, Pointer
from airflow_allma.storage.content import load_sized

__all__ = ["ModuleCall"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleCall:
    """One call of a Python module by a step.

    Attributes:
        module_identifier: the id by which the flow names the module.
        step_id: the step.
        config: the step's rendered ``customConfig``; the input has it too, below the step's own input.
        flow_id: the flow.
        flow_version: its version.
        flow_execution_id: the run; the same over retries.
        branch_id: the branch, inside one.
        item_index: the item's index, inside a branch.
        log: the task's log.
    """

    module_identifier: str
    step_id: str
    config: Mapping[str, Any]
    flow_id: str
    flow_version: int
    flow_execution_id: str
    branch_id: str | None = None
    item_index: int | None = None
    log: logging.Logger
    _context: Mapping[str, Any] = field(repr=False)
    _store: ObjectStore | None = field(default=None, repr=False)

    def context(self) -> dict[str, Any]:
        """Return a copy of the run's data, which the module can change without any effect on the run."""
        copy: dict[str, Any] = copy_value(dict(self._context))
        return copy

    def load(self, value: Any) -> Any:
        """Return the content of a pointer (``{"_s3_output_pointer": ...}``), or any other value as it is.

        It reads from the store and blocks. In a coroutine:  ``await asyncio.to_thread(call.load, value)``.

        Raises:
            StepError: the object is missing, denied or unreadable, or no store is configured.
        """
        try:
            pointer = Pointer.parse(value)
            if pointer is None:
                return value
            if self._store is None:
                raise PermanentStepError(
                    f"The module reads {pointer.uri}, but no store is configured. Set an AWS connection, or "
                    "pass --store."
                )
            return load_sized(self._store, pointer)[0]
        except StorageError as error:
            raise step_error_from(error) from error
