"""What starts runs of a flow besides people, for ``airflow-allma plan``."""

from __future__ import annotations

from typing import Any

from airflow_allma.flow import Flow
from airflow_allma.flow.event_rules import queue_asset_uri
from airflow_allma.flow.mail_routes import mail_routes

__all__ = ["described_starts", "start_lines"]


def described_starts(flow: Flow) -> list[dict[str, Any]]:
    """Return what starts runs: times, assets, messages and e-mails, each with its ``by`` and its facts."""
    options = flow.airflow
    starts: list[dict[str, Any]] = [
        {"by": "schedule", "expression": step.schedule_expression, "step": step.step_instance_id}
        for step in flow.enabled_start_points
    ]
    if options.time_schedule is not None:
        starts.append({"by": "schedule", "expression": options.time_schedule})
    if (assets := options.asset_schedule) is not None:
        starts.append({"by": "assets", "assets": list(assets.assets), "all": assets.requires_all})
    if options.watch is not None:
        url = options.watch.sqs_queue_url
        runs = "one each" if flow.starts_one_each else "one for all that have arrived"
        starts.append({"by": "messages", "queue": url, "asset": queue_asset_uri(url), "runs": runs})
        starts += [
            {"by": "e-mail", "address": one.address, "keyword": one.keyword, "step": one.step_id}
            for one in mail_routes([flow])
        ]
    return starts


def start_lines(starts: list[dict[str, Any]]) -> list[str]:
    """Return the starts as text, one a line."""
    return [f"starts by {one['by']}: {', '.join(_facts(one))}" for one in starts]


def _facts(start: dict[str, Any]) -> list[str]:
    return [f"{name} {_text(value)}" for name, value in start.items() if name != "by" and value is not None]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(value) if isinstance(value, list) else str(value)
