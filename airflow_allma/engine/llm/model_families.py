"""Which parameters families of models reject, and how long their answers can be.

The flow language has defaults for all parameters. A default that a model rejects is left out; a value that
the flow sets is sent, and the provider reports what is wrong with it.
"""

from __future__ import annotations

import re
from typing import Final

from airflow_allma.engine.llm.model_request import Parameters

__all__ = ["bedrock_family", "claude_max_tokens", "is_claude", "takes_default_tokens", "takes_sampling"]

# OpenAI's reasoning and search models.
_OPENAI_WITHOUT_SAMPLING: Final = re.compile(
    r"(?:.*[/.:])?(?:o\d|gpt-(?:[5-9]|\d\d)|gpt-[\w.-]*search)", re.IGNORECASE
)
# Claude accepts temperature, top_p and top_k up to version 4.6; later models reject them.
_CLAUDE: Final = re.compile(r"claude", re.IGNORECASE)
_CLAUDE_WITH_SAMPLING: Final = re.compile(
    r"claude-(?:instant|v?[123](?![0-9])"
    r"|(?:opus|sonnet|haiku)-4(?:-[0-6](?![0-9])|-20\d{6}|-latest|-v\d|[@:]|$))",
    re.IGNORECASE,
)
_SHORT_CLAUDE: Final = re.compile(r"claude-(?:instant|v?[12](?![0-9])|3-(?:opus|sonnet|haiku))")
_CLAUDE_3_5: Final = re.compile(r"claude-3-5-")
# OpenAI's models that write 4,096 tokens at most, or have a small context.
_SHORT_GPT: Final = re.compile(r"(?:.*/)?gpt-(?:3\.5|4(?:$|-(?:turbo|\d|32k|vision)))", re.IGNORECASE)
_PREFIX: Final = re.compile(r"(?:global|us-gov|us|eu|apac|au|ca|jp|sa|me|af)\.")
_OWN_NAME: Final = re.compile(r"([a-z0-9-]+)\.[a-z0-9]", re.IGNORECASE)
_OPAQUE: Final = frozenset(
    {
        "application-inference-profile",
        "custom-model",
        "custom-model-deployment",
        "default-prompt-router",
        "imported-model",
        "prompt-router",
        "provisioned-model",
    }
)
"""Resource types whose ARNs do not contain the model's name."""


def takes_sampling(model_id: str) -> bool:
    """Return whether a model accepts temperature, top_p and top_k.

    Args:
        model_id: the model's id at its vendor, at a gateway or in Bedrock.
    """
    if is_claude(model_id):
        return _CLAUDE_WITH_SAMPLING.search(model_id) is not None
    return _OPENAI_WITHOUT_SAMPLING.match(model_id) is None


def is_claude(model_id: str) -> bool:
    """Return whether a model is one of Anthropic's."""
    return _CLAUDE.search(model_id) is not None


def claude_max_tokens(model_id: str, parameters: Parameters) -> int:
    """Return the maximum number of output tokens; an old model's own maximum caps the default."""
    if "max_output_tokens" in parameters.explicit:
        return parameters.max_output_tokens
    if _SHORT_CLAUDE.search(model_id):
        return min(parameters.max_output_tokens, 4_096)
    if _CLAUDE_3_5.search(model_id):
        return min(parameters.max_output_tokens, 8_192)
    return parameters.max_output_tokens


def takes_default_tokens(model_id: str) -> bool:
    """Return whether an OpenAI model accepts the flow language's default of output tokens."""
    return _SHORT_GPT.match(model_id) is None


def bedrock_family(model_id: str) -> str:
    """Return the vendor of a Bedrock model, such as ``anthropic``; empty if its id does not contain it.

    ARNs and the prefixes of inference profiles (``global.``, ``us.`` and so on) are understood.

    Args:
        model_id: an id, an inference profile's id, or an ARN.
    """
    kind, _, name = model_id.rpartition("/")
    if kind.rpartition(":")[2].partition("/")[0] in _OPAQUE:
        return ""
    found = _OWN_NAME.match(_PREFIX.sub("", name, count=1))
    return found[1].lower() if found else ""
