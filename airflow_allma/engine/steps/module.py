"""Handlers of steps that run a system module: DATA_LOAD, DATA_SAVE, DATA_TRANSFORMATION, messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from airflow_allma.common.aws_calls import observed
from airflow_allma.engine.modules import MODULES, ModuleContext, run_module
from airflow_allma.engine.modules.compose_object import compose_object
from airflow_allma.engine.step_handler import AsyncHandler, Handler, InlineHandler, StepCall
from airflow_allma.exceptions import WorkLimitError
from airflow_allma.expressions import compile_config, compile_template
from airflow_allma.flow import Step

__all__ = ["BlockingModule", "InlineModule", "module_handler", "run_in_thread"]

_T = TypeVar("_T")


class _ModuleStep:
    """Base of both handlers: renders the custom config below the step's input."""

    def __init__(self, step: Step, identifier: str | None = None) -> None:
        self._identifier = identifier or step.module_identifier or ""
        if (model := MODULES[self._identifier].input_model) is not None:
            # Built here, once: threads that use it first must not build it at the same time.
            model.model_rebuild()
        self._config = compile_config(step.custom_config) if step.custom_config else None
        self._keys = {
            name: {key: compile_template(key) for key in step.custom_config[name]}
            for name in MODULES[self._identifier].templated_keys
            if isinstance(step.custom_config.get(name), dict)
        }

    def effective_input(self, call: StepCall) -> dict[str, Any]:
        """Return ``{...rendered custom config, ...input}``, a shallow merge."""
        return call.input if self._config is None else {**self.rendered_config(call), **call.input}

    def rendered_config(self, call: StepCall) -> dict[str, Any]:
        """Return the rendered custom config; an empty object if the step has none."""
        if self._config is None:
            return {}
        root = {} if self._config.is_static and not self._keys else call.root()
        config: dict[str, Any] = self._config.render(root, call.load)
        for name, templates in self._keys.items():
            rendered = config.get(name, {})
            config[name] = {templates[key].render(root, call.load): value for key, value in rendered.items()}
        return config


class InlineModule(_ModuleStep, InlineHandler):
    """Handler of a pure transformation, which runs on the event loop."""

    def __init__(self, step: Step) -> None:
        super().__init__(step)
        module = MODULES[self._identifier]
        self._function = module.function if module.input_model is None else None
        self.returns_input = self._function is compose_object and self._config is None

    def __call__(self, call: StepCall) -> Any:
        """Return the module's output."""
        if self._function is not None:
            return self._function(call.input if self._config is None else self.effective_input(call))
        try:
            return run_module(self._identifier, self.effective_input(call))
        except WorkLimitError as error:
            raise error.at(self._identifier) from None


class BlockingModule(_ModuleStep, AsyncHandler):
    """Handler of a module that does I/O, which runs in a thread."""

    blocks_thread: ClassVar[bool] = True

    def __init__(self, step: Step, identifier: str | None = None) -> None:
        super().__init__(step, identifier)
        self.has_side_effects = MODULES[self._identifier].has_side_effects

    async def __call__(self, call: StepCall) -> Any:
        """Return the module's output."""
        return await run_in_thread(call, run_module, self._identifier, self.effective_input(call))


async def run_in_thread(call: StepCall, function: Callable[..., _T], *args: Any) -> _T:
    """Run a function in a thread, with what modules need as its last argument; record its calls of AWS.

    Args:
        call: the step's call.
        function: blocks; called with ``args`` and a ``ModuleContext``.
        args: its first arguments.
    """
    services = call.services
    context = ModuleContext(
        store=services.store,
        aws=services.aws,
        settings=services.settings,
        log=services.log,
        calls=call.calls,
    )
    return await services.threads.run(observed, call.calls.add, function, *args, context)


def module_handler(step: Step) -> Handler:
    """Return the handler of a module step, whose module is known to exist (validated at load time)."""
    module = MODULES[step.module_identifier or ""]
    return BlockingModule(step) if module.blocking else InlineModule(step)
