"""``system/dynamodb-data-loader``: one GET, QUERY or SCAN."""

from __future__ import annotations

from itertools import islice
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from airflow_allma.engine.modules.definition import JsonInt, ModuleContext, ModuleInput
from airflow_allma.engine.modules.dynamodb_call import DynamoDbCall
from airflow_allma.engine.modules.dynamodb_types import item_from_dynamodb

__all__ = ["DynamoDbLoaderInput", "load_from_dynamodb"]

Name = Annotated[str, Field(min_length=1)]


class DynamoDbLoaderInput(ModuleInput):
    """Input of the module; ``limit`` is the most items returned, after the filter."""

    operation: Literal["GET", "QUERY", "SCAN"]
    table_name: Name
    key: Annotated[dict[str, Any], Field(min_length=1)] | None = None
    key_condition_expression: Name | None = None
    expression_attribute_values: dict[str, Any] | None = None
    expression_attribute_names: dict[str, str] | None = None
    filter_expression: Name | None = None
    index_name: Name | None = None
    projection_expression: Name | None = None
    select: Literal["ALL_ATTRIBUTES", "ALL_PROJECTED_ATTRIBUTES", "SPECIFIC_ATTRIBUTES", "COUNT"] | None = (
        None
    )
    limit: Annotated[JsonInt, Field(gt=0)] | None = None
    scan_index_forward: bool | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.operation == "GET" and self.key is None:
            raise ValueError("operation GET needs `key`, an object of the key's attributes")
        if self.operation == "QUERY" and self.key_condition_expression is None:
            raise ValueError("operation QUERY needs `keyConditionExpression`")
        return self


def load_from_dynamodb(inputs: DynamoDbLoaderInput, context: ModuleContext) -> dict[str, Any]:
    """``{"content": item, null, list of items, or {"Count", "ScannedCount"}}``; all pages are read.

    Raises:
        StepError: DynamoDB refused or did not answer.
    """
    call = _call(inputs, context)
    content: Any
    if inputs.operation == "GET":
        item = call.one().get("Item")
        content = None if item is None else item_from_dynamodb(item)
    elif inputs.select == "COUNT":
        content = _count(call, inputs)
    else:
        items = (item for page in call.pages(_page_limit(inputs)) for item in page.get("Items", ()))
        content = [item_from_dynamodb(item) for item in islice(items, inputs.limit)]
    return {"content": content, "_meta": {"dynamodb_params": call.shown()}}


def _call(inputs: DynamoDbLoaderInput, context: ModuleContext) -> DynamoDbCall:
    shared = {
        "TableName": inputs.table_name,
        "ProjectionExpression": inputs.projection_expression,
        "ExpressionAttributeNames": inputs.expression_attribute_names,
    }
    if inputs.operation == "GET":
        return DynamoDbCall(context, "get_item", {**shared, "Key": inputs.key})
    listing = {
        **shared,
        "IndexName": inputs.index_name,
        "FilterExpression": inputs.filter_expression,
        "ExpressionAttributeValues": inputs.expression_attribute_values,
        "Select": inputs.select,
    }
    if inputs.operation == "SCAN":
        return DynamoDbCall(context, "scan", listing)
    return DynamoDbCall(
        context,
        "query",
        {
            **listing,
            "KeyConditionExpression": inputs.key_condition_expression,
            "ScanIndexForward": inputs.scan_index_forward,
        },
    )


def _page_limit(inputs: DynamoDbLoaderInput) -> int | None:
    # DynamoDB's own limit counts before the filter: with one, it would only make more and smaller pages.
    return inputs.limit if inputs.filter_expression is None else None


def _count(call: DynamoDbCall, inputs: DynamoDbLoaderInput) -> dict[str, int]:
    count = scanned = 0
    for page in call.pages(_page_limit(inputs)):
        count += page["Count"]
        scanned += page["ScannedCount"]
        if inputs.limit is not None and count >= inputs.limit:
            count = inputs.limit
            break
    return {"Count": count, "ScannedCount": scanned}
