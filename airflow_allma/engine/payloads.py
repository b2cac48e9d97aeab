"""Validation of a run's payload against the flow's ``airflow.inputSchema``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from airflow_allma.exceptions import PermanentStepError
from airflow_allma.flow import Flow
from airflow_allma.flow.input_schema import fit_payload

__all__ = ["validate_payload"]

_ERROR_NAME: Final = "PayloadError"


def validate_payload(flow: Flow, payload: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the payload with the schema's defaults, or unchanged if the flow has no schema.

    Raises:
        PermanentStepError: the payload does not match the schema; the message lists every reason.
    """
    schema = flow.airflow.input_schema
    if schema is None:
        return payload
    validated, reasons = fit_payload(schema, payload)
    if reasons:
        raise PermanentStepError(
            f"The payload does not match the flow's airflow.inputSchema. {'; '.join(reasons)}.",
            details={"reasons": reasons},
            error_name=_ERROR_NAME,
        )
    return validated
