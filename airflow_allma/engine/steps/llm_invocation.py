"""Handler of LLM_INVOCATION: send a prompt to a language model and return its answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Final

from airflow_allma.common.printable import printable, shortened
from airflow_allma.common.work_budget import MEASURE_AFTER, note_data
from airflow_allma.engine.context_size import json_size_up_to
from airflow_allma.engine.llm.candidates import Candidate, CandidateModel, StepMedia
from airflow_allma.engine.llm.json_output import parse_json_output
from airflow_allma.engine.llm.media import read_media
from airflow_allma.engine.llm.model_chain import Answer, ask_models
from airflow_allma.engine.llm.model_request import FinishReason, Media, ModelResponse
from airflow_allma.engine.llm.prompt import Prompt
from airflow_allma.engine.llm.security import check_answer
from airflow_allma.engine.step_handler import AsyncHandler, StepCall
from airflow_allma.flow import Bundle, LlmInvocationStep

__all__ = ["LlmInvocation"]

_QUICK_CHARACTERS: Final = 2_000


class LlmInvocation(AsyncHandler):
    """Handler of LLM_INVOCATION steps.

    The output is ``{"llm_response": <text>}``. With ``customConfig.jsonOutputMode`` it is the JSON object in
    the answer, or ``{"llm_response": <value>}`` for other JSON. ``tool_calls`` has the functions that the
    model calls: ``[{"id"?, "name", "args"}]``. ``_meta`` has prompt, answer and tokens.

    Args:
        step: the step.
        bundle: has the stored prompts that the flow uses.
    """

    notes_data: ClassVar[bool] = True

    def __init__(self, step: LlmInvocationStep, bundle: Bundle) -> None:
        self._prompt = Prompt(step, bundle)
        self._media = StepMedia(step)
        self._models = (
            CandidateModel(step),
            *(CandidateModel(step, one, f"fallbacks[{index}].") for index, one in enumerate(step.fallbacks)),
        )
        security = step.security_validator_config
        self._forbidden = (security.forbidden_strings if security else None) or ()

    async def __call__(self, call: StepCall) -> Any:
        """Ask the models in order and return the first usable answer.

        Raises:
            TransientStepError: the last model did not answer.
            ContentBasedRetryableError: the answer is not JSON although the step requires it.
            PermanentStepError: prompt, tools, attachments or models are not valid, a model refused to answer,
                a key is missing or rejected, the rate limit stayed exceeded (``RateLimitExceededError``), or
                the answer contains a forbidden string (``SecurityViolationError``).
        """
        root = call.root()
        prompt, variables = self._prompt.render(call, root)
        candidates = _with_connections([model.resolve(call, root) for model in self._models])
        sources = self._media.resolve(call, root)
        media = await read_media(sources, call) if sources else ()

        async def make_output(candidate: Candidate, response: ModelResponse) -> dict[str, Any]:
            if len(response.text or "") <= _QUICK_CHARACTERS:
                return self._output(candidate, response)
            # Broken JSON can take seconds, in which the event loop serves other steps.
            return await call.services.threads.run(self._output, candidate, response)

        answer = await ask_models(candidates, prompt, media, call, make_output)
        # With the prompt, the answer is in `_meta` too.
        note_data(len(prompt) + 4 * len(answer.response.text or ""))
        if answer.response.tool_calls:
            note_data(json_size_up_to(answer.output["tool_calls"], MEASURE_AFTER))
        if answer.response.finish is FinishReason.LENGTH:
            call.log.warning(
                "The answer was cut at the limit of %d tokens; raise inferenceParameters.maxOutputTokens "
                "(model %s, step %s)",
                answer.candidate.parameters.max_output_tokens,
                answer.candidate.model,
                call.step_id,
            )
        meta = _meta(answer, prompt, variables, media, call)
        return {**answer.output, "_meta": meta}

    def _output(self, candidate: Candidate, response: ModelResponse) -> dict[str, Any]:
        """Return the step's output without ``_meta``; raise if the flow cannot use the answer."""
        output: dict[str, Any]
        if candidate.json_output and not (response.tool_calls and not (response.text or "").strip()):
            value = parse_json_output(
                response.text,
                is_cut=response.finish is FinishReason.LENGTH,
                max_output_tokens=candidate.parameters.max_output_tokens,
            )
            output = dict(value) if isinstance(value, dict) else {"llm_response": value}
        else:
            output = {"llm_response": response.text}
        if response.tool_calls:
            output["tool_calls"] = [
                {**({} if one.id is None else {"id": one.id}), "name": one.name, "args": one.args}
                for one in response.tool_calls
            ]
        if self._forbidden:
            check_answer(self._forbidden, response.text, output)
        return output


def _with_connections(candidates: list[Candidate]) -> list[Candidate]:
    """Return the models, each with the step's own connection if it is of the same provider."""
    first = candidates[0]
    return [
        replace(one, connection=first.connection)
        if one.connection is None and one.model.provider is first.model.provider
        else one
        for one in candidates
    ]


def _meta(
    answer: Answer, prompt: str, variables: Mapping[str, Any], media: tuple[Media, ...], call: StepCall
) -> dict[str, Any]:
    response, candidate, usage = answer.response, answer.candidate, answer.response.usage
    meta: dict[str, Any] = {
        "tokenUsage": {"inputTokens": usage.input_tokens, "outputTokens": usage.output_tokens},
        "llmInvocationParameters": {
            "llmProvider": candidate.model.provider.value,
            "modelId": candidate.model.model_id,
            **candidate.parameters.to_dict(),
            "finishReason": response.finish.value,
        },
        "llmPrompt": prompt,
        "llmRawResponse": response.text,
        "templateContextMappingResult": variables,
    }
    if media:
        meta["llmInvocationParameters"]["media"] = {
            "count": len(media),
            "mimeTypes": [file.mime_type for file in media],
        }
    if answer.is_cached:
        meta["isCached"] = True
    elif (price := call.services.models.price(candidate.model)) is not None:
        meta["tokenUsage"]["cost"] = {"amount": price.of(usage), "currency": price.currency}
    if response.model and response.model != candidate.model.model_id:
        meta["answeredBy"] = shortened(printable(response.model), 200)
    if response.grounding is not None:
        meta["groundingMetadata"] = response.grounding
    if response.tool_calls:
        meta["toolCalls"] = answer.output["tool_calls"]
    return meta
