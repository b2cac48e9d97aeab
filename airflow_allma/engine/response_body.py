"""The body of an HTTP response as a value of the flow."""

from __future__ import annotations

from airflow_allma.common.charsets import charset_of
from airflow_allma.common.json_reader import JsonDocument, NotJsonError, UnreadableJsonError, read_json
from airflow_allma.engine.http_response import HttpResponse
from airflow_allma.exceptions import PermanentStepError

__all__ = ["response_data"]


def response_data(response: HttpResponse, call: str) -> JsonDocument:
    """Return the body as a JSON value if it is JSON, whatever its content type; otherwise as a string.

    Args:
        response: a complete response.
        call: names the request in the error.

    Returns:
        The value, with one warning for each loss: replaced characters, an unknown charset, a body that is
        not the JSON that its content type promises.

    Raises:
        PermanentStepError: the body is JSON that no value can hold.
    """
    if not response.body:
        return JsonDocument("")
    content_type = response.headers.get("content-type", "")
    try:
        return read_json(response.body, charset_of(content_type))
    except UnreadableJsonError as error:
        raise PermanentStepError(
            f"The response of {call} is JSON that cannot be read: {error.reason}."
        ) from error
    except NotJsonError as error:
        warnings = error.warnings
        if error.string and _is_json(content_type):
            warnings += (f"it is not JSON, although its content type says so: {error.reason}",)
        return JsonDocument(error.string, warnings)


def _is_json(content_type: str) -> bool:
    media = content_type.partition(";")[0].strip().lower()
    return media.endswith(("/json", "+json"))
