"""From a validated flow to a program with the handlers of all step types."""

from __future__ import annotations

from collections.abc import Callable

from airflow_allma.engine.flow_library import FlowLibrary
from airflow_allma.engine.flow_program import FlowProgram
from airflow_allma.engine.steps import HANDLERS
from airflow_allma.exceptions import PermanentStepError
from airflow_allma.flow import Flow

__all__ = ["CompiledFlows", "compile_flow"]


def compile_flow(flow: Flow) -> FlowProgram:
    """Compile a flow that was validated when it was loaded.

    Raises:
        ExpressionSyntaxError: an expression cannot be parsed.
    """
    return FlowProgram(flow, HANDLERS)


class CompiledFlows(FlowLibrary):
    """The flows of one configuration, each compiled when it is first needed.

    Args:
        find: returns one version of a flow, or raises a PermanentStepError, as ``find_flow`` does. It is
            called once for each flow and version, also for those that it does not find.
    """

    def __init__(self, find: Callable[[str, str], Flow]) -> None:
        self._find = find
        self._found: dict[tuple[str, str], FlowProgram | PermanentStepError] = {}

    def program(self, flow_id: str, version: str, /) -> FlowProgram:
        """Return the program of a flow; see ``FlowLibrary``."""
        found = self._found.get((flow_id, version))
        if found is None:
            found = self._found[flow_id, version] = self._compile(flow_id, version)
        if isinstance(found, PermanentStepError):
            # The runner adds to an error's details where it happened.
            raise PermanentStepError(found.message, details=found.details, error_name=found.error_name)
        return found

    def _compile(self, flow_id: str, version: str) -> FlowProgram | PermanentStepError:
        try:
            return compile_flow(self._find(flow_id, version))
        except PermanentStepError as error:
            return error
