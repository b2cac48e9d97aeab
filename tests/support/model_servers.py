"""Fake models on loopback, and requests to them in the format of each vendor."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from demo.model_servers import ModelServer, running_models

KEY = "sk-a-key-of-tests"
SIGNATURE = (
    "AWS4-HMAC-SHA256 Credential=AKID/20260101/eu-central-1/bedrock/aws4_request, SignedHeaders=host, "
    f"Signature={'0' * 64}"
)
OPENAI = ("/v1/chat/completions", {"Authorization": f"Bearer {KEY}"})
AZURE = ("/openai/deployments/fake/chat/completions?api-version=2024-10-21", {"api-key": KEY})
ANTHROPIC = ("/v1/messages", {"x-api-key": KEY, "anthropic-version": "2023-06-01"})
GEMINI = ("/v1beta/models/fake:generateContent", {"x-goog-api-key": KEY})
VERTEX = ("/v1/projects/p/locations/eu/publishers/google/models/fake:generateContent", {})
CONVERSE = ("/model/fake/converse", {"Authorization": SIGNATURE})


@pytest.fixture
def models() -> Iterator[ModelServer]:
    """A server of fake models, all of which answer ``OK``."""
    with running_models() as server:
        yield server


@pytest.fixture(scope="session")
def private_key() -> str:
    """The key of a service account, as PEM."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def openai_body(prompt: str = "Say OK", **more: Any) -> dict[str, Any]:
    return {"model": "fake", "messages": [{"role": "user", "content": prompt}], **more}


def anthropic_body(prompt: str = "Say OK", **more: Any) -> dict[str, Any]:
    return openai_body(prompt, **{"max_tokens": 100, **more})


def gemini_body(prompt: str = "Say OK", **more: Any) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": [{"text": prompt}]}], **more}


def converse_body(prompt: Any = "Say OK", **more: Any) -> dict[str, Any]:
    blocks = prompt if isinstance(prompt, list) else [{"text": prompt}]
    return {"messages": [{"role": "user", "content": blocks}], **more}


BODIES = {
    OPENAI[0]: openai_body,
    AZURE[0]: openai_body,
    ANTHROPIC[0]: anthropic_body,
    GEMINI[0]: gemini_body,
    CONVERSE[0]: converse_body,
}


def post(server, vendor, body=None, headers=None, *, data=None):
    """Return status, headers and JSON of a response."""
    path, usual = vendor
    content = data if data is not None else json.dumps(BODIES[path]() if body is None else body).encode()
    request = Request(server.url + path, content, usual if headers is None else headers)
    request.add_header("Content-Type", "application/json")
    return send(request)


def send(request):
    try:
        with urlopen(request, timeout=10) as response:
            return response.status, response.headers, json.loads(response.read())
    except HTTPError as error:
        return error.code, error.headers, json.loads(error.read())


def text_of(vendor, answer):
    """Return the text of an answer; None without."""
    if vendor in (OPENAI, AZURE):
        return answer["choices"][0]["message"]["content"]
    if vendor is ANTHROPIC:
        return next((block["text"] for block in answer["content"] if block["type"] == "text"), None)
    if vendor is CONVERSE:
        blocks = answer["output"]["message"]["content"]
        return next((block["text"] for block in blocks if "text" in block), None)
    parts = answer["candidates"][0].get("content", {}).get("parts", [])
    return next((part["text"] for part in parts if "text" in part), None)


def finish_of(vendor, answer):
    if vendor in (OPENAI, AZURE):
        return answer["choices"][0]["finish_reason"]
    if vendor is ANTHROPIC:
        return answer["stop_reason"]
    return answer["stopReason"] if vendor is CONVERSE else answer["candidates"][0]["finishReason"]


def usage_of(vendor, answer):
    """Return input, output and cached tokens as the vendor reports them."""
    names = {
        OPENAI[0]: ("usage", "prompt_tokens", "completion_tokens"),
        AZURE[0]: ("usage", "prompt_tokens", "completion_tokens"),
        ANTHROPIC[0]: ("usage", "input_tokens", "output_tokens"),
        GEMINI[0]: ("usageMetadata", "promptTokenCount", "candidatesTokenCount"),
        CONVERSE[0]: ("usage", "inputTokens", "outputTokens"),
    }
    name, *counts = names[vendor[0]]
    return tuple(answer[name][count] for count in counts)
