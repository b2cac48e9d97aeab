"""The prompt of a step: a stored one or its own, rendered over the run's data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_allma.common.pointer_key import POINTER_KEY
from airflow_allma.engine.step_handler import StepCall
from airflow_allma.exceptions import ExpressionSyntaxError, PermanentStepError
from airflow_allma.expressions import compile_context_mappings, compile_template
from airflow_allma.expressions.find_references import template_references
from airflow_allma.flow import Bundle, LlmInvocationStep

__all__ = ["Prompt"]


class Prompt:
    """The prompt of a step, compiled once per step.

    ``directPrompt`` takes precedence over ``promptTemplateId``. The published version of a stored prompt with
    the highest number is used.

    Args:
        step: the step.
        bundle: has the stored prompts that the flow uses.
    """

    def __init__(self, step: LlmInvocationStep, bundle: Bundle) -> None:
        self._id = None if step.direct_prompt is not None else step.prompt_template_id
        source = _content(self._id, bundle) if self._id is not None else step.direct_prompt
        self._template = None if source is None else compile_template(source)
        self._names = _required_names(source or "")
        self._mappings = compile_context_mappings(
            {
                name: mapping.model_dump(mode="json", by_alias=True)
                for name, mapping in step.template_context_mappings.items()
            }
        )
        self._warned: set[str] = set()

    def render(self, call: StepCall, root: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Return the prompt, and the variables that ``templateContextMappings`` add.

        Args:
            call: the step's call.
            root: what the template and its mappings see.

        Raises:
            PermanentStepError: no version of the prompt is published, or it renders to nothing.
        """
        if self._template is None:
            raise PermanentStepError(
                f"No published version of prompt {self._id!r} is in the folder of the flow. Add its file, or "
                "set `isPublished` of a version to true."
            )
        variables = self._mappings.resolve(root, call.load)
        data = {**root, **variables}
        prompt = self._template.render(data, call.load)
        if not prompt.strip():
            raise PermanentStepError(
                f"The prompt is empty. {_advice(self._missing(data))}", details={"promptTemplateId": self._id}
            )
        if missing := self._missing(data) - self._warned:
            self._warned |= missing
            call.log.warning(
                "The prompt uses variables that nothing sets: %s (step %s)",
                ", ".join(sorted(missing)),
                call.step_id,
            )
        return prompt, variables

    def _missing(self, data: Mapping[str, Any]) -> set[str]:
        return {".".join(names) for names in self._names if _is_missing(names, data)}


def _content(prompt_id: str, bundle: Bundle) -> str | None:
    versions = [one for one in bundle.prompts if one.id == prompt_id and one.is_published]
    return max(versions, key=lambda one: one.version).content if versions else None


def _required_names(source: str) -> frozenset[tuple[str, ...]]:
    """Return what a template reads outside of blocks, without what it tests or what is below that."""
    try:
        found = [one for one in template_references(source) if not one.in_block]
    except ExpressionSyntaxError:
        return frozenset()
    # The first name does not depend on the data: if it does not exist, the prompt is wrong.
    tested = [one.names for one in found if one.is_tested and one.names[1:]]
    return frozenset(
        one.names for one in found if not any(one.names[: len(names)] == names for names in tested)
    )


def _is_missing(names: tuple[str, ...], data: Mapping[str, Any]) -> bool:
    """Return whether nothing is at a path; False if it goes through a list or a stored value."""
    value: Any = data
    for name in names:
        if isinstance(value, list) or (isinstance(value, str) and name == "length"):
            return False
        if not isinstance(value, Mapping):
            return True
        if name not in value:
            return POINTER_KEY not in value
        value = value[name]
    return False


def _advice(missing: set[str]) -> str:
    if not missing:
        return "Write what the model is to do."
    names = ", ".join(sorted(missing))
    return (
        f"It uses variables that nothing sets: {names}. Correct their names, or set them in "
        "`templateContextMappings`."
    )
