"""Pointers in templates: only those that a template refers to are loaded, each once."""

from collections.abc import Mapping
from typing import Any

import pytest

from airflow_allma.exceptions import ExpressionEvaluationError
from airflow_allma.expressions import compile_template


def pointer(key: str, **siblings: Any) -> dict[str, Any]:
    return {"_s3_output_pointer": {"bucket": "b", "key": key}, **siblings}


CONTENTS = {
    "user": {"name": "Ada", "address": {"city": "Rome"}, "more": pointer("more")},
    "more": {"text": "deep"},
    "list": [{"id": 1}, {"id": 2}],
    "pointers": [pointer("user"), pointer("user", name="Eve")],
    "empty": [],
    "text": "hello",
    "number": 5,
    "again": pointer("user", name="Bob"),
}
CONTEXT = {
    **{name: pointer(name) for name in CONTENTS},
    "unused": pointer("unused"),
    "both": pointer("user", name="Eve"),
    "holder": {"user": pointer("user")},
    "k": "text",
}


class Store:
    """Loads from CONTENTS and records what is loaded."""

    def __init__(self) -> None:
        self.loaded: list[str] = []

    def load(self, inner: Mapping[str, Any]) -> Any:
        assert inner["bucket"] == "b"
        self.loaded.append(inner["key"])
        return CONTENTS[inner["key"]]


@pytest.mark.parametrize(
    ("template", "expected", "loaded"),
    [
        ("plain {{k}}", "plain text", []),
        ("{{user.name}}", "Ada", ["user"]),
        ("{{user.name}} {{user.address.city}} {{user.name}}", "Ada Rome Ada", ["user"]),
        ("{{holder.user.name}}", "Ada", ["user"]),
        ("{{user.more.text}}", "deep", ["user", "more"]),
        ("{{both.name}}", "Eve", []),
        ("{{both.address.city}}", "Rome", ["user"]),
        ("{{again.name}}", "Bob", ["again", "user"]),
        ("{{again.address.city}}", "Rome", ["again", "user"]),
        ("{{user._s3_output_pointer.key}}", "user", []),
        ("{{text}} {{number}}", "hello 5", ["text", "number"]),
        ("{{user}}", "[object Object]", ["user"]),
        ("{{json number}}{{json text}}", "5hello", ["number", "text"]),
        ("{{json holder}}", '{"user":{"_s3_output_pointer":{"bucket":"b","key":"user"}}}', []),
        ("{{list.length}}{{list.[1].id}}", "22", ["list"]),
        ("{{#each list}}{{id}}{{/each}}", "12", ["list"]),
        (
            "{{#each pointers}}{{name}}{{address.city}} {{/each}}",
            "AdaRome EveRome ",
            ["pointers", "user", "user"],
        ),
        ("{{#each pointers as |p|}}{{p.name}} {{/each}}", "Ada Eve ", ["pointers", "user"]),
        ("{{#each holder}}{{@key}}{{name}}{{/each}}", "userAda", ["user"]),
        ("{{#each holder}}{{#with this}}{{name}}{{/with}}{{/each}}", "Ada", ["user"]),
        ("{{#with user}}{{name}}{{/with}}", "Ada", ["user"]),
        ("{{#user}}{{name}}{{/user}}", "Ada", ["user"]),
        ("{{#if empty}}yes{{else}}no{{/if}}", "no", ["empty"]),
        ("{{#if (eq number 5)}}yes{{/if}}", "yes", ["number"]),
        ("{{default text 'x'}}{{base64 text}}", "helloaGVsbG8=", ["text"]),
        ("{{#each (slice list 1)}}{{id}}{{/each}}", "2", ["list"]),
        ("{{lookup user 'name'}}{{lookup both 'name'}}", "AdaEve", ["user", "user"]),
        ("{{json (lookup . k)}}", '{"_s3_output_pointer":{"bucket":"b","key":"text"}}', []),
        ("{{#with_json_path '$.user.name' as |n|}}{{n}}{{/with_json_path}}", "Ada", ["user"]),
        ("{{#with_json_path '$.user' as |u|}}{{u.name}}{{/with_json_path}}", "Ada", ["user"]),
        ("{{#if false}}{{user.name}}{{/if}}", "", []),
    ],
)
def test_a_pointer_is_loaded_when_a_template_refers_to_it(template: str, expected: str, loaded: list[str]):
    store = Store()
    assert compile_template(template).render(CONTEXT, store.load) == expected
    assert store.loaded == loaded


def test_each_rendering_loads_again():
    store = Store()
    template = compile_template("{{user.name}}")
    template.render(CONTEXT, store.load)
    template.render(CONTEXT, store.load)
    assert store.loaded == ["user", "user"]


def test_the_context_itself_may_be_a_pointer():
    assert compile_template("{{name}} {{this.name}}").render(pointer("user"), Store().load) == "Ada Ada"


@pytest.mark.parametrize(
    "template",
    ["{{user.name}}", "{{user}}", "{{#each list}}{{/each}}", "{{json user}}", "{{lookup user 'name'}}"],
)
def test_without_a_loader_the_error_names_the_pointer_and_the_part(template: str):
    with pytest.raises(ExpressionEvaluationError, match=r"\{\{.*(user|list).*s3://b/(user|list)"):
        compile_template(template).render(CONTEXT)


class CancelledError(BaseException):
    """An exception like the one that stops a task: not an ``Exception``."""


@pytest.mark.parametrize("raised", [CancelledError(), OSError("broken"), KeyError("k"), TypeError("t")])
@pytest.mark.parametrize(
    "template", ["{{user.name}}", "{{#each list}}{{/each}}", "{{#if (eq text 1)}}{{/if}}"]
)
def test_exceptions_of_the_loader_pass_through(raised: BaseException, template: str):
    def load(inner: Mapping[str, Any]) -> Any:
        raise raised

    with pytest.raises(type(raised)) as caught:
        compile_template(template).render(CONTEXT, load)
    assert caught.value is raised


def test_pointers_to_themselves_are_an_error():
    with pytest.raises(ExpressionEvaluationError, match="pointers lead to one another"):
        compile_template("{{a.b}}").render({"a": pointer("x")}, lambda inner: pointer("x"))
