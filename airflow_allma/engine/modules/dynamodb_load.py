"""``system/dynamodb-data-loader``: reads with one GET, QUERY or SCAN."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, model_validator

from airflow_allma.engine.modules.definition import JsonInt, ModuleContext, ModuleInput
from airflow_allma.engine.modules.dynamodb_call import DynamoDbCall
from airflow_allma.engine.modules.dynamodb_types import item_from_dynamodb

__all__ = ["DynamoDbLoaderInput", "load_from_dynamodb"]

Name = Annotated[str, Field(min_length=1)]


class DynamoDbLoaderInput(ModuleInput):
    """Input of ``system/dynamodb-data-loader``.

    ``limit`` is the maximum number of items returned, after the filter.
    """

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
    def _validate_operation(self) -> Self:
        if self.operation == "GET" and self.key is None:
            raise ValueError("operation GET needs `key`, an object of the key's attributes")
        if self.operation == "QUERY" and self.key_condition_expression is None:
            raise ValueError("operation QUERY needs `keyConditionExpression`")
        return self


_GET_FIELDS: Final = ("table_name", "projection_expression", "expression_attribute_names", "key")
_SCAN_FIELDS: Final = (
    "table_name",
    "projection_expression",
    "expression_attribute_names",
    "index_name",
    "filter_expression",
    "expression_attribute_values",
    "select",
)
_QUERY_FIELDS: Final = (*_SCAN_FIELDS, "key_condition_expression", "scan_index_forward")

_OPERATIONS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = MappingProxyType(
    {
        "GET": ("get_item", _GET_FIELDS),
        "QUERY": ("query", _QUERY_FIELDS),
        "SCAN": ("scan", _SCAN_FIELDS),
    }
)
"""Operation -> boto3's method and the input fields that are its parameters."""


def load_from_dynamodb(inputs: DynamoDbLoaderInput, context: ModuleContext) -> dict[str, Any]:
    """Return ``{"content": item, null, list of items, or {"Count", "ScannedCount"}}``, from all pages.

    Raises:
        StepError: DynamoDB rejected the call or did not respond.
    """
    method, fields = _OPERATIONS[inputs.operation]
    call = DynamoDbCall(context, method, inputs, fields)
    content: Any
    if inputs.operation == "GET":
        item = call.send().get("Item")
        content = None if item is None else item_from_dynamodb(item)
    elif inputs.select == "COUNT":
        content = _count(call, inputs)
    else:
        items = (item for page in call.pages(_page_size(inputs)) for item in page.get("Items", ()))
        content = [item_from_dynamodb(item) for item in islice(items, inputs.limit)]
    return {"content": content, "_meta": {"dynamodb_params": call.masked_parameters()}}


def _page_size(inputs: DynamoDbLoaderInput) -> int | None:
    # DynamoDB's limit counts items before the filter: with a filter it only leads to more and smaller pages.
    return inputs.limit if inputs.filter_expression is None else None


def _count(call: DynamoDbCall, inputs: DynamoDbLoaderInput) -> dict[str, int]:
    count = scanned = 0
    for page in call.pages(_page_size(inputs)):
        count += page["Count"]
        scanned += page["ScannedCount"]
        if inputs.limit is not None and count >= inputs.limit:
            count = inputs.limit
            break
    return {"Count": count, "ScannedCount": scanned}
