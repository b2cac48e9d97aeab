"""What all models of the flow language share: naming, strictness, and the types of JSON values."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict
from pydantic.alias_generators import to_camel

__all__ = [
    "NAME_PATTERN",
    "URL_PATTERN",
    "AnyJson",
    "Bool",
    "HttpMethod",
    "Int",
    "JsonObject",
    "Model",
    "NonEmptyStr",
    "Number",
    "PercentageOrPath",
    "PositiveOrPath",
    "StringOrStrings",
    "WholeOrPath",
    "shape",
]


class Model(BaseModel):
    """Base of all models: ``snake_case`` attributes, ``camelCase`` in JSON, frozen, unknown fields kept."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="allow",
        frozen=True,
        protected_namespaces=(),
    )


# JSON distinguishes 1, "1" and true; so does the language.
Int = Annotated[int, Strict()]
Bool = Annotated[bool, Strict()]
Number = Annotated[float, Strict()]
NonEmptyStr = Annotated[str, Field(min_length=1)]
AnyJson = Any
JsonObject = dict[str, Any]

NAME_PATTERN = r"^[A-Za-z0-9_-]+$"
URL_PATTERN = r"^https?://"


class HttpMethod(StrEnum):
    """The HTTP methods that steps can use."""

    GET = "GET"
    POST = "POST"
    PUT = "PUT"
    DELETE = "DELETE"
    PATCH = "PATCH"
    HEAD = "HEAD"
    OPTIONS = "OPTIONS"


def shape(expected: str, fits: Callable[[Any], bool]) -> BeforeValidator:
    """Return a check that runs before a union, so that there is one error and not one for each member.

    Args:
        expected: what the value must be, after "must be".
        fits: whether a JSON value has that shape.
    """

    def check(value: Any) -> Any:
        if not fits(value):
            raise ValueError(f"must be {expected}")
        return value

    return BeforeValidator(check)


def _is_number_or_string(value: Any) -> bool:
    return isinstance(value, int | float | str) and not isinstance(value, bool)


WholeOrPath = Annotated[
    Annotated[Int, Field(ge=0)] | str,
    shape("a whole number or a JSONPath", _is_number_or_string),
]
"""A whole number from 0, or a JSONPath to one."""

PositiveOrPath = Annotated[
    Annotated[Int, Field(ge=1)] | str,
    shape("a whole number or a JSONPath", _is_number_or_string),
]
"""A whole number from 1, or a JSONPath to one."""

PercentageOrPath = Annotated[
    Annotated[Number, Field(ge=0, le=100)] | str,
    shape("a number or a JSONPath", _is_number_or_string),
]
"""A number from 0 to 100, or a JSONPath to one."""


def _is_string_or_strings(value: Any) -> bool:
    return isinstance(value, str) or (
        isinstance(value, list | tuple) and all(isinstance(member, str) for member in value)
    )


StringOrStrings = Annotated[
    str | tuple[str, ...], shape("a string or a list of strings", _is_string_or_strings)
]
