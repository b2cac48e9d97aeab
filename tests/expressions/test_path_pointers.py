"""Only the pointers on the way of a path are loaded."""

import copy
from collections.abc import Mapping
from typing import Any

import pytest

from airflow_allma.exceptions import ExpressionEvaluationError
from airflow_allma.expressions import NOTHING, compile_condition, compile_path


def pointer(key: str, **siblings: Any) -> dict[str, Any]:
    return {"_s3_output_pointer": {"bucket": "b", "key": key}, **siblings}


class Store:
    """Objects by key; remembers what was loaded."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.objects: dict[str, Any] = {
            "object": {"x": {"y": 1}, "both": "loaded", "price": 9},
            "list": [{"id": 1}, {"id": 2}],
            "text": "abc",
            "number": 5,
            "chain": pointer("object"),
            "loop": pointer("loop"),
            "nested": {"inner": pointer("object")},
        }

    def __call__(self, inner: Mapping[str, Any]) -> Any:
        self.loaded.append(inner["key"])
        return self.objects[inner["key"]]


DATA = {
    "object": pointer("object"),
    "mixed": pointer("object", both="mine", z=2),
    "beside": pointer("object", x={"z": 2}),
    "list": pointer("list"),
    "text": pointer("text"),
    "named": pointer("number", name="five"),
    "chain": pointer("chain"),
    "loop": pointer("loop"),
    "nested": pointer("nested"),
    "several": [pointer("object"), {"price": 1}, pointer("object", price=3)],
    "no": {"_s3_output_pointer": "text"},
    "key": "x",
}

FOUND = [
    ("$.object.x.y", 1, ["object"]),
    ("$.object['both']", "loaded", ["object"]),
    ("$.object.missing", NOTHING, ["object"]),
    ("$.object[$.key].y", 1, ["object"]),
    ("$.mixed.both", "mine", []),
    ("$.mixed.z", 2, []),
    ("$.mixed.x.y", 1, ["object"]),
    ("$.beside.x", {"z": 2}, []),
    ("$.beside.x.y", NOTHING, []),
    ("$.beside.*", [{"z": 2}, "loaded", 9], ["object"]),
    ("$.list[1].id", 2, ["list"]),
    ("$.list.length", 2, ["list"]),
    ("$.list[*].id", [1, 2], ["list"]),
    ("$.list[1:].id", [2], ["list"]),
    ("$.list[?(@.id > 1)].id", [2], ["list"]),
    ("$.list..id", [1, 2], ["list"]),
    ("$.text.length", 3, ["text"]),
    ("$.named.content", 5, ["number"]),
    ("$.named.name", "five", []),
    ("$.named.other", NOTHING, ["number"]),
    ("$.named.*", [5, "five"], ["number"]),
    ("$.chain.x.y", 1, ["chain", "object"]),
    ("$.nested.inner.x.y", 1, ["nested", "object"]),
    ("$.several[*].price", [9, 1, 3], ["object"]),
    ("$.several[?(@.price > 2)].price", [9, 3], ["object", "object"]),
    ("$.several..price", [9, 1, 3], ["object", "object"]),
    ("$.nested..y", [1], ["nested", "object"]),
    ("$.object._s3_output_pointer.key", "object", []),
    ("$.no.x", NOTHING, []),
]


@pytest.mark.parametrize(("path", "expected", "loaded"), FOUND)
def test_a_walk_continues_in_the_content(path, expected, loaded):
    store = Store()
    assert compile_path(path).find(DATA, load=store) == expected
    assert store.loaded == loaded


@pytest.mark.parametrize(
    ("path", "expected"), [("$.object", pointer("object")), ("$.several[0]", pointer("object"))]
)
def test_a_pointer_at_the_end_is_the_value(path, expected):
    store = Store()
    assert compile_path(path).find(DATA, store) == expected
    assert store.loaded == []


def test_a_condition_loads_what_it_compares():
    store = Store()
    assert compile_condition("$.object.price > 8 && $.list[0].id == 1").matches(DATA, load=store)
    assert not compile_condition("$.object.price > 9").matches(DATA, store)
    assert store.loaded == ["object", "list", "object"]


@pytest.mark.parametrize("path", ["$.object.x", "$.list[0]", "$.list[*]", "$.list..x", "$.object[$.key]"])
def test_a_pointer_without_a_loader_is_a_clear_error(path):
    with pytest.raises(ExpressionEvaluationError, match=r"s3://b/(object|list)[^\n]*would have to be loaded"):
        compile_path(path).find(DATA)
    with pytest.raises(ExpressionEvaluationError, match="would have to be loaded"):
        compile_condition(f"{path} == 1").matches(DATA)


def test_a_search_through_content_that_contains_itself_is_an_error(monkeypatch):
    monkeypatch.setattr("airflow_allma.expressions.traversal.MAX_DESCENDANT_LOADS", 20)
    store = Store()
    store.objects["snake"] = {"tail": pointer("snake")}
    with pytest.raises(ExpressionEvaluationError, match="make the path more specific"):
        compile_path("$..x").find({"a": pointer("snake")}, store)
    assert len(store.loaded) == 21


def test_pointers_that_lead_in_a_circle_are_an_error():
    with pytest.raises(ExpressionEvaluationError, match="pointers lead to one another"):
        compile_path("$.loop.x").find(DATA, Store())


@pytest.mark.parametrize("error", [KeyError("k"), TypeError("t"), IndexError("i"), KeyboardInterrupt()])
@pytest.mark.parametrize("path", ["$.object.x", "$.list[0]", "$.list[*].x", "$.list[?(@.x)]"])
def test_exceptions_of_the_loader_pass_through_unchanged(error, path):
    def load(inner):
        raise error

    for evaluate in (
        lambda: compile_path(path).find(DATA, load),
        lambda: compile_condition(f"{path} > 1").matches(DATA, load),
    ):
        with pytest.raises(type(error)) as caught:
            evaluate()
        assert caught.value is error
        assert caught.value.__context__ is None


ASSIGNED = [
    ("$.object.new", "object", {"x": {"y": 1}, "both": "loaded", "price": 9, "new": 0}),
    ("$.object.x.z", "object", {"x": {"y": 1, "z": 0}, "both": "loaded", "price": 9}),
    ("$.mixed.new", "mixed", {"x": {"y": 1}, "both": "mine", "price": 9, "z": 2, "new": 0}),
    ("$.list[1].id", "list", [{"id": 1}, {"id": 0}]),
    ("$.named.name", "named", {"content": 5, "name": 0}),
    ("$.nested.inner.both", "nested", {"inner": {"x": {"y": 1}, "both": 0, "price": 9}}),
]


@pytest.mark.parametrize(("path", "member", "after"), ASSIGNED)
def test_setting_through_a_pointer_replaces_it_by_its_content(path, member, after):
    store = Store()
    contents = copy.deepcopy(store.objects)
    data = copy.deepcopy(DATA)

    shared = compile_path(path).assign_shared(data, 0, store)
    assert shared == {**DATA, member: after}
    assert data == DATA

    compile_path(path).assign(data, 0, store)
    assert data == {**DATA, member: after}
    assert store.objects == contents


def test_nothing_is_set_below_the_text_that_a_pointer_represents():
    data = copy.deepcopy(DATA)
    with pytest.raises(ExpressionEvaluationError, match="'text' is a string"):
        compile_path("$.text.new").assign(data, 0, Store())
    assert data == DATA


def test_setting_a_pointer_itself_loads_nothing():
    data = copy.deepcopy(DATA)
    compile_path("$.object").assign(data, 0)
    assert data["object"] == 0


def test_a_root_that_is_a_pointer_is_loaded_in_place():
    store = Store()
    data = pointer("object")
    assert compile_path("$.x.y").find(data, store) == 1
    compile_path("$.new").assign(data, 0, store)
    assert data == {"x": {"y": 1}, "both": "loaded", "price": 9, "new": 0}


def test_a_root_pointer_to_something_other_than_an_object_cannot_be_set():
    with pytest.raises(ExpressionEvaluationError, match="not an object"):
        compile_path("$.new").assign(pointer("list"), 0, Store())


def test_setting_through_a_pointer_without_a_loader_is_a_clear_error():
    with pytest.raises(ExpressionEvaluationError, match="would have to be loaded"):
        compile_path("$.object.x").assign(copy.deepcopy(DATA), 0)
