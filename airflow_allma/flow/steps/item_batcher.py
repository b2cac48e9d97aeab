"""How a fork puts several items into one branch run: ``itemBatcher`` of a fork."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from airflow_allma.flow.model_base import JsonObject, Model, PositiveOrPath

__all__ = ["ItemBatcher"]


class ItemBatcher(Model):
    """How items become batches; at least one of the two limits is required."""

    max_items_per_batch: Annotated[
        PositiveOrPath | None, Field(description="Maximum number of items of a batch, or a JSONPath to it.")
    ] = None
    max_bytes_per_batch: Annotated[
        PositiveOrPath | None,
        Field(description="Maximum bytes of JSON of a batch's items, or a JSONPath to it."),
    ] = None
    batch_input: Annotated[
        JsonObject | None,
        Field(description="Passed to every batch as batchInput; strings can be JSONPaths or templates."),
    ] = None

    @model_validator(mode="after")
    def _check_limits(self) -> Self:
        if self.max_items_per_batch is None and self.max_bytes_per_batch is None:
            raise PydanticCustomError("no_limit", "needs `maxItemsPerBatch`, `maxBytesPerBatch` or both")
        return self
