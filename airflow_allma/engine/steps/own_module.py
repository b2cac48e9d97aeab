"""Handler of steps whose module is not the language's: Python code, a Lambda function or an HTTP service."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import msgspec

from airflow_allma.common.foreign_errors import FOREIGN_ERRORS
from airflow_allma.common.printable import printable, shortened
from airflow_allma.engine.errors import step_error_from
from airflow_allma.engine.http_calls import recorded_request
from airflow_allma.engine.module_call import ModuleCall
from airflow_allma.engine.own_modules import HttpModule, LambdaModule, PythonModule
from airflow_allma.engine.response_body import response_data
from airflow_allma.engine.state import state_view
from airflow_allma.engine.step_handler import AsyncHandler, StepCall
from airflow_allma.engine.steps.lambda_invoke import LambdaCall, invoke_function
from airflow_allma.engine.steps.module import run_in_thread
from airflow_allma.engine.steps.request_plan import RequestPlan
from airflow_allma.exceptions import AllmaError, PermanentStepError, StorageError
from airflow_allma.expressions import compile_config
from airflow_allma.flow import Step, StepType
from airflow_allma.storage import encode_value

__all__ = ["OwnModuleStep"]

_MAX_SHOWN: Final = 2000
_HEADERS: Final = {"Content-Type": "application/json"}
# The types whose name says that they only read or compute.
_READING_TYPES: Final = frozenset({StepType.DATA_LOAD, StepType.DATA_TRANSFORMATION})


class OwnModuleStep(AsyncHandler):
    """Handler of steps that name a module of the installation, on any step type that has modules.

    A Python module gets ``{...rendered customConfig, ...input}`` and returns the output. Others get
    ``{"stepDefinition", "stepInput", "runtimeState"}`` and return ``{"outputData"}``.
    """

    blocks_thread: ClassVar[bool] = True

    def __init__(self, step: Step) -> None:
        self._identifier = step.module_identifier or ""
        self._config = compile_config(step.custom_config) if step.custom_config else None
        self._definition = step.model_dump(mode="json", by_alias=True, exclude_unset=True)
        self._plans: dict[HttpModule, RequestPlan] = {}
        self.has_side_effects = step.step_type not in _READING_TYPES

    async def __call__(self, call: StepCall) -> Any:
        """Call the module and return its output.

        Raises:
            StepError: the module raised an error or is not registered any more, or its output is not JSON.
        """
        config = self._config.render(call.root(), call.load) if self._config is not None else {}
        module = call.services.own_modules.find(self._identifier)
        if isinstance(module, PythonModule):
            return await self._run_python(module, call, config)
        request = {
            "stepDefinition": {**self._definition, "stepInstanceId": call.step_id, "customConfig": config},
            "stepInput": call.input,
            "runtimeState": state_view(call.info, call.context, call.step_id, call.state, call.tries),
        }
        if isinstance(module, LambdaModule):
            return _output_data(await self._invoke(module, call, request), self._identifier)
        return _output_data(await self._post(module, call, request), self._identifier)

    async def _run_python(self, module: PythonModule, call: StepCall, config: Mapping[str, Any]) -> Any:
        info, services = call.info, call.services
        inputs = {**config, **call.input}
        module_call = ModuleCall(
            module_identifier=self._identifier,
            step_id=call.step_id,
            config=config,
            flow_id=info.flow_id,
            flow_version=info.flow_version,
            flow_execution_id=info.flow_execution_id,
            branch_id=info.branch_id,
            item_index=info.item_index,
            log=services.log,
            _context=call.context,
            _store=services.store,
        )
        try:
            if module.is_async:
                output = await _awaited(module, inputs, module_call)
            else:
                output = await services.threads.run(_called, module, inputs, module_call)
        except AllmaError as error:
            raise step_error_from(error) from error
        except FOREIGN_ERRORS as error:
            raise _failure(self._identifier, error) from error
        return _as_json(output, self._identifier)

    async def _invoke(self, module: LambdaModule, call: StepCall, content: Mapping[str, Any]) -> Any:
        invocation = LambdaCall(module.function, content, f"[allma] external_modules, {self._identifier!r}")
        return await run_in_thread(call, invoke_function, invocation)

    async def _post(self, module: HttpModule, call: StepCall, content: Mapping[str, Any]) -> Any:
        plan = self._plans.get(module)
        if plan is None:
            plan = self._plans[module] = RequestPlan(module.url, connection=module.connection)
        request = await plan.prepare(call, {}, _HEADERS)
        response = await recorded_request(
            call.calls,
            call.services.http,
            "POST",
            request.url,
            headers=dict(request.headers.values()),
            body=encode_value(content),
            timeout=request.timeout or module.timeout,
            options=request.options,
            shown_url=request.shown_url,
        )
        request.check("POST", response, call.services.secrets.masks)
        return response_data(response, f"POST {request.shown_url}").value


def _called(module: PythonModule, inputs: Any, call: ModuleCall) -> Any:
    """Call a function in its thread, where nothing but exceptions must come out."""
    try:
        return module.function(inputs, call)
    except BaseException as error:
        if isinstance(error, Exception):
            raise
        # In the event loop, a CancelledError would look as if the step itself were cancelled.
        raise _failure(call.module_identifier, error) from error


async def _awaited(module: PythonModule, inputs: Any, call: ModuleCall) -> Any:
    """Await a coroutine function, which can end with the CancelledError of something that it waited for."""
    task = asyncio.current_task()
    try:
        return await module.function(inputs, call)
    except asyncio.CancelledError as error:
        if task is not None and task.cancelling():
            raise
        raise _failure(call.module_identifier, error) from error


def _failure(identifier: str, error: BaseException) -> PermanentStepError:
    text = shortened(printable(str(error)), _MAX_SHOWN)
    return PermanentStepError(
        f"Module {identifier!r} failed: {type(error).__name__}{f': {text}' if text else ''}",
        details={"moduleIdentifier": identifier, "errorType": type(error).__name__},
    )


def _as_json(output: Any, identifier: str) -> Any:
    """Return an output as plain JSON values, which share nothing with the module's own; ``{}`` for None."""
    if output is None:
        return {}
    try:
        return msgspec.json.decode(encode_value(output))
    except (StorageError, msgspec.DecodeError) as error:
        raise PermanentStepError(
            f"The output of module {identifier!r} is not JSON: "
            f"{shortened(printable(str(error)), _MAX_SHOWN)} "
            "Return strings, numbers, booleans, None, lists and dictionaries.",
            details={"moduleIdentifier": identifier},
        ) from error


def _output_data(answer: Any, identifier: str) -> Any:
    if not isinstance(answer, dict):
        raise PermanentStepError(
            f"The answer of module {identifier!r} must be an object with outputData; it is not an object.",
            details={"moduleIdentifier": identifier},
        )
    output = answer.get("outputData")
    # As in JavaScript, nothing, false, 0 and "" are no output.
    return output if output or isinstance(output, list) else {}
