"""Calls to DynamoDB: parameters, pages and errors, for all DynamoDB modules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, Final

from pydantic.alias_generators import to_pascal

from airflow_allma.common.aws_names import region_of_arn
from airflow_allma.engine.errors import step_error_from
from airflow_allma.engine.masking import MASK, looks_secret, mask_secrets
from airflow_allma.engine.modules.definition import ModuleContext, ModuleInput
from airflow_allma.engine.modules.dynamodb_types import item_to_dynamodb
from airflow_allma.exceptions import StepError

__all__ = ["DynamoDbCall"]

_TYPED_PARAMETERS: Final = frozenset({"Key", "ExpressionAttributeValues"})
_EXPRESSIONS: Final = (
    "KeyConditionExpression",
    "FilterExpression",
    "UpdateExpression",
    "ConditionExpression",
)
_ADVICE: Final = {
    "ConditionalCheckFailedException": "The item does not fulfil `conditionExpression`. To go on, use "
    "`onError.continueOnFailure` or a fallback.",
    "ResourceNotFoundException": "Check `tableName` of the step (and `indexName`), and whether the "
    "connection is of the right account and region ([allma] aws_conn_id, or airflow.awsConnId of the flow).",
}


_parameter = cache(to_pascal)  # the fields of models are few


class DynamoDbCall:
    """A call to DynamoDB's API with fixed parameters.

    Args:
        context: has the AWS clients.
        operation: boto3's method, such as ``query``.
        inputs: the module input with the parameters. Its fields have DynamoDB's names in snake case, and JSON
            values where DynamoDB expects typed ones.
        fields: the fields that are parameters of this operation; None and empty objects are omitted.
        retries: whether boto3 retries; False if the engine repeats the call after a TransientStepError.

    Raises:
        PermanentStepError: no AWS clients are configured, or a value cannot be stored in DynamoDB.
    """

    def __init__(
        self,
        context: ModuleContext,
        operation: str,
        inputs: ModuleInput,
        fields: Iterable[str],
        *,
        retries: bool = True,
    ) -> None:
        self._clients = context.require_aws()
        self._retries = retries
        self._operation = operation
        values = {_parameter(field): getattr(inputs, field) for field in fields}
        self._json_parameters = {
            name: value for name, value in values.items() if value is not None and value != {}
        }
        self._parameters = {
            name: item_to_dynamodb(value) if name in _TYPED_PARAMETERS else value
            for name, value in self._json_parameters.items()
        }

    def masked_parameters(self) -> dict[str, Any]:
        """Return the parameters for messages and logs: values that look secret are masked."""
        masked: dict[str, Any] = mask_secrets(self._json_parameters)
        if "ExpressionAttributeValues" in masked:
            secret = self._secret_placeholders()
            masked["ExpressionAttributeValues"] = {
                name: MASK if name in secret else value
                for name, value in masked["ExpressionAttributeValues"].items()
            }
        return masked

    def _secret_placeholders(self) -> set[str]:
        # `apiToken = :t` compares a secret, whatever the name of its placeholder.
        names: Mapping[str, str] = self._json_parameters.get("ExpressionAttributeNames", {})
        secret = set()
        for field in _EXPRESSIONS:
            words = _words(self._json_parameters.get(field, ""))
            for index, word in enumerate(words):
                preceding = words[max(0, index - 2) : index]
                if word.startswith(":") and any(looks_secret(names.get(name, name)) for name in preceding):
                    secret.add(word)
        return secret

    def send(self, **extra: Any) -> Mapping[str, Any]:
        """Make the call once and return the response.

        Raises:
            StepError: DynamoDB rejected the call or did not respond; its details have ``dynamodb_params``.
        """
        try:
            # A table can be named by its ARN, also one of another region.
            region = region_of_arn(self._json_parameters["TableName"])
            client = self._clients.client("dynamodb", region, retries=self._retries)
            response: Mapping[str, Any] = getattr(client, self._operation)(**self._parameters, **extra)
        except Exception as error:
            raise self._step_error(error) from error
        return response

    def pages(self, page_size: int | None = None) -> Iterator[Mapping[str, Any]]:
        """Make the call for one page after the other, and yield the responses.

        Args:
            page_size: the maximum number of items that DynamoDB reads, before the filter, for one page; None:
                as many as fit.

        Raises:
            StepError: as for ``send``.
        """
        extra: dict[str, Any] = {} if page_size is None else {"Limit": page_size}
        while True:
            page = self.send(**extra)
            yield page
            last_key = page.get("LastEvaluatedKey")
            if not last_key:
                return
            extra["ExclusiveStartKey"] = last_key

    def _step_error(self, error: Exception) -> StepError:
        return step_error_from(
            error,
            doing=f"DynamoDB {self._operation} of table {self._json_parameters.get('TableName')!r}",
            connection=self._clients.connection,
            details={"dynamodb_params": self.masked_parameters()},
            advice=_ADVICE,
        )


def _words(expression: str) -> list[str]:
    for sign in "()=<>,":
        expression = expression.replace(sign, " ")
    return expression.split()
