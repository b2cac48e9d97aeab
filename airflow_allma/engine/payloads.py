"""The payload of a run, measured by the flow's ``airflow.inputSchema``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from airflow_allma.exceptions import PermanentStepError
from airflow_allma.flow import Flow
from airflow_allma.flow.input_schema import fit_payload

__all__ = ["PAYLOAD_ERROR", "validate_payload"]

PAYLOAD_ERROR: Final = "PayloadError"
"""``errorName`` of a run whose payload does not fit."""


def validate_payload(flow: Flow, payload: Mapping[str, Any]) -> Mapping[str, Any]:
    """The payload with the schema's defaults; as it is for a flow without a schema.

    Raises:
        PermanentStepError: it does not fit; with every reason.
    """
    schema = flow.airflow.input_schema
    if schema is None:
        return payload
    fitting, reasons = fit_payload(schema, payload)
    if reasons:
        raise PermanentStepError(
            f"The payload does not fit the flow's airflow.inputSchema. {'; '.join(reasons)}.",
            details={"reasons": reasons},
            error_name=PAYLOAD_ERROR,
        )
    return fitting
