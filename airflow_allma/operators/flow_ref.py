"""A flow as operators hold it: shared by all tasks of its Dag, compiled when a task first needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from airflow_allma.flow import Flow

if TYPE_CHECKING:
    from airflow_allma.engine import CompiledFork, FlowProgram

__all__ = ["FlowRef"]


class FlowRef:
    """One flow of one Dag.

    Airflow copies operators; the reference is never copied with them, so that a flow is compiled once per
    process.
    """

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self._program: FlowProgram | None = None

    @property
    def program(self) -> FlowProgram:
        """The compiled flow."""
        if self._program is None:
            from airflow_allma.engine import compile_flow

            self._program = compile_flow(self.flow)
        return self._program

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
