"""A fake of the expression package, with just enough syntax to refuse something of each kind."""

from __future__ import annotations

from airflow_allma.exceptions import ExpressionSyntaxError


class BracketChecks:
    """Checks that refuse unbalanced brackets in paths, unbalanced braces in templates, and empty parts."""

    def path(self, text: str) -> None:
        if text.count("[") != text.count("]"):
            raise ExpressionSyntaxError("this [ is never closed", text, text.rfind("["))

    def condition(self, text: str) -> None:
        if not text.startswith("$"):
            raise ExpressionSyntaxError("a condition starts with a JSONPath", text)

    def template(self, text: str) -> None:
        if text.count("{{") != text.count("}}"):
            raise ExpressionSyntaxError("this {{ is never closed", text, text.rfind("{{"))

    def target(self, text: str) -> None:
        if ".." in text or not text:
            raise ExpressionSyntaxError("a key is empty here", text, max(text.find(".."), 0))

    def rendered(self, text: str) -> None:
        self.template(text)

    def target_keys(self, text: str) -> tuple[str, ...]:
        return tuple(text.split("."))

    def path_keys(self, text: str) -> tuple[str, ...] | None:
        return tuple(text.removeprefix("$.").split("."))
