"""What a path finds, and the errors of malformed paths."""

from collections import ChainMap
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_allma.common.work_budget import own_budget
from airflow_allma.exceptions import ExpressionEvaluationError, ExpressionSyntaxError, WorkLimitError
from airflow_allma.expressions import NOTHING, compile_path, paths
from airflow_allma.expressions.scanner import MAX_LENGTH, MAX_NESTING

DATA = {
    "a": {"b": [{"c": 1}, {"c": None}, "text", [7, 8]], "k-1": "dash", "日本": "name", "0": "zero"},
    "a b": {"it's": 1, 'say "x"': 2, "back\\slash": 3, "dot.ted": 4, "*": 5},
    "list": [10, 20, 30, 40, 50],
    "items": [
        {"id": 1, "price": 5, "name": "a", "tags": ["x", "y"], "sold": False},
        {"id": 2, "price": "7", "name": "b", "tags": [], "sold": True},
        {"id": 3, "price": None, "name": "a", "other-name": "z"},
        {"id": 4, "name": "A", "nested": {"id": 5, "price": 1}},
        "loose",
        None,
    ],
    "own": {"length": "mine"},
    "idx": 1,
    "key": "b",
    "float": 2.0,
    "null": None,
    "false": False,
    "text": "a\U0001f600",
    "limit": 4,
}

FOUND = [
    ("$.a.b[0].c", 1),
    ("$.a.b[1].c", None),
    ("$.a.b.0.c", 1),
    ("$['a']['b'][0]['c']", 1),
    ('$["a"].b[0].c', 1),
    ("$.a[b][0].c", 1),
    ("$.a.['b'][0].c", 1),
    ("  $.idx \n", 1),
    ("$[ 'idx' ]", 1),
    ("$.list[ 0 ]", 10),
    ("$.list['0']", 10),
    ("$.a['0']", "zero"),
    ("$.a[0]", "zero"),
    ("$.a.k-1", "dash"),
    ("$.a.日本", "name"),
    ("$.a b['it\\'s']", 1),
    ("$['a b'][\"it's\"]", 1),
    ("$['a b']['say \"x\"']", 2),
    ("$['a b']['back\\slash']", 3),
    ("$['a b']['back\\\\slash']", 3),
    ("$['a b']['dot.ted']", 4),
    ("$['a b']['*']", 5),
    ("$['a b']['it\\'s', 'back\\slash']", [1, 3]),
    ("$.list.length", 5),
    ("$.list['length']", 5),
    ("$.text.length", 3),
    # a character above U+FFFF has two indexes
    ("$.text[0]", "a"),
    ("$.text[1]", "\U0001f600"),
    ("$.text[2]", "\U0001f600"),
    ("$.text.0", "a"),
    ("$.text[0].length", 1),
    ("$.text[0][0][0]", "a"),
    ("$.text[0,2]", ["a", "\U0001f600"]),
    ("$.a.b[2][0]", "t"),
    ("$.a.b[2][3]", "t"),
    ("$.a['0'][1]", "e"),
    ("$.a.b[?(@[0] == 't')]", ["text"]),
    ("$.own.length", "mine"),
    ("$.null", None),
    ("$.false", False),
    ("$.list[*]", [10, 20, 30, 40, 50]),
    ("$.list.*", [10, 20, 30, 40, 50]),
    ("$.own[*]", ["mine"]),
    ("$.list[1:3]", [20, 30]),
    ("$.list[:2]", [10, 20]),
    ("$.list[3:]", [40, 50]),
    ("$.list[-2:]", [40, 50]),
    ("$.list[:-3]", [10, 20]),
    ("$.list[::2]", [10, 30, 50]),
    ("$.list[ 1 : 4 : 2 ]", [20, 40]),
    ("$.list[0,2]", [10, 30]),
    ("$.list[2, 0]", [30, 10]),
    ("$.list[0,9]", [10]),
    ("$.a['k-1','0']", ["dash", "zero"]),
    ("$.a.b[*].c", [1, None]),
    ("$.items[*].tags[*]", ["x", "y"]),
    ("$.items[*].tags.length", [2, 0]),
    ("$.items..id", [1, 2, 3, 4, 5]),
    ("$..price", [5, "7", None, 1]),
    ("$.a..[0]", ["zero", {"c": 1}, 7]),
    ("$.a.b..*", [{"c": 1}, {"c": None}, "text", [7, 8], 1, None, 7, 8]),
    ("$.items..nested.id", [5]),
    ("$.items..['id','price']", [1, 5, 2, "7", 3, None, 4, 5, 1]),
    ("$.list[$.idx]", 20),
    ("$.list[$.float]", 30),
    ("$.a[$.key][0].c", 1),
    ("$.a[$.key][$.idx].c", None),
    ("$.a[ $['key'] ].length", 4),
    ("$.list[$.items[$.idx].id]", 30),
    ("$.items[*].tags[$.idx]", ["y"]),
    ("$.items[?(@.price > 4)].id", [1, 2]),
    ("$.items[?@.price > 4].id", [1, 2]),
    ("$.items[?(4 < @.price)].id", [1, 2]),
    ("$.items[?(@.price > $.limit)].id", [1, 2]),
    ("$.items[?(@.price == null)].id", [3, 4]),
    ("$.items[?(@.price === null)].id", [3]),
    ("$.items[?(@.price === undefined)].id", [4]),
    ("$.items[?(@.price == 7)].id", [2]),
    ("$.items[?(@.price === 7)]", NOTHING),
    ("$.items[?(@.name == 'a')].id", [1, 3]),
    ('$.items[?(@.name != "a")].id', [2, 4]),
    ("$.items[?(@.name == 'a' && @.price)].id", [1]),
    ("$.items[?(@.name == 'b' || @.name == 'A')].id", [2, 4]),
    ("$.items[?(@.name == 'a' && @.id > 1 || @.name == 'A')].id", [3, 4]),
    ("$.items[?((@.name == 'A' || @.name == 'a') && @.id > 1)].id", [3, 4]),
    ("$.items[?(!@.sold)].id", [1, 3, 4]),
    ("$.items[?(!!@.sold)].id", [2]),
    ("$.items[?(!(@.name == 'a'))].id", [2, 4]),
    ("$.items[?(@.tags)].id", [1, 2]),
    ("$.items[?(@.tags[0] == 'x')].id", [1]),
    ("$.items[?(@.tags.length > 1)].id", [1]),
    ("$.items[?(@['other-name'])].id", [3]),
    ("$.items[?(@.nested.price < 2)].id", [4]),
    ("$.items[?(@.sold === true)].id", [2]),
    ("$.items[?(@ == 'loose')]", ["loose"]),
    ("$.items[?(@.name == 'a]')].id", NOTHING),
    ("$.items[?(@.tags[?(@ == 'y')])].id", [1]),
    ("$.list[?(@ > 15 && @ <= 4e1)]", [20, 30, 40]),
    ("$.list[?(@ == $.list[$.idx])]", [20]),
    ("$.a[?(@ == 'dash')]", ["dash"]),
    ("$..[?(@.price == 1)].id", [5]),
    ("$.items[0:3][?(@.name == 'a')].id", NOTHING),
]

NOT_FOUND = [
    "$.missing",
    "$.a.missing.deeper[0]",
    "$.null.x",
    "$.false.x",
    "$.idx.x",
    "$.text.x",
    "$.text[3]",
    "$.text[-1]",
    "$.text[01]",
    "$.list[5]",
    "$.list[-1]",
    "$.list[007]",
    "$.list[99999999999999999999]",
    "$.list.name",
    "$.own.length.length.x",
    "$.idx.length",
    "$.list[9:]",
    "$.text[0:1]",
    "$.own[0:1]",
    "$.text[*]",
    "$.null[*]",
    "$.null..x",
    "$.list[7,8]",
    "$.items[?(@.id > 99)]",
    "$.text[?(@)]",
    "$.items[$.limit].x.y",
]


@pytest.mark.parametrize(("path", "expected"), FOUND)
def test_a_path_finds_its_value(path, expected):
    found = compile_path(path).find(DATA)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize("path", NOT_FOUND)
def test_a_path_without_a_match_finds_nothing(path):
    assert compile_path(path).find(DATA) is NOTHING


@pytest.mark.parametrize("path", ["$", "$.", " $ "])
def test_the_root_is_the_data_itself(path):
    root = compile_path(path)
    assert root.is_root
    assert root.find(DATA) is DATA
    assert root.find(None) is None


def test_the_result_is_the_value_itself_and_not_a_copy():
    assert compile_path("$.a.b").find(DATA) is DATA["a"]["b"]
    assert compile_path("$.a.b[*]").find(DATA)[0] is DATA["a"]["b"][0]


def test_a_list_of_matches_can_be_changed_without_changing_the_data():
    compile_path("$.list[*]").find(DATA).append(60)
    compile_path("$.list.*").find(DATA).clear()
    assert DATA["list"] == [10, 20, 30, 40, 50]


@pytest.mark.parametrize("path", ["$.x.y", "$.x[0]", "$.x.*", "$[$.k].y", "$.x[?(@.y)]"])
def test_the_root_may_be_any_mapping(path):
    layered = ChainMap({"x": {"y": 1}}, {"x": 2, "k": "x"})
    plain = {"x": {"y": 1}, "k": "x"}
    assert compile_path(path).find(layered) == compile_path(path).find(plain)


@pytest.mark.parametrize(
    ("path", "definite"),
    [
        ("$.a[0]['b']", True),
        ("$.a[$.b]", True),
        ("$", True),
        ("$.a[*]", False),
        ("$.a..b", False),
        ("$.a[0,1]", False),
        ("$.a[0:1]", False),
        ("$.a[?(@.b)]", False),
    ],
)
def test_a_path_knows_whether_it_is_definite(path, definite):
    assert compile_path(path).is_definite is definite


@pytest.mark.parametrize(
    ("key", "found"),
    [("$.missing", "nothing"), ("$.null", "null"), ("$.list", "a list"), ("$.a", "an object")],
)
@pytest.mark.parametrize("before", ["", ".missing"])
def test_a_dynamic_segment_without_a_key_is_an_error(key, found, before):
    message = f"must find a string or a number to be a key, but finds {found}; "
    with pytest.raises(ExpressionEvaluationError, match=message):
        compile_path(f"$.list{before}[{key}]").find(DATA)


# path, position of the caret, words of the message
MALFORMED = [
    ("", 0, "begins with '\\$'"),
    ("a.b", 0, "begins with '\\$'"),
    ("  a", 2, "begins with '\\$'"),
    ("@.a", 0, "begins with '\\$'"),
    ("$a", 1, "continues with"),
    ("$$", 1, "continues with"),
    ("$.a..", 5, "name is missing"),
    ("$.a.", 4, "name is missing"),
    ("$..", 3, "name is missing"),
    ("$.a...b", 5, "name is missing"),
    ("$.a.[", 4, "not closed"),
    ("$.a[", 3, "not closed"),
    ("$.a[0", 3, "not closed"),
    ("$.a['b", 4, "quotes that open here"),
    ("$.a['b'", 3, "not closed"),
    ("$.a['b'x]", 7, "']' is expected"),
    ("$.a[]", 3, "brackets are empty"),
    ("$.a[ ]", 3, "brackets are empty"),
    ("$.a]", 3, "not allowed in a name"),
    ("$.a[0]b", 6, "continues with"),
    ("$.a > 3", 4, "not allowed in a name"),
    ("$.a && $.b", 4, "not allowed in a name"),
    ("$.a^", 3, "not allowed in a name"),
    ("$.a~", 3, "not allowed in a name"),
    ("$.`this`", 2, "not allowed in a name"),
    ("$.a*", 3, "not allowed in a name"),
    ("$.*a", 3, "segment of its own"),
    ("$.a[b*]", 5, "not allowed in a name"),
    ("$.a[(@.length-1)]", 4, "script expressions"),
    ("$.a[@.b]", 4, "only allowed in filters"),
    ("$.a['b',0]", 8, "or none"),
    ("$.a[0,'b']", 4, "several names"),
    ("$.a[b,c]", 4, "several names"),
    ("$.a[0,,1]", 4, "neither a slice nor a list"),
    ("$.a[1:2:3:4]", 4, "neither a slice nor a list"),
    ("$.a[-]", 4, "neither a slice nor a list"),
    ("$.a[1 2]", 4, "neither a slice nor a list"),
    ("$.a[::0]", 4, "step of a slice"),
    ("$.a[::-1]", 4, "step of a slice"),
    ("$.a[$.b", 3, "not closed"),
    ("$.a[$b]", 5, "continues with"),
    ("$.a[?(@.b]", 9, "'\\)' is expected here"),
    ("$.a[?]", 5, "expected"),
    ("$.a[?(", 6, "ends where"),
    ("$.a[?(@.b", 5, "not closed"),
    ("$.a[?()]", 6, "is expected"),
    ("$.a[?(@.b = 1)]", 10, "assigns"),
    ("$.a[?(@.b =~ /x/)]", 10, "unknown comparison"),
    ("$.a[?(@.b <> 1)]", 10, "unknown comparison"),
    ("$.a[?(@.b ==)]", 12, "is expected"),
    ("$.a[?(@.b == word)]", 13, "is expected"),
    ("$.a[?(@.b in [1])]", 10, "is expected here"),
    ("$.a[?(@.b + 1 > 2)]", 10, "no arithmetic"),
    ("$.a[?(@.b-1 > 2)]", 9, "no arithmetic"),
    ("$.a[?(1 - @.b)]", 8, "no arithmetic"),
    ("$.a[?(!@.b == 1)]", 11, "negates the left side only"),
    ("$.a[?((@.b) == 1)]", 12, "cannot be compared"),
    ("$.a[?(@.b.match('x'))]", 15, "not allowed in a name"),
    ("$.a[?(@property == 'x')]", 7, "continues with"),
    ("$.a[?(@.b & @.c)]", 10, "is expected here"),
    ("$.a[?(__import__('os'))]", 6, "is expected"),
]


@pytest.mark.parametrize(("path", "position", "message"), MALFORMED)
def test_the_error_of_a_malformed_path_points_at_its_position(path, position, message):
    with pytest.raises(ExpressionSyntaxError, match=message) as caught:
        compile_path(path)
    assert caught.value.position == position
    assert caught.value.expression == path


def test_a_path_that_is_too_long_is_rejected():
    with pytest.raises(ExpressionSyntaxError, match=f"at most {MAX_LENGTH} are allowed"):
        compile_path("$" + ".a" * MAX_LENGTH)


def test_a_value_that_is_not_a_string_is_rejected():
    with pytest.raises(ExpressionSyntaxError, match="not int"):
        compile_path(3)


@pytest.mark.parametrize(("opening", "closing"), [("[$", "]"), ("[?(@", ")]"), ("[?!(!(@", "))]")])
def test_nesting_is_bounded(opening, closing):
    with pytest.raises(ExpressionSyntaxError, match=f"deeper than {MAX_NESTING} levels"):
        compile_path("$" + opening * 100 + ".a" + closing * 100)


def test_many_threads_share_one_compiled_path():
    source = "$.many.threads[?(@.a > 1)].b"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: compile_path(source), range(100)))
    assert compile_path(source) is compile_path(source)
    assert paths.compile_path.cache_info().maxsize == paths.CACHE_SIZE


def deep_data(depth: int) -> dict:
    data: dict = {"x": 0}
    for level in range(1, depth):
        data = {"x": level, "below": [data]}
    return data


def test_data_of_any_depth_is_searched_to_its_bottom():
    found = compile_path("$..x").find(deep_data(20_000))
    assert found == list(range(19_999, -1, -1))


def test_a_search_that_visits_too_much_is_an_error_that_names_the_path():
    with own_budget(100), pytest.raises(WorkLimitError, match=r"max_step_work = 100 allows at \$\.\.x\.\.x"):
        compile_path("$..x..x").find(deep_data(60))


def test_a_long_path_walks_deep_data():
    depth = 1_000
    data = deep_data(depth)
    assert compile_path("$" + ".below[0]" * (depth - 1) + ".x").find(data) == 0
