"""Setting values by JSONPath and by target."""

import copy
from types import MappingProxyType

import pytest

from airflow_allma.exceptions import ExpressionEvaluationError, ExpressionSyntaxError
from airflow_allma.expressions import compile_path, compile_target
from airflow_allma.expressions.assignment import MAX_PADDING

# path, data before, data after the value 1 is set
ASSIGNED = [
    ("$.a", {}, {"a": 1}),
    ("$.a", {"a": {"b": 2}}, {"a": 1}),
    ("$.a.b", {"a": {"c": 2}}, {"a": {"c": 2, "b": 1}}),
    ("$.a.b.c", {}, {"a": {"b": {"c": 1}}}),
    ("$['odd key'].x", {}, {"odd key": {"x": 1}}),
    ("$.a[0]", {}, {"a": [1]}),
    ("$.a[2]", {}, {"a": [None, None, 1]}),
    ("$.a[1].b[0]", {}, {"a": [None, {"b": [1]}]}),
    ("$.a[0].b", {"a": []}, {"a": [{"b": 1}]}),
    ("$.a[0].b", {"a": [{"c": 2}]}, {"a": [{"c": 2, "b": 1}]}),
    ("$.a[1]", {"a": [5, 6, 7]}, {"a": [5, 1, 7]}),
    ("$.a[0]", {"a": {"x": 2}}, {"a": {"x": 2, "0": 1}}),
    ("$.a.b", {"a": None}, {"a": {"b": 1}}),
    ("$.a[0]", {"a": None}, {"a": [1]}),
    ("$.a[$.k]", {"k": "b"}, {"k": "b", "a": {"b": 1}}),
    ("$.a[$.k]", {"k": 1}, {"k": 1, "a": [None, 1]}),
    ("$.a[0][0]", {"a": [None, 2]}, {"a": [[1], 2]}),
]


@pytest.mark.parametrize(("path", "before", "after"), ASSIGNED)
def test_a_value_is_set_in_place(path, before, after):
    data = copy.deepcopy(before)
    compile_path(path).assign(data, 1)
    assert data == after


@pytest.mark.parametrize(("path", "before", "after"), ASSIGNED)
def test_a_value_is_set_in_a_new_root_and_the_old_one_is_unchanged(path, before, after):
    data = copy.deepcopy(before)
    assert compile_path(path).assign_shared(data, 1) == after
    assert compile_path(path).assign_shared(MappingProxyType(data), 1) == after
    assert data == before


def test_a_new_root_shares_what_is_not_on_the_way():
    data = {"a": {"b": {"c": 1}, "aside": {}}, "list": [{}, {}]}
    changed = compile_path("$.a.b.d").assign_shared(data, {"v": 1})
    assert changed["list"] is data["list"]
    assert changed["a"]["aside"] is data["a"]["aside"]
    assert changed["a"] is not data["a"]
    assert changed["a"]["b"] is not data["a"]["b"]


def test_the_value_is_set_without_a_copy():
    value: dict = {}
    data: dict = {}
    compile_path("$.a.b").assign(data, value)
    assert data["a"]["b"] is value


@pytest.mark.parametrize("path", ["$", "$."])
def test_an_object_set_at_the_root_is_merged_into_the_data(path):
    data = {"a": 1, "b": 2}
    assert compile_path(path).assign_shared(data, {"b": 3, "c": 4}) == {"a": 1, "b": 3, "c": 4}
    assert data == {"a": 1, "b": 2}
    compile_path(path).assign(data, {"b": 3, "c": 4})
    assert data == {"a": 1, "b": 3, "c": 4}


IMPOSSIBLE = [
    ("$", {}, "only an object can be merged"),
    ("$.a[*]", {"a": [1]}, "matches several values"),
    ("$..a", {}, "matches several values"),
    ("$.a[0,1]", {}, "matches several values"),
    ("$.a[0:1].b", {}, "matches several values"),
    ("$.a[?(@.b)]", {}, "matches several values"),
    ("$.a.b", {"a": [1]}, "'b' is not an index, but its parent is a list"),
    ("$.a.b", {"a": "text"}, "'a' is a string, which has no members"),
    ("$.a[0]", {"a": 7}, "'a' is a number, which has no members"),
    ("$.a.b.c", {"a": {"b": True}}, "'b' is a boolean, which has no members"),
    ("$.a[0].b.c", {"a": [1.5]}, "'0' is a number, which has no members"),
    ("$.a[-1]", {"a": [1]}, "'-1' is not an index"),
    ("$.a.length", {"a": [1]}, "'length' is not an index"),
    (f"$.a[{MAX_PADDING + 1}]", {"a": []}, "beyond the end of the list"),
    ("$.a[999999999]", {"a": [1]}, "beyond the end of the list"),
    ("$.a[$.missing]", {"a": [1]}, "to be a key"),
]


@pytest.mark.parametrize(("path", "data", "message"), IMPOSSIBLE)
def test_a_path_that_cannot_be_set_is_an_error_and_leaves_the_data_unchanged(path, data, message):
    before = copy.deepcopy(data)
    with pytest.raises(ExpressionEvaluationError, match=message):
        compile_path(path).assign(data, 1)
    assert data == before


def test_a_list_is_padded_up_to_the_limit():
    data: dict = {"a": []}
    compile_path(f"$.a[{MAX_PADDING}]").assign(data, 1)
    assert len(data["a"]) == MAX_PADDING + 1


TARGETED = [
    ("a", {}, {"a": 1}),
    (" sp", {}, {" sp": 1}),
    ("0", {}, {"0": 1}),
    ("a.b", {}, {"a": {"b": 1}}),
    ("a.b", {"a": {"c": 2}}, {"a": {"b": 1, "c": 2}}),
    ("a.b", {"a": None}, {"a": {"b": 1}}),
    ("a.b", {"a": 5}, {"a": 5}),
    ("a[0]", {"a": "text"}, {"a": "text"}),
    ("a.b.c", {"a": {"b": False}}, {"a": {"b": False}}),
    ("x.0", {}, {"x": [1]}),
    ("list[1].x", {}, {"list": [None, {"x": 1}]}),
    ("deep[0][1]", {}, {"deep": [[None, 1]]}),
    ("a['b.c'].d", {}, {"a": {"b.c": {"d": 1}}}),
    ('a["b"]', {}, {"a": {"b": 1}}),
    ("a[b]", {}, {"a": {"b": 1}}),
    ("['a b']", {}, {"a b": 1}),
    ("[0]", {}, {"0": 1}),
    ("a-b.c d", {}, {"a-b": {"c d": 1}}),
    ("$ref.x", {}, {"$ref": {"x": 1}}),
]


@pytest.mark.parametrize(("target", "before", "after"), TARGETED)
def test_a_target_sets_a_value(target, before, after):
    root = copy.deepcopy(before)
    compile_target(target).assign(root, 1)
    assert root == after


def test_a_target_that_names_a_member_of_a_list_is_skipped_with_a_warning(caplog):
    root = {"a": [1]}
    compile_target("a.b.c").assign(root, 1)
    assert root == {"a": [1]}
    assert "'a.b.c' cannot be set: 'b' is not an index" in caplog.text


def test_a_target_far_beyond_the_end_of_a_list_is_an_error():
    with pytest.raises(ExpressionEvaluationError, match="beyond the end of the list"):
        compile_target("a[99999999]").assign({"a": []}, 1)


@pytest.mark.parametrize(
    ("target", "position", "message"),
    [
        ("", 0, "name is missing"),
        (".a", 0, "name is missing"),
        ("a.", 2, "name is missing"),
        ("a..b", 2, "name is missing"),
        ("a[", 1, "brackets are empty"),
        ("a[]", 1, "brackets are empty"),
        ("a[0", 1, "not closed"),
        ("a['b]", 2, "quotes"),
        ("a[0]b", 4, "continues with"),
        ("$.a", 0, "remove '\\$\\.'"),
        ("$['a']", 0, "remove '\\$\\.'"),
    ],
)
def test_the_error_of_a_malformed_target_points_at_its_position(target, position, message):
    with pytest.raises(ExpressionSyntaxError, match=message) as caught:
        compile_target(target)
    assert caught.value.position == position
