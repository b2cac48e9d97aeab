"""What every model of the flow language shares: naming, strictness, and the types of JSON values."""

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
    "Number",
    "Text",
    "TextOrTexts",
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


# JSON tells 1 from "1" and from true; so does the language.
Int = Annotated[int, Strict()]
Bool = Annotated[bool, Strict()]
Number = Annotated[float, Strict()]
Text = Annotated[str, Field(min_length=1)]
AnyJson = Any
JsonObject = dict[str, Any]

NAME_PATTERN = r"^[A-Za-z0-9_-]+$"
URL_PATTERN = r"^https?://"


class HttpMethod(StrEnum):
    """The methods that steps may use."""

    GET = "GET"
    POST = "POST"
    PUT = "PUT"
    DELETE = "DELETE"
    PATCH = "PATCH"
    HEAD = "HEAD"
    OPTIONS = "OPTIONS"


def shape(expected: str, fits: Callable[[Any], bool]) -> BeforeValidator:
    """A check that runs before a union is tried, so that its error is one sentence and not one per member.

    Args:
        expected: what the value must be, to follow "must be".
        fits: says whether a JSON value has that shape.
    """

    def check(value: Any) -> Any:
        if not fits(value):
            raise ValueError(f"must be {expected}")
        return value

    return BeforeValidator(check)


def _is_text_or_texts(value: Any) -> bool:
    return isinstance(value, str) or (
        isinstance(value, list | tuple) and all(isinstance(member, str) for member in value)
    )


TextOrTexts = Annotated[str | tuple[str, ...], shape("a text or a list of texts", _is_text_or_texts)]
