"""What a model says, by its behaviour."""

from __future__ import annotations

from demo.model_servers.behaviour import Behaviour, CalledTool
from demo.model_servers.exchange import Asked, Reply

__all__ = ["make_reply", "text_of"]


def make_reply(asked: Asked, behaviour: Behaviour) -> Reply:
    """Return the model's reply to a request."""
    calls = tuple(tool for tool in behaviour.tool_calls if tool.name in asked.functions)
    if asked.needs_tool and asked.functions and not calls:
        calls = (CalledTool(name=asked.functions[0]),)
    text = behaviour.refusal or ("" if calls else text_of(asked.prompt, behaviour))
    text, incomplete = _shorten(text, asked, behaviour)
    return Reply(
        text,
        input_tokens=asked.tokens + behaviour.cached_tokens,
        output_tokens=len(text.split()) + 10 * len(calls) + behaviour.reasoning_tokens,
        behaviour=behaviour,
        calls=calls,
        incomplete=incomplete,
    )


def text_of(prompt: str, behaviour: Behaviour) -> str:
    """Return the text of an answer to a prompt, as it is sent."""
    return _wrap(_plain_text(prompt, behaviour), behaviour)


def _plain_text(prompt: str, behaviour: Behaviour) -> str:
    if behaviour.keywords:
        after = behaviour.keywords_after
        searched = (prompt.rpartition(after)[2] if after else prompt).lower()
        for keyword, text in behaviour.keywords.items():
            if keyword.lower() in searched:
                return text
    return prompt if behaviour.echo else behaviour.answer


def _wrap(text: str, behaviour: Behaviour) -> str:
    match behaviour.wrap:
        case "fence":
            return f"```json\n{text}\n```"
        case "prose":
            return f"Here is the JSON that you asked for:\n\n{text}\n\nPlease say if you need anything else."
        case "cut":
            return text[: len(text) * 2 // 3]
    return text


def _shorten(text: str, asked: Asked, behaviour: Behaviour) -> tuple[str, bool]:
    limits = [limit for limit in (asked.max_tokens, behaviour.max_words) if limit is not None]
    limit = min(limits, default=None)
    if limit is None or len(text) <= limit or len(text.split()) <= limit:
        return text, False
    kept, found = 0, 0
    while found < limit:
        start = next(i for i in range(kept, len(text)) if not text[i].isspace())
        kept = next((i for i in range(start, len(text)) if text[i].isspace()), len(text))
        found += 1
    return text[:kept], True
