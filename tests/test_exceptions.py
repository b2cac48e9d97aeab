"""How errors read."""

from __future__ import annotations

import pickle

from airflow_allma.exceptions import ExpressionSyntaxError


def test_a_caret_points_at_the_place():
    error = ExpressionSyntaxError("a name is missing", "$.a..b", 4)
    assert str(error) == "a name is missing\n  $.a..b\n      ^"


def test_a_long_line_is_cut_around_the_place():
    text = "x" * 500 + "!" + "y" * 500
    lines = str(ExpressionSyntaxError("not here", text, 500)).splitlines()
    assert max(map(len, lines)) < 140
    assert lines[1][lines[2].index("^")] == "!"


def test_an_error_survives_the_way_to_another_process():
    error = pickle.loads(pickle.dumps(ExpressionSyntaxError("no", "$.", 1)))
    assert (error.reason, error.text, error.position) == ("no", "$.", 1)
