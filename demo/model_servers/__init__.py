"""Fake language models on loopback, which speak the formats of four vendors.

They serve tests, benchmarks and the demo: ``python -m demo.model_servers --port 0``, or `running_models` in
the process of a test.

    POST /v1/chat/completions                                  OpenAI; key: Authorization: Bearer
    POST /openai/deployments/{model}/chat/completions          Azure; key: api-key
    POST /openai/v1/chat/completions                           Azure
    POST /v1/messages                                          Anthropic; key: x-api-key
    POST /v1beta/models/{model}:generateContent                Gemini; key: x-goog-api-key, or ?key=
    POST /v1/projects/{project}/locations/{location}/publishers/google/models/{model}:generateContent
                                                               Vertex AI; a token of POST /token
    POST /model/{model}/converse                               Bedrock; AWS signature or Authorization: Bearer

    GET, DELETE /requests    the last requests; forget them
    GET /stats               counts: calls, in flight, statuses, models
    PUT /behaviour           model -> `Behaviour`
    GET /health

Each checks requests as its vendor documents them: an unknown field is an error. A word counts as a token.
"""

from __future__ import annotations

from demo.model_servers.behaviour import Behaviour, CalledTool, Limit
from demo.model_servers.request_log import LoggedRequest
from demo.model_servers.running import ModelServer, models_process, running_models
from demo.model_servers.server import ANY_MODEL, ModelService

__all__ = [
    "ANY_MODEL",
    "Behaviour",
    "CalledTool",
    "Limit",
    "LoggedRequest",
    "ModelServer",
    "ModelService",
    "models_process",
    "running_models",
]
