"""Flows that other flows run in tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_allma.engine import CompiledFlows
from airflow_allma.exceptions import PermanentStepError
from airflow_allma.flow import Flow
from tests.support.engine import Json, compose, flow_of

VAT = {
    "rate": compose(
        inputMappings={"net": "$.net"}, literals={"label": "net {{net}}"}, outputMappings={"$.vat": "$"}
    )
}
"""The steps of a flow that waits for nothing."""


def library(flows: Mapping[str, Mapping[str, Json]], **fields: Json) -> CompiledFlows:
    """Return a library of flows: id -> steps, the start first. ``fields`` has further fields of a flow."""

    def find(flow_id: str, version: str) -> Flow:
        if flow_id not in flows:
            raise PermanentStepError(f"{flow_id!r} is not a known flow.")
        return flow_of(flows[flow_id], **{"id": flow_id, **fields.get(flow_id, {})})

    return CompiledFlows(find)


def sub_flow(flow_id: str, **fields: Any) -> Json:
    """Return a step that runs a flow."""
    return {"stepType": "START_SUB_FLOW", "subFlowDefinitionId": flow_id, **fields}


def start_flow(flow_id: str | None = None, **fields: Any) -> Json:
    """Return a START_FLOW_EXECUTION that waits for the other flow."""
    config = {"sync": True, **fields.pop("customConfig", {})}
    named = {} if flow_id is None else {"flowDefinitionId": flow_id}
    return {"stepType": "START_FLOW_EXECUTION", "customConfig": config, **named, **fields}
