"""A flow as operators hold it: shared by all tasks of its Dag, compiled when a task first needs it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from airflow_allma.flow import Flow

if TYPE_CHECKING:
    from airflow_allma.engine import CompiledFlows, CompiledFork, FlowProgram
    from airflow_allma.flow.mail_routes import MailRoute

__all__ = ["FindFlow", "FlowRef"]

FindFlow = Callable[[str, str], Flow]
"""Returns one version of a flow of the same loader, or raises a PermanentStepError; see ``find_flow``."""


class FlowRef:
    """One flow of one Dag.

    Airflow copies operators; the reference is never copied with them, so that a flow is compiled once per
    process.

    Args:
        flow: the flow.
        find: finds the flows that its steps run; None if the flow was loaded alone.
        mail: the start points for e-mails of all flows, if this flow has one.
    """

    def __init__(self, flow: Flow, find: FindFlow | None = None, mail: tuple[MailRoute, ...] = ()) -> None:
        self.flow = flow
        self.mail = mail
        self._find = find
        self._program: FlowProgram | None = None

    @property
    def program(self) -> FlowProgram:
        """The compiled flow."""
        if self._program is None:
            from airflow_allma.engine import compile_flow

            self._program = compile_flow(self.flow)
        return self._program

    @cached_property
    def flows(self) -> CompiledFlows | None:
        """The flows that its steps can run, each read and compiled when a task first needs it."""
        if self._find is None:
            return None
        from airflow_allma.engine import CompiledFlows

        return CompiledFlows(self._find)

    def fork(self, step_id: str) -> CompiledFork:
        """Return a fork of the main path.

        Raises:
            LookupError: the step does not exist, or it does not fork.
        """
        return self.program.fork(step_id)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __repr__(self) -> str:
        # Part of the serialized Dag of mapped tasks: must be the same in every process.
        return f"<flow {self.flow.id} version {self.flow.version}>"
