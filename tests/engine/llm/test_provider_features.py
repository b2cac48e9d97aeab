"""Tools and media types that providers do not support: errors before a request is sent."""

from __future__ import annotations

import pytest

from tests.support.model_calls import ModelCalls

LACKING = [
    ("OPENAI", "google_search", "GEMINI, CUSTOM_LAMBDA have it"),
    ("OPENAI", "code_execution", "GEMINI, ANTHROPIC, AWS_BEDROCK, CUSTOM_LAMBDA have it"),
    ("ANTHROPIC", "google_search", "GEMINI, CUSTOM_LAMBDA have it"),
    ("GEMINI", "web_search", "ANTHROPIC, OPENAI, AWS_BEDROCK, CUSTOM_LAMBDA have it"),
    ("AWS_BEDROCK", "google_search", "GEMINI, CUSTOM_LAMBDA have it"),
]


@pytest.mark.parametrize(("provider", "tool", "others"), LACKING)
def test_a_tool_that_the_provider_lacks_is_an_error_that_names_those_that_have_it(provider, tool, others):
    error = ModelCalls(provider).failure(model="m-1", tools=[{"type": tool}])
    assert error.message.startswith(f"{provider} has no tool '{tool}' for model 'm-1'; {others}.")


def test_tools_of_bedrock_are_those_of_amazons_models():
    error = ModelCalls("AWS_BEDROCK").failure(
        model="eu.anthropic.claude-sonnet-4-5-v1:0", tools=[{"type": "web_search"}]
    )
    assert "On Bedrock only models of Amazon (Nova) have it." in error.message


@pytest.mark.parametrize("provider", ["OPENAI", "ANTHROPIC", "GEMINI", "AWS_BEDROCK", "CUSTOM_LAMBDA"])
def test_media_that_no_provider_takes_are_errors(provider):
    error = ModelCalls(provider).failure(media=[["video/mp4", "AAEC"]])
    assert error.message.startswith(f"{provider} takes no media of type 'video/mp4', only application/pdf, ")
