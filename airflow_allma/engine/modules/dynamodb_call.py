"""Calls to DynamoDB that all its modules share: parameters, pages, errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from airflow_allma.engine.errors import step_error_from
from airflow_allma.engine.masking import MASK, looks_secret, mask_secrets
from airflow_allma.engine.modules.definition import ModuleContext
from airflow_allma.engine.modules.dynamodb_types import item_to_dynamodb
from airflow_allma.exceptions import StepError

__all__ = ["DynamoDbCall"]

_TYPED: Final = frozenset({"Key", "ExpressionAttributeValues"})


class DynamoDbCall:
    """One call of DynamoDB's API, or its pages.

    Args:
        context: has the AWS clients.
        operation: boto3's method, such as ``query``.
        parameters: DynamoDB's own parameters, with JSON values where DynamoDB wants typed ones; None and
            empty objects are left out.

    Raises:
        PermanentStepError: there are no AWS clients, or a value cannot be a DynamoDB value.
    """

    def __init__(self, context: ModuleContext, operation: str, parameters: Mapping[str, Any]) -> None:
        self._clients = context.require_aws()
        self._operation = operation
        self._given = {name: value for name, value in parameters.items() if value is not None and value != {}}
        self._parameters = {
            name: item_to_dynamodb(value) if name in _TYPED else value for name, value in self._given.items()
        }

    def shown(self) -> dict[str, Any]:
        """The parameters as messages and logs may show them: secret-looking values are masked."""
        shown: dict[str, Any] = mask_secrets(self._given)
        if "ExpressionAttributeValues" in shown:
            secret = self._secret_placeholders()
            shown["ExpressionAttributeValues"] = {
                name: MASK if name in secret else value
                for name, value in shown["ExpressionAttributeValues"].items()
            }
        return shown

    def _secret_placeholders(self) -> set[str]:
        # `apiToken = :t` compares a secret, whatever its placeholder is called.
        names: Mapping[str, str] = self._given.get("ExpressionAttributeNames", {})
        secret = set()
        for field in ("KeyConditionExpression", "FilterExpression"):
            words = _words(self._given.get(field, ""))
            for index, word in enumerate(words):
                before = words[max(0, index - 2) : index]
                if word.startswith(":") and any(looks_secret(names.get(name, name)) for name in before):
                    secret.add(word)
        return secret

    def one(self, **extra: Any) -> Mapping[str, Any]:
        """Make the call once.

        Raises:
            StepError: DynamoDB refused or did not answer; ``dynamodb_params`` in its details.
        """
        try:
            client = self._clients.client("dynamodb")
            answer: Mapping[str, Any] = getattr(client, self._operation)(**self._parameters, **extra)
        except Exception as error:
            raise self._failed(error) from error
        return answer

    def pages(self, page_limit: int | None = None) -> Iterator[Mapping[str, Any]]:
        """Make the call again and again until there are no more pages.

        Args:
            page_limit: most items that DynamoDB reads (before the filter) for one page; None: as many as fit.

        Raises:
            StepError: as ``one``.
        """
        extra: dict[str, Any] = {} if page_limit is None else {"Limit": page_limit}
        while True:
            page = self.one(**extra)
            yield page
            last = page.get("LastEvaluatedKey")
            if not last:
                return
            extra["ExclusiveStartKey"] = last

    def _failed(self, error: Exception) -> StepError:
        return step_error_from(
            error,
            doing=f"DynamoDB {self._operation} of table {self._given.get('TableName')!r}",
            connection=self._clients.connection,
            details={"dynamodb_params": self.shown()},
        )


def _words(expression: str) -> list[str]:
    for sign in "()=<>,":
        expression = expression.replace(sign, " ")
    return expression.split()
