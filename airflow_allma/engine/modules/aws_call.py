"""One call of AWS about one resource: its client, and its errors as step errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from airflow_allma.engine.errors import step_error_from
from airflow_allma.engine.modules.definition import ModuleContext

__all__ = ["AwsResource"]

_UNKNOWN: Final = (
    "AWS.SimpleQueueService.NonExistentQueue",
    "InvalidAddress",
    "NotFound",
    "NotFoundException",
    "QueueDoesNotExist",
    "ResourceNotFoundException",
)


@dataclass(frozen=True, slots=True)
class AwsResource:
    """A queue, a topic or a function.

    Attributes:
        service: boto3's name of its service.
        label: the service and what it is, for messages: ``SQS queue``.
        setting: the setting of the step that names it.
        name: its name, as that setting has it.
        region: its region; None for the connection's own.
    """

    service: str
    label: str
    setting: str
    name: str
    region: str | None

    def call(
        self, context: ModuleContext, operation: str, *, retries: bool = False, **parameters: Any
    ) -> Mapping[str, Any]:
        """Make one call, which the engine repeats after a TransientStepError.

        Args:
            context: has the clients.
            operation: boto3's method, such as ``send_message``.
            retries: whether boto3 retries too, for calls after which the engine must not start again.
            parameters: the parameters of the method.

        Raises:
            StepError: AWS rejected the call or did not respond.
        """
        with self.translated(context, operation):
            response: Mapping[str, Any] = getattr(self.client(context, retries=retries), operation)(
                **parameters
            )
        return response

    def client(self, context: ModuleContext, *, retries: bool = False) -> Any:
        """Return the client for calls about the resource.

        Raises:
            StepError: no credentials are configured, or no client can be made with them.
        """
        return context.require_aws().client(self.service, self.region, retries=retries)

    @contextmanager
    def translated(self, context: ModuleContext, operation: str) -> Iterator[None]:
        """Raise step errors, which name the resource, instead of boto3's."""
        try:
            yield
        except Exception as error:
            raise step_error_from(
                error,
                doing=f"{operation} of {self.label} {self.name!r}",
                connection=context.require_aws().connection,
                details={self.setting: self.name},
                advice=dict.fromkeys(_UNKNOWN, self._advice()),
            ) from error

    def _advice(self) -> str:
        return (
            f"Check `{self.setting}` of the step, and whether the connection is of the right account "
            "([allma] aws_conn_id, or airflow.awsConnId of the flow)."
        )
