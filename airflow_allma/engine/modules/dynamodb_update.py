"""``system/dynamodb-update-item``: updates one item."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from airflow_allma.engine.modules.definition import ModuleContext, ModuleInput
from airflow_allma.engine.modules.dynamodb_call import DynamoDbCall
from airflow_allma.engine.modules.dynamodb_types import item_from_dynamodb

__all__ = ["UpdateItemInput", "update_item"]

Name = Annotated[str, Field(min_length=1)]


class UpdateItemInput(ModuleInput):
    """Input of ``system/dynamodb-update-item``."""

    table_name: Name
    key: Annotated[dict[str, Any], Field(min_length=1)]
    update_expression: Name
    expression_attribute_names: dict[str, str] | None = None
    expression_attribute_values: dict[str, Any] | None = None
    condition_expression: Name | None = None


def update_item(inputs: UpdateItemInput, context: ModuleContext) -> dict[str, Any]:
    """Update the item and return ``{"updatedAttributes": the new values of what has changed}``.

    Without changes there is no ``updatedAttributes``.

    Raises:
        StepError: the condition does not hold (``ConditionalCheckFailedException``), or DynamoDB rejected the
            call or did not respond.
    """
    call = DynamoDbCall(context, "update_item", inputs, UpdateItemInput.model_fields, retries=False)
    response = call.send(ReturnValues="UPDATED_NEW")
    changed = response.get("Attributes")
    output = {"updatedAttributes": item_from_dynamodb(changed)} if changed else {}
    return {**output, "_meta": {"status": "SUCCESS", "dynamodb_params": call.masked_parameters()}}
