"""The request of a chat completion, as OpenAI documents it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from demo.model_servers.exchange import Strict

JsonMap = dict[str, Any]
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
Penalty = Annotated[float, msgspec.Meta(ge=-2, le=2)]
PositiveInt = Annotated[int, msgspec.Meta(ge=1)]


class TextPart(Strict, frozen=True, tag_field="type", tag="text"):
    text: str


class ImageUrl(Strict, frozen=True):
    url: str
    detail: Literal["auto", "low", "high"] = "auto"


class ImagePart(Strict, frozen=True, tag_field="type", tag="image_url"):
    image_url: ImageUrl


class FileContent(Strict, frozen=True):
    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class FilePart(Strict, frozen=True, tag_field="type", tag="file"):
    file: FileContent


class System(Strict, frozen=True, tag_field="role", tag="system"):
    content: str | list[TextPart]
    name: str | None = None


class Developer(Strict, frozen=True, tag_field="role", tag="developer"):
    content: str | list[TextPart]
    name: str | None = None


class User(Strict, frozen=True, tag_field="role", tag="user"):
    content: str | Annotated[list[TextPart | ImagePart | FilePart], msgspec.Meta(min_length=1)]
    name: str | None = None


class Assistant(Strict, frozen=True, tag_field="role", tag="assistant"):
    content: str | list[TextPart] | None = None
    refusal: str | None = None
    name: str | None = None
    tool_calls: list[JsonMap] = msgspec.field(default_factory=list)


class Tool(Strict, frozen=True, tag_field="role", tag="tool"):
    content: str | list[TextPart]
    tool_call_id: str


class Function(Strict, frozen=True):
    name: Name
    description: str | None = None
    parameters: JsonMap | None = None
    strict: bool | None = None


class FunctionTool(Strict, frozen=True, tag_field="type", tag="function"):
    function: Function


class ChosenName(Strict, frozen=True):
    name: Name


class ChosenFunction(Strict, frozen=True, tag_field="type", tag="function"):
    function: ChosenName


class TextFormat(Strict, frozen=True, tag_field="type", tag="text"):
    pass


class JsonObjectFormat(Strict, frozen=True, tag_field="type", tag="json_object"):
    pass


class JsonSchema(Strict, frozen=True):
    name: Name
    schema: JsonMap | None = None
    description: str | None = None
    strict: bool | None = None


class JsonSchemaFormat(Strict, frozen=True, tag_field="type", tag="json_schema"):
    json_schema: JsonSchema


class ChatRequest(Strict, frozen=True):
    messages: Annotated[list[System | Developer | User | Assistant | Tool], msgspec.Meta(min_length=1)]
    model: str = ""
    audio: JsonMap | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: JsonMap | None = None
    logprobs: bool | None = None
    max_completion_tokens: PositiveInt | None = None
    max_tokens: PositiveInt | None = None
    metadata: dict[str, str] | None = None
    modalities: list[Literal["text", "audio"]] | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=128)] | None = None
    parallel_tool_calls: bool | None = None
    prediction: JsonMap | None = None
    presence_penalty: Penalty | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    response_format: TextFormat | JsonObjectFormat | JsonSchemaFormat | None = None
    safety_identifier: str | None = None
    seed: int | None = None
    service_tier: str | None = None
    stop: str | list[str] | None = None
    store: bool | None = None
    stream: bool | None = None
    stream_options: JsonMap | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ChosenFunction | None = None
    tools: Annotated[list[FunctionTool], msgspec.Meta(min_length=1, max_length=128)] | None = None
    top_logprobs: int | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    user: str | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
    web_search_options: JsonMap | None = None
