"""The URLs of Google's models."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

from airflow_allma.common.printable import printable, shortened
from airflow_allma.engine.llm.model_request import ModelName
from airflow_allma.exceptions import PermanentStepError

__all__ = ["model_url"]

# A model comes from data, and must not lead to another method or resource.
_PATH: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]*(?:/[A-Za-z0-9][A-Za-z0-9._@-]*)*")
_MAX_PATH: Final = 1_000


def model_url(base_url: str, path: str, model: ModelName) -> str:
    """Return the URL of a model's method generateContent.

    Args:
        base_url: up to the API's version.
        path: the model's resource name, such as ``models/gemini-2.5-flash``.
        model: the model, for errors.

    Raises:
        PermanentStepError: the path is not a resource name.
    """
    if len(path) > _MAX_PATH or not _PATH.fullmatch(path):
        shown = shortened(printable(model.model_id), 100)
        raise PermanentStepError(
            f"modelId {shown!r} is not the name of a model of {model.provider.value}, such as "
            "gemini-2.5-flash.",
            details={"provider": model.provider.value, "model": shown},
        )
    return f"{base_url}/{quote(path, safe='/@')}:generateContent"
