"""Which EMAIL_START_POINT an e-mail starts: by the recipient's address, then by keyword, in all flows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from airflow_allma.flow.mail_address import mail_address
from airflow_allma.flow.models import Flow

__all__ = ["MailRoute", "find_route", "mail_routes"]


@dataclass(frozen=True, slots=True)
class MailRoute:
    """One start point for e-mails.

    Attributes:
        flow_id: its flow.
        step_id: the step.
        address: the recipient's address, in lower case.
        keyword: what the text of the e-mail must contain; None: any e-mail that no keyword fits.
        pattern: JavaScript's regular expression whose first group becomes ``triggerPattern``.
    """

    flow_id: str
    step_id: str
    address: str
    keyword: str | None
    pattern: str | None

    @property
    def key(self) -> tuple[str, str | None]:
        """What no two routes can have in common."""
        return self.address, self.keyword


def mail_routes(flows: Iterable[Flow]) -> tuple[MailRoute, ...]:
    """Return the start points for e-mails of the flows that watch a queue, in their order."""
    return tuple(
        MailRoute(flow.id, step.step_instance_id, address, step.keyword or None, step.trigger_message_pattern)
        for flow in flows
        if flow.airflow.watch is not None
        for step in flow.mail_start_points
        if (address := mail_address(step.email_address, flow.flow_variables)) is not None
    )


def find_route(routes: Iterable[MailRoute], recipient: str, text: str) -> MailRoute | None:
    """Return the start point of an e-mail: of its keywords that occur in the text, the first in order.

    Args:
        routes: the start points of all flows.
        recipient: the first recipient's address.
        text: the plain text.

    Returns:
        The one without a keyword if no keyword occurs; None if there is none for the address.
    """
    address = recipient.strip().lower()
    default: MailRoute | None = None
    for route in sorted((one for one in routes if one.address == address), key=lambda one: one.keyword or ""):
        if route.keyword is None:
            default = route
        elif route.keyword in text:
            return route
    return default
