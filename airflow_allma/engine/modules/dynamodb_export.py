"""``system/ddb-query-to-s3-manifest``: writes all pages of a query to one JSON Lines object."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from pydantic import Field

from airflow_allma.engine.errors import step_error_from
from airflow_allma.engine.modules.definition import ModuleContext, ModuleInput
from airflow_allma.engine.modules.dynamodb_call import DynamoDbCall
from airflow_allma.engine.modules.dynamodb_types import item_from_dynamodb
from airflow_allma.exceptions import StorageError
from airflow_allma.storage import ObjectStore, Pointer
from airflow_allma.storage.object_store import JSON_LINES_TYPE, JSON_TYPE

__all__ = ["ExportInput", "export_query"]

Name = Annotated[str, Field(min_length=1)]


class _Query(ModuleInput):
    """Parameters of DynamoDB's Query."""

    table_name: Name
    key_condition_expression: Name
    expression_attribute_values: dict[str, Any]
    index_name: Name | None = None
    filter_expression: Name | None = None
    projection_expression: Name | None = None
    expression_attribute_names: dict[str, str] | None = None


class _Destination(ModuleInput):
    """The object to write."""

    bucket_name: Name
    key: Name


class ExportInput(ModuleInput):
    """Input of ``system/ddb-query-to-s3-manifest``."""

    query: _Query
    destination: _Destination
    enable_item_offloading: bool | None = None


def export_query(inputs: ExportInput, context: ModuleContext) -> dict[str, Any]:
    """Write the manifest and return ``{"manifest": pointer, "itemCount", "itemsOffloaded"}``.

    The items are written page by page, in the query's order. The object appears after the last one is
    written, and does not appear if anything fails. With ``enableItemOffloading``, an item whose JSON is
    larger than the offload threshold becomes a separate object next to the manifest
    (``<key>.items/<its number>.json``), and its line is the pointer to that object.

    Raises:
        StepError: DynamoDB or the store rejected a request or did not respond.
    """
    store = context.require_store()
    call = DynamoDbCall(context, "query", inputs.query, _Query.model_fields)
    max_bytes = context.settings.output_offload_bytes if inputs.enable_item_offloading else None
    try:
        manifest = Pointer(inputs.destination.bucket_name, inputs.destination.key)
        count, offloaded = _write_lines(call, store, manifest, max_bytes)
    except StorageError as error:
        raise step_error_from(error, doing="Writing the manifest") from error
    return {
        "manifest": manifest.wrap(),
        "itemCount": count,
        "itemsOffloaded": offloaded,
        "_meta": {"dynamodb_params": call.masked_parameters()},
    }


def _write_lines(
    call: DynamoDbCall, store: ObjectStore, manifest: Pointer, max_bytes: int | None
) -> tuple[int, int]:
    """Write one line for each item; return the number of items, and of those that were offloaded."""
    encoder = msgspec.json.Encoder()
    count = offloaded = 0
    with store.open_writer(manifest, content_type=JSON_LINES_TYPE) as writer:
        for page in call.pages():
            lines = []
            for item in page["Items"]:
                line = encoder.encode(item_from_dynamodb(item))
                if max_bytes is not None and len(line) > max_bytes:
                    pointer = Pointer(manifest.bucket, f"{manifest.key}.items/{count:09d}.json")
                    store.write(pointer, line, content_type=JSON_TYPE)
                    line = encoder.encode(pointer.wrap())
                    offloaded += 1
                lines.append(line)
                count += 1
            if lines:
                writer.write(b"\n".join(lines) + b"\n")
    return count, offloaded
