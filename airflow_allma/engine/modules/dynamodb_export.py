"""``system/ddb-query-to-s3-manifest``: all pages of a query as one JSON Lines object."""

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
from airflow_allma.storage.base import JSON_LINES_TYPE, JSON_TYPE

__all__ = ["ManifestDestination", "ManifestInput", "ManifestQuery", "write_manifest"]

Name = Annotated[str, Field(min_length=1)]


class ManifestQuery(ModuleInput):
    """What to read."""

    table_name: Name
    key_condition_expression: Name
    expression_attribute_values: dict[str, Any]
    index_name: Name | None = None
    filter_expression: Name | None = None
    projection_expression: Name | None = None
    expression_attribute_names: dict[str, str] | None = None


class ManifestDestination(ModuleInput):
    """Where to write."""

    bucket_name: Name
    key: Name


class ManifestInput(ModuleInput):
    """Input of the module."""

    query: ManifestQuery
    destination: ManifestDestination
    enable_item_offloading: bool | None = None


def write_manifest(inputs: ManifestInput, context: ModuleContext) -> dict[str, Any]:
    """``{"manifest": pointer, "itemCount", "itemsOffloaded"}``.

    The items go to the object page by page, in the query's order; it appears when the last one is written,
    and not at all when anything fails. With ``enableItemOffloading`` an item whose JSON is larger than the
    offload threshold becomes an object of its own beside the manifest (``<key>.items/<its number>.json``),
    and its line the pointer to it.

    Raises:
        StepError: DynamoDB or the store refused or did not answer.
    """
    store = context.require_store()
    query = inputs.query
    call = DynamoDbCall(
        context,
        "query",
        {
            "TableName": query.table_name,
            "KeyConditionExpression": query.key_condition_expression,
            "ExpressionAttributeValues": query.expression_attribute_values,
            "IndexName": query.index_name,
            "FilterExpression": query.filter_expression,
            "ProjectionExpression": query.projection_expression,
            "ExpressionAttributeNames": query.expression_attribute_names,
        },
    )
    max_bytes = context.settings.output_offload_bytes if inputs.enable_item_offloading else None
    try:
        manifest = Pointer(inputs.destination.bucket_name, inputs.destination.key)
        count, offloaded = _copy(call, store, manifest, max_bytes)
    except StorageError as error:
        raise step_error_from(error, doing="Writing the manifest") from error
    return {
        "manifest": manifest.wrap(),
        "itemCount": count,
        "itemsOffloaded": offloaded,
        "_meta": {"dynamodb_params": call.shown()},
    }


def _copy(
    call: DynamoDbCall, store: ObjectStore, manifest: Pointer, max_bytes: int | None
) -> tuple[int, int]:
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
