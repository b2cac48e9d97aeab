"""``system/dynamodb-query-and-update``: finds items and updates each of them, if it still may."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Annotated, Any, Final

from pydantic import Field

from airflow_allma.common.aws_calls import observed
from airflow_allma.engine.modules.definition import JsonInt, ModuleContext, ModuleInput
from airflow_allma.engine.modules.dynamodb_call import DynamoDbCall
from airflow_allma.engine.modules.dynamodb_types import item_from_dynamodb
from airflow_allma.exceptions import PermanentStepError, StepError

__all__ = ["QueryAndUpdateInput", "query_and_update"]

Name = Annotated[str, Field(min_length=1)]

_THREADS: Final = 10
_AT_ONCE: Final = 100
"""Updates between two looks at whether one has failed."""
_MAX_NAMED: Final = 20
"""Items that an error names."""
_CONDITION_FAILED: Final = "ConditionalCheckFailedException"
_NAME: Final = re.compile(r"#\w+")


class _Query(ModuleInput):
    """Which items; ``limit`` is their maximum number, after the filter."""

    table_name: Name
    key_condition_expression: Name
    expression_attribute_values: dict[str, Any]
    key_attributes: Annotated[list[Name], Field(min_length=1)] | None = None
    index_name: Name | None = None
    filter_expression: Name | None = None
    expression_attribute_names: dict[str, str] | None = None
    limit: Annotated[JsonInt, Field(ge=1, le=1_000_000)] = 100


class _Update(ModuleInput):
    """How each of them is changed."""

    update_expression: Name
    expression_attribute_names: dict[str, str] | None = None
    expression_attribute_values: dict[str, Any] | None = None
    condition_expression: Name | None = None


class QueryAndUpdateInput(ModuleInput):
    """Input of ``system/dynamodb-query-and-update``."""

    query: _Query
    update: _Update


class _OneUpdate(_Update):
    """The parameters of all updates."""

    table_name: str


class _Described(ModuleInput):
    """The parameters of a description."""

    table_name: str


_QUERY_FIELDS: Final = (
    "table_name",
    "index_name",
    "key_condition_expression",
    "filter_expression",
    "expression_attribute_names",
    "expression_attribute_values",
)


def query_and_update(inputs: QueryAndUpdateInput, context: ModuleContext) -> dict[str, Any]:
    """Update the items that the query finds and return ``{"updatedItemCount", "items"}``.

    ``items`` are the new items in the order of the query. An item whose condition no longer holds is
    left out: somebody else was faster.

    Raises:
        StepError: the query failed, no item could be updated, or an item lacks a key attribute.
        PermanentStepError: some items were updated before another one failed; ``errorDetails`` names both. A
            second try would not find the updated ones again.
    """
    query = _with_names_of_update(inputs.query, inputs.update)
    names = query.key_attributes or _key_attributes(query.table_name, context)
    call = DynamoDbCall(context, "query", query, _QUERY_FIELDS)
    page_size = query.limit if query.filter_expression is None else None
    found = (item for page in call.pages(page_size) for item in page.get("Items", ()))
    keys = [_key(item, names, query) for item in islice(found, query.limit)]
    results = _Results(len(keys))
    update = partial(_update_one, inputs.update, query.table_name, context)
    with ThreadPoolExecutor(_THREADS, "allma-update") as threads:
        for start in range(0, len(keys), _AT_ONCE):
            # Each thread has an observer of its own for the calls that it makes.
            results.add(
                threads.map(partial(observed, context.calls.add, update), keys[start : start + _AT_ONCE])
            )
            if results.failed:
                raise results.error(inputs)
    parameters = call.masked_parameters()
    return {
        "updatedItemCount": len(results.items),
        "items": results.items,
        "_meta": {"status": "SUCCESS", "notUpdated": results.skipped, "dynamodb_params": parameters},
    }


def _with_names_of_update(query: _Query, update: _Update) -> _Query:
    """Return the query with the attribute names that it uses and only the update defines.

    Flows define them once, as in the documented example.
    """
    own, of_update = query.expression_attribute_names or {}, update.expression_attribute_names or {}
    used = set(_NAME.findall(f"{query.key_condition_expression} {query.filter_expression or ''}"))
    borrowed = {name: of_update[name] for name in sorted(used - own.keys()) if name in of_update}
    return query.model_copy(update={"expression_attribute_names": {**borrowed, **own}}) if borrowed else query


def _key_attributes(table: str, context: ModuleContext) -> Sequence[str]:
    described = DynamoDbCall(
        context, "describe_table", _Described.model_construct(table_name=table), ("table_name",)
    ).send()
    return [one["AttributeName"] for one in described["Table"]["KeySchema"]]


def _key(item: Mapping[str, Any], names: Sequence[str], query: _Query) -> dict[str, Any]:
    """Return the key of an item with DynamoDB's types: JSON has no binary values, and fewer digits."""
    missing = [name for name in names if name not in item]
    if missing:
        raise PermanentStepError(
            f"An item that the query of table {query.table_name!r} found lacks {missing[0]!r}, so it "
            "cannot be updated. Set `query.keyAttributes` to the attributes of the table's key, or use an "
            "index that has them. No item was updated.",
            details={"missingKeyAttributes": missing},
        )
    return {name: item[name] for name in names}


@dataclass(frozen=True, slots=True)
class _Result:
    """One update: the new item, or the error."""

    key: dict[str, Any]
    item: dict[str, Any] | None
    error: StepError | None


def _update_one(update: _Update, table: str, context: ModuleContext, key: dict[str, Any]) -> _Result:
    one = _OneUpdate.model_construct(**update.model_dump(), table_name=table)
    # boto3 retries throttled updates one by one; the engine could only repeat all of them.
    call = DynamoDbCall(context, "update_item", one, _OneUpdate.model_fields)
    shown = item_from_dynamodb(key)
    try:
        updated = call.send(Key=key, ReturnValues="ALL_NEW").get("Attributes", {})
    except StepError as error:
        return _Result(shown, None, error)
    return _Result(shown, item_from_dynamodb(updated), None)


class _Results:
    """The results so far.

    Attributes:
        items: the new items.
        skipped: how many items no longer fulfilled the condition.
        failed: the updates that failed otherwise.
    """

    def __init__(self, found: int) -> None:
        self._found = found
        self.items: list[dict[str, Any]] = []
        self._updated_keys: list[dict[str, Any]] = []
        self.skipped = 0
        self.failed: list[_Result] = []

    def add(self, results: Iterable[_Result]) -> None:
        """Take the results of some updates."""
        for result in results:
            if result.error is None:
                self.items.append(result.item or {})
                self._updated_keys.append(result.key)
            elif result.error.error_name == _CONDITION_FAILED:
                self.skipped += 1
            else:
                self.failed.append(result)

    def error(self, inputs: QueryAndUpdateInput) -> StepError:
        """Return the error of the step."""
        first = self.failed[0].error
        if first is None or not self.items:
            return first or PermanentStepError("No item could be updated.")
        return PermanentStepError(
            f"{len(self.failed)} of {self._found} items of table {inputs.query.table_name!r} could not "
            f"be updated after {len(self.items)} were; errorDetails names them. First error: {first.message} "
            "The step is not tried again by itself: the query would not find the updated items again.",
            error_name="PartialUpdateError",
            details={
                **first.details,
                "updatedItemCount": len(self.items),
                "failedItemCount": len(self.failed),
                "updatedKeys": self._updated_keys[:_MAX_NAMED],
                "failedKeys": [result.key for result in self.failed[:_MAX_NAMED]],
            },
        )
