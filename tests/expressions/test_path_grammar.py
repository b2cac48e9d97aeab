"""Paths with operators: jsonpath-ng parses them, and only them."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_allma.exceptions import ExpressionSyntaxError
from airflow_allma.expressions import compile_path
from airflow_allma.expressions.syntax_tree import (
    Comparison,
    Descendants,
    DynamicKey,
    Filter,
    Key,
    Literal,
    Query,
    Segment,
    Slice,
    Union,
    Wildcard,
)

A, B = Key("a", -1), Key("b", -1)
FIRST, THIRD = Key("0", 0), Key("2", 2)
EXPENSIVE = Filter(Comparison(">", Query((A,), from_item=True), Literal(4)))
DYNAMIC = DynamicKey(Query((A,)), "$.a")

# A part of a path as it is written after a name, and its segments.
PARTS: list[tuple[str, tuple[Segment, ...]]] = [
    (".a", (A,)),
    ("['a']", (A,)),
    (".['a']", (A,)),
    ("[0]", (FIRST,)),
    (".0", (FIRST,)),
    ("[-1]", (Key("-1", -1),)),
    ("[007]", (Key("007", -1),)),
    (".a b", (Key("a b", -1),)),
    (".naïve", (Key("naïve", -1),)),
    (".where", (Key("where", -1),)),
    (".wherenot", (Key("wherenot", -1),)),
    ("['*']", (Key("*", -1),)),
    ("['it\\'s']", (Key("it's", -1),)),
    ("[$.a]", (DYNAMIC,)),
    ("[?(@.a > 4)]", (EXPENSIVE,)),
    (".*", (Wildcard(),)),
    ("[*]", (Wildcard(),)),
    (".[*]", (Wildcard(),)),
    ("[ * ]", (Wildcard(),)),
    ("[0,2]", (Union((FIRST, THIRD)),)),
    ("[ 2 , 0 ]", (Union((THIRD, FIRST)),)),
    ("[0,-1]", (Union((FIRST, Key("-1", -1))),)),
    ("[00,02]", (Union((FIRST, THIRD)),)),
    ("['a','b']", (Union((A, B)),)),
    ("['a', \"b\", '*']", (Union((A, B, Key("*", -1))),)),
    ("['0','2']", (Union((FIRST, THIRD)),)),
    ("[:]", (Slice(None, None, 1),)),
    ("[1:3]", (Slice(1, 3, 1),)),
    ("[-2:]", (Slice(-2, None, 1),)),
    ("[:-3]", (Slice(None, -3, 1),)),
    ("[::2]", (Slice(None, None, 2),)),
    ("[ 1 : 4 : 2 ]", (Slice(1, 4, 2),)),
    ("..a", (Descendants(), A)),
    ("..*", (Descendants(), Wildcard())),
    ("..[*]", (Descendants(), Wildcard())),
    ("..[0]", (Descendants(), FIRST)),
    ("..['a','b']", (Descendants(), Union((A, B)))),
    ("..[0,2]", (Descendants(), Union((FIRST, THIRD)))),
    ("..[1:3]", (Descendants(), Slice(1, 3, 1))),
    ("..[?(@.a > 4)]", (Descendants(), EXPENSIVE)),
    ("..[$.a]", (Descendants(), DYNAMIC)),
]


@pytest.mark.parametrize(("source", "segments"), PARTS)
@pytest.mark.parametrize(
    ("before", "first"), [("", ()), (".b", (B,)), ("..b[*]", (Descendants(), B, Wildcard()))]
)
def test_a_part_has_its_segments(
    before: str, first: tuple[Segment, ...], source: str, segments: tuple[Segment, ...]
):
    assert compile_path("$" + before + source)._segments == first + segments


@given(st.lists(st.sampled_from(PARTS), max_size=8))
def test_a_path_has_the_segments_of_its_parts(parts: list[tuple[str, tuple[Segment, ...]]]):
    path = compile_path("$" + "".join(source for source, _ in parts))
    assert path._segments == tuple(segment for _, segments in parts for segment in segments)


def test_paths_inside_filters_may_have_operators():
    (_, found) = compile_path("$.a[?(@..b > 4)]")._segments
    query = Query((Descendants(), B), from_item=True)
    assert found == Filter(Comparison(">", query, Literal(4)))


@pytest.mark.parametrize(
    ("path", "position"),
    [
        ("$[*].a[0,,1].b[0]", 7),
        ("$..a[1:2][1:2:3:4]", 10),
        ("$.a[0,1][ - ]", 10),
        ("$.a[*][1 2]", 7),
        ("$.a[1,]", 4),
        ("$.a[1:2,3]", 4),
        ("$.a[:1][::0][:1]", 8),
        ("$.a[*][::-1]", 7),
        (f"$.a[{'9' * 900},{'9' * 90}:1]", 4),
    ],
)
def test_an_error_points_at_the_brackets_that_are_wrong(path: str, position: int):
    with pytest.raises(ExpressionSyntaxError) as caught:
        compile_path(path)
    assert caught.value.position == position


def test_threads_parse_at_the_same_time():
    def parse(number: int) -> Any:
        return compile_path(f"$.thread[{number}]..a[*][0,{number}]")._segments[-1]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(parse, range(100))) == [
            Union((FIRST, Key(str(number), number))) for number in range(100)
        ]


CHECK = """
import sys
from airflow_allma.expressions import *
for path in ("$", "$.a.b[0]['c d'].length", "$.a[$.b].c", "$.a[?(@.b > 4 && !@['c'])].d"):
    compile_path(path)
compile_condition("$.a.b[0] == 'x' && $.c")
compile_target("a.b[0]")
compile_config({"a": "$.b.c", "d": "{{e.f}}"})
assert not [name for name in sys.modules if name.startswith("jsonpath_ng")]
compile_path("$.a[*]")
assert "jsonpath_ng.parser" in sys.modules
"""


def test_only_paths_with_operators_import_jsonpath_ng():
    subprocess.run([sys.executable, "-c", CHECK], check=True)
