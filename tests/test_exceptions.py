"""The tree of errors, and the messages of errors."""

from __future__ import annotations

import pickle
import re

from airflow_allma import exceptions
from airflow_allma.exceptions import AllmaError, ExpressionSyntaxError

DOCUMENTED = exceptions.__doc__.split("```")[1].strip().splitlines()


def draw_tree(error, prefix="", prefix_below=""):
    """Yield the lines of a class and its subclasses, in the order of their definitions."""
    yield prefix + error.__name__
    subclasses = [one for one in error.__subclasses__() if one.__module__ == exceptions.__name__]
    for subclass in subclasses[:-1]:
        yield from draw_tree(subclass, prefix_below + "├── ", prefix_below + "│   ")
    for subclass in subclasses[-1:]:
        yield from draw_tree(subclass, prefix_below + "└── ", prefix_below + "    ")


def test_the_docstring_shows_the_whole_tree():
    documented = [re.match(r"[│├└─ ]*\w+", line)[0] for line in DOCUMENTED]
    assert documented == list(draw_tree(AllmaError))


def test_the_docstring_says_what_each_error_means():
    for line in DOCUMENTED[1:]:
        assert re.fullmatch(r"[│├└─ ]*\w+ +\w.+", line), line


def test_all_names_every_error():
    errors = [
        name
        for name, member in vars(exceptions).items()
        if getattr(member, "__module__", "") == exceptions.__name__
    ]
    assert exceptions.__all__ == sorted(errors)


def test_a_caret_points_at_the_error():
    error = ExpressionSyntaxError("a name is missing", "$.a..b", 4)
    assert str(error) == "a name is missing\n  $.a..b\n      ^"


def test_a_long_line_is_cut_around_the_error():
    expression = "x" * 500 + "!" + "y" * 500
    lines = str(ExpressionSyntaxError("not here", expression, 500)).splitlines()
    assert max(map(len, lines)) < 140
    assert lines[1][lines[2].index("^")] == "!"


def test_an_error_can_be_pickled():
    error = pickle.loads(pickle.dumps(ExpressionSyntaxError("no", "$.", 1)))
    assert (error.reason, error.expression, error.position) == ("no", "$.", 1)
