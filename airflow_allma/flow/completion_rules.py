"""Rules for ``onCompletionActions`` that the types of their fields do not express."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from airflow_allma.common.aws_names import parse_queue_url, queue_url_of_arn
from airflow_allma.flow.diagnostics import Diagnostic, Path, Severity, quoted
from airflow_allma.flow.model_base import URL_PATTERN
from airflow_allma.flow.tree_walk import ANY, select

__all__ = ["check_completion_actions"]

_TOPIC: Final = re.compile(r"arn:aws[a-z0-9-]*:sns:[a-z0-9-]+:\d+:[A-Za-z0-9_-]+(?:\.fifo)?")
_FUNCTION: Final = re.compile(r"[A-Za-z0-9_:$.-]{1,400}")
_EVERY_KIND: Final = frozenset({"actionType", "condition", "executeOnStatus", "payloadTemplate"})
_OWN_FIELDS: Final = (
    "apiHttpMethod",
    "connection",
    "customConfig",
    "messageAttributesTemplate",
    "moduleIdentifier",
    "target",
)


@dataclass(frozen=True, slots=True)
class _Kind:
    """One type of action.

    Attributes:
        needs: the fields without which it cannot run -> what each is.
        uses: the other fields that have an effect, besides those of every type.
        target: whether a target can be used; None for actions without one.
        form: what its target must be, as a sentence's end.
    """

    needs: Mapping[str, str]
    uses: frozenset[str] = frozenset()
    target: Callable[[str], bool] | None = None
    form: str = ""


def _is_url(target: str) -> bool:
    return re.match(URL_PATTERN, target) is not None or target.startswith("/")


def _is_queue(target: str) -> bool:
    if queue_url_of_arn(target) is not None:
        return True
    try:
        parse_queue_url(target)
    except ValueError:
        return False
    return True


_ATTRIBUTES: Final = frozenset({"messageAttributesTemplate"})
_KINDS: Final[Mapping[str, _Kind]] = {
    "LOG_ONLY": _Kind({}),
    "API_CALL": _Kind(
        {"target": "the URL to call", "apiHttpMethod": "the HTTP method, such as `POST`"},
        frozenset({"connection"}),
        _is_url,
        "a URL that begins with `https://`, or with `/` and a `connection`",
    ),
    "SNS_SEND": _Kind(
        {"target": "the ARN of a topic"},
        _ATTRIBUTES,
        lambda target: _TOPIC.fullmatch(target) is not None,
        "the ARN of a topic, `arn:aws:sns:<region>:<account>:<topic>`",
    ),
    "SQS_SEND": _Kind(
        {"target": "the URL or the ARN of a queue"},
        _ATTRIBUTES,
        _is_queue,
        "the URL of a queue, `https://sqs.<region>.amazonaws.com/<account>/<queue>`, or its ARN",
    ),
    "CUSTOM_LAMBDA_INVOKE": _Kind(
        {"target": "the name or the ARN of a function"},
        target=lambda target: _FUNCTION.fullmatch(target) is not None,
        form="the name of a function, or its ARN, `arn:aws:lambda:<region>:<account>:function:<name>`",
    ),
    "DATA_SAVE": _Kind(
        {"moduleIdentifier": "the module that saves the data, such as `system/s3-data-saver`"},
        frozenset({"customConfig"}),
    ),
}


def check_completion_actions(flow: Mapping[str, Any]) -> Iterator[Diagnostic]:
    """Yield what keeps an action from running, and what has no effect in it; types are checked elsewhere."""
    for path, action in select(flow, ("onCompletionActions", ANY)):
        name = action.get("actionType") if isinstance(action, dict) else None
        if isinstance(name, str) and name in _KINDS:
            yield from _check(path, action, name, _KINDS[name])


def _check(path: Path, action: Mapping[str, Any], name: str, kind: _Kind) -> Iterator[Diagnostic]:
    for field, meaning in kind.needs.items():
        if not action.get(field):
            yield Diagnostic((*path, field), f"`{field}` is missing; {name} needs {meaning}")
    for field in _OWN_FIELDS:
        if action.get(field) and field not in kind.needs and field not in kind.uses:
            users = [other for other, of in _KINDS.items() if field in of.needs or field in of.uses]
            yield Diagnostic(
                (*path, field),
                f"this has no effect: only {' or '.join(users)} uses it; remove it",
                Severity.WARNING,
                at_key=True,
            )
    target = action.get("target")
    if kind.target is None or not isinstance(target, str) or not target:
        return
    if name == "API_CALL" and "{{" in target:
        yield Diagnostic(
            (*path, "target"),
            "`target` is not a template: every `{{ }}` in it becomes empty; put values into "
            "`payloadTemplate`, and the host into a `connection`",
            Severity.WARNING,
        )
    elif not kind.target(target):
        yield Diagnostic((*path, "target"), f"{quoted(target)} is not {kind.form}")
    elif name == "API_CALL" and target.startswith("/") and not action.get("connection"):
        yield Diagnostic(
            (*path, "target"), "a URL that begins with `/` needs a `connection`, which has the host; add it"
        )
