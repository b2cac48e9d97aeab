"""Properties of all paths with all data."""

import contextlib
import copy
import warnings
from collections.abc import Iterator
from typing import Any

import jsonpath_ng
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from airflow_allma.exceptions import ExpressionEvaluationError, ExpressionSyntaxError
from airflow_allma.expressions import (
    NOTHING,
    closures,
    compile_condition,
    compile_path,
    compile_target,
)
from airflow_allma.expressions.assignment import InvalidTargetError

NAMES = st.sampled_from(["a", "b", "c", "0", "1", "length", "x y", "it's"])
SCALARS = st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["", "a", "text"])
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(NAMES, JSON, max_size=4)
KEYS = st.lists(NAMES | st.integers(0, 3), max_size=6)


def plain_path(keys: list[str | int]) -> str:
    parts = [
        f"[{key}]"
        if isinstance(key, int)
        else "['" + key.replace("'", "\\'") + "']"
        if " " in key or "'" in key
        else f".{key}"
        for key in keys
    ]
    return "$" + "".join(parts)


def code_units(text: str) -> list[str]:
    """The character at each index of JavaScript; both halves of a surrogate pair give the whole one."""
    return [character for character in text for _ in range(1 + (ord(character) > 0xFFFF))]


def simply_walked(value: Any, keys: list[str | int]) -> Any:
    """The rules of plain paths, one key after another, written as simply as possible."""
    for key in map(str, keys):
        if isinstance(value, dict) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.isdigit() and int(key) < len(value):
            value = value[int(key)]
        elif isinstance(value, str) and key.isdigit() and int(key) < len(units := code_units(value)):
            value = units[int(key)]
        elif isinstance(value, list | str) and key == "length":
            value = len(value)
        else:
            return NOTHING
    return value


@given(JSON, KEYS)
def test_a_plain_path_finds_what_the_rules_say(data, keys):
    found, expected = compile_path(plain_path(keys)).find(data), simply_walked(data, keys)
    # A length and a character are new values; all others are the data's own.
    assert found is expected or (type(found) in {int, str} and found == expected)


@given(JSON, KEYS)
def test_the_direct_walk_equals_the_general_one(data, keys):
    path = compile_path(plain_path(keys))
    general = closures._list_finder(path._segments, path.source)(data)
    found = path.find(data)
    assert general == (NOTHING if found is NOTHING else [found])


SELECTORS = st.sampled_from(
    ["[*]", ".*", "[0:2]", "[1:]", "[-2:]", "[::2]", "[0,1]", "['a','b']", ".a", ".b", "[0]"]
)


def _has_digit_names(data: Any) -> bool:
    if isinstance(data, dict):
        return any(name.isdigit() or _has_digit_names(value) for name, value in data.items())
    return isinstance(data, list) and any(map(_has_digit_names, data))


def _without_text(data: Any) -> Any:
    if isinstance(data, dict):
        return {name: _without_text(value) for name, value in data.items()}
    if isinstance(data, list):
        return [_without_text(member) for member in data]
    return len(data) if isinstance(data, str) else data


@given(JSON, st.lists(SELECTORS, min_size=1, max_size=4))
@example({"a": [{"b": 1}, {"b": 2}]}, [".a", "[*]", ".b"])
def test_operators_find_what_the_library_finds_where_both_agree_on_the_language(data, selectors):
    text = "$" + "".join(selectors)
    path = compile_path(text)
    assume(not path.is_definite)
    # An index finds the object's member of that name here, as in JavaScript; in the library it finds none.
    assume(not _has_digit_names(data))
    if {"[0]", "[0,1]"}.intersection(selectors):
        # An index finds the character of a string here; in the library it finds nothing.
        data = _without_text(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = [match.value for match in jsonpath_ng.parse(text).find(data)]
    assert path.find(data) == (expected or NOTHING)


@given(OBJECTS, KEYS.filter(bool), JSON)
def test_a_value_that_was_set_is_found(data, keys, value):
    path = compile_path(plain_path(keys))
    with contextlib.suppress(InvalidTargetError):
        path.assign(data, value)
        assert path.find(data) is value


@given(OBJECTS, KEYS.filter(bool), JSON)
def test_setting_in_a_shared_root_equals_setting_in_a_deep_copy(data, keys, value):
    path = compile_path(plain_path(keys))
    before = copy.deepcopy(data)
    changed = copy.deepcopy(data)
    try:
        path.assign(changed, value)
    except ExpressionEvaluationError:
        with pytest.raises(ExpressionEvaluationError):
            path.assign_shared(data, value)
    else:
        assert path.assign_shared(data, value) == changed
    assert data == before


@given(OBJECTS, KEYS.filter(bool), JSON)
def test_a_target_sets_what_its_path_finds(data, keys, value):
    text = plain_path(keys)[1:].removeprefix(".")
    compile_target(text).assign(data, value)
    found = compile_path(plain_path(keys)).find(data)
    assert found is value or isinstance(simply_walked_parent(data, keys), list | str | int | float)


def simply_walked_parent(data: Any, keys: list[str | int]) -> Any:
    """The innermost value on the way that lacks the next key: where assignment stopped."""
    for end in range(len(keys)):
        parent = simply_walked(data, keys[:end])
        is_length = str(keys[end]) == "length" and not isinstance(parent, dict)
        if is_length or simply_walked(data, keys[: end + 1]) is NOTHING:
            return parent
    return None


@contextlib.contextmanager
def located_syntax_error(source: str) -> Iterator[None]:
    """Suppress syntax errors that point into the string, and let everything else pass."""
    try:
        yield
    except ExpressionSyntaxError as error:
        if not 0 <= error.position <= len(source):
            raise


TOKENS = st.sampled_from(
    [
        *"$@.[]()'\"*?:,<>=!&|~^-+\\ \n0129",
        "..",
        "$.",
        "[?(",
        ")]",
        "&&",
        "||",
        "==",
        "===",
        "a",
        "length",
        "true",
        "é",
        "`",
    ]
)
RANDOM_TEXT = (
    st.text()
    | st.lists(TOKENS, max_size=40).map("".join)
    | st.lists(TOKENS, max_size=40).map(lambda parts: "$" + "".join(parts))
)


@given(RANDOM_TEXT, JSON)
@example("$[" * 5000, None)
@example("$[?(" * 2000, None)
@example("$[?" + "!" * 9000 + "@]", [1])
@example("$[" + "1," * 4000 + "1]", [1])
@example("$[" + "'a'," * 2000 + "'b']", {"a": 1})
@example("$[" + "9" * 9000 + ":]", [1])
@example("$[" + "9" * 9000 + "]", [1])
@example("$" + "..a" * 3000, {"a": {"a": 1}})
@example("$.a == " + "1" * 9000, {"a": 1})
@example("$.a == '" + "\\" * 9000, {"a": 1})
@example("$[?(@ == " + "9" * 9000 + ")]", [1])
@pytest.mark.parametrize("kind", ["path", "condition"])
def test_any_string_compiles_or_has_a_located_error(kind, text, data):
    with located_syntax_error(text), contextlib.suppress(ExpressionEvaluationError):
        evaluate = compile_path(text).find if kind == "path" else compile_condition(text).matches
        evaluate(data)


@given(RANDOM_TEXT)
def test_any_string_is_a_target_or_has_a_located_error(text):
    with located_syntax_error(text):
        compile_target(text)


@pytest.mark.parametrize("name", ["PASSWORD", "where", "wherenot", "sub", "parent"])
def test_words_of_the_library_are_plain_names(name):
    assert compile_path(f"$.{name}.x").find({name: {"x": 1}}) == 1
    assert compile_path(f"$['{name}','b']").find({name: 1}) == [1]
