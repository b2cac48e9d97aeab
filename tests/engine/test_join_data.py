from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_allma.engine.modules import run_module
from airflow_allma.engine.modules.csv_format import read_csv, write_csv
from airflow_allma.exceptions import PermanentStepError

STAFF = [{"id": 1, "name": "A"}, {"id": 2, "name": "B"}]
PHONES = [{"id": "2", "phone": "22"}, {"id": 3, "phone": "33"}]


def join(left, right, **more):
    inputs = {
        "left_source": left,
        "right_source": right,
        "left_format": "csv" if isinstance(left, str) else "json",
        "right_format": "csv" if isinstance(right, str) else "json",
        "output_format": "json",
        "join_type": "inner",
    }
    if "key_mappings" not in more:
        inputs["join_keys"] = ["id"]
    return run_module("system/join-data", {**inputs, **more})


@pytest.mark.parametrize(
    ("join_type", "rows"),
    [
        ("inner", [{"id": 2, "name": "B", "phone": "22"}]),
        ("left", [{"id": 1, "name": "A", "phone": None}, {"id": 2, "name": "B", "phone": "22"}]),
        ("right", [{"id": 2, "name": "B", "phone": "22"}, {"id": 3, "name": None, "phone": "33"}]),
        (
            "outer",
            [
                {"id": 1, "name": "A", "phone": None},
                {"id": 2, "name": "B", "phone": "22"},
                {"id": 3, "name": None, "phone": "33"},
            ],
        ),
    ],
)
def test_each_join_type_returns_its_rows_once(join_type, rows):
    assert join(STAFF, PHONES, join_type=join_type) == {"result": rows, "rowCount": len(rows)}


@pytest.mark.parametrize(
    ("left", "right", "join_type", "rows"),
    [
        (STAFF, [], "left", STAFF),
        (STAFF, [], "outer", STAFF),
        (STAFF, [], "inner", []),
        (STAFF, [], "right", []),
        ([], PHONES, "right", PHONES),
        ([], PHONES, "outer", PHONES),
        ([], PHONES, "left", []),
        ("id,name", PHONES, "right", PHONES),
        ([], [], "outer", []),
    ],
)
def test_an_empty_side_does_not_drop_rows_of_the_other(left, right, join_type, rows):
    assert join(left, right, join_type=join_type)["result"] == rows


def test_columns_of_both_sides_with_one_name_get_suffixes():
    left, right = [{"id": 1, "x": "l"}], [{"id": 1, "x": "r"}]
    assert join(left, right)["result"] == [{"id": 1, "x_left": "l", "x_right": "r"}]
    assert join(left, [{"id": 1, "x": "r", "y": 0}], right_select_columns=["y"])["result"] == [
        {"id": 1, "x_left": "l", "y": 0}
    ]


def test_a_right_column_never_overwrites_a_left_key():
    rows = join(
        [{"id": 1, "a": "l"}],
        [{"uid": 1, "id": 77}],
        key_mappings=[{"left": "id", "right": "uid"}],
    )["result"]
    assert rows == [{"id": 1, "a": "l", "id_right": 77}]


def test_key_parts_are_not_concatenated():
    left = [{"a": "x | y", "b": "z"}]
    right = [{"a": "x", "b": "y | z", "c": 1}]
    assert join(left, right, key_mappings=[{"left": n, "right": n} for n in "ab"])["rowCount"] == 0


@pytest.mark.parametrize(
    ("left", "right"), [(1, "1"), (1.0, 1), (True, "true"), (None, ""), ({"k": 1}, {"k": 1})]
)
def test_keys_are_compared_as_strings(left, right):
    assert join([{"id": left}], [{"id": right, "v": 1}])["rowCount"] == 1


def test_objects_with_different_content_are_different_keys():
    assert join([{"id": {"k": 1}}], [{"id": {"k": 2}}])["rowCount"] == 0


@pytest.mark.parametrize("selected", [None, []])
def test_no_selection_means_all_right_columns(selected):
    assert join(STAFF, PHONES, right_select_columns=selected)["result"][0]["phone"] == "22"


def test_selected_columns_keep_their_order_even_if_the_first_row_lacks_them():
    right = [{"id": 1, "b": 1}, {"id": 2, "a": 2, "b": 3}]
    joined = join(STAFF, right, right_select_columns=["a", "b", "id"], output_format="csv")
    assert joined["result"] == "id,name,a,b\n1,A,,1\n2,B,2,3"


def test_lines_with_another_number_of_fields_are_dropped_and_logged(caplog):
    joined = join("id,name\n1,A\n\n2\n3,C,c\r\n2,B\n", PHONES)
    assert joined["result"] == [{"id": "2", "name": "B", "phone": "22"}]
    assert "2 lines of left_source" in caplog.text


def test_csv_output_writes_values_as_json_does():
    right = [{"id": 1, "f": 3.0, "t": True, "o": {"k": [1]}, "n": None, "q": 'a"b,c\nd'}]
    joined = join([{"id": 1}], right, output_format="csv")
    assert joined["result"] == 'id,f,t,o,n,q\n1,3,true,"{""k"":[1]}",,"a""b,c\nd"'


def test_tables_of_very_many_columns_and_keys_are_joined_in_linear_time():
    # Quadratic in the columns, this takes minutes.
    wide = {f"c{number}": number for number in range(30_000)}
    joined = join([wide], [wide], join_keys=list(wide))
    assert joined["result"] == [wide]


def test_a_join_without_rows_is_an_empty_string_in_csv():
    assert join(STAFF, [], output_format="csv") == {"result": "", "rowCount": 0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"join_keys": ["nope"]}, "left side has no column 'nope'; its first row has 'id', 'name'"),
        (
            {"left_source": [{f"c{number}": 1 for number in range(10_000)}]},
            r"its first row has 'c0', .*'c19', 10000 in all\.",
        ),
        ({"join_keys": []}, r"\$\.join_keys"),
        ({"join_keys": None}, "either join_keys or key_mappings"),
        (
            {"key_mappings": [{"left": "id", "right": "id"}], "join_keys": ["id"]},
            "either join_keys or key_mappings",
        ),
        ({"key_mappings": [{"left": "", "right": "id"}], "join_keys": None}, r"\$\.key_mappings\[0\]\.left"),
        ({"left_source": "text"}, "left_source must be a list of objects"),
        ({"right_format": "csv"}, "right_source must be a string"),
        ({"left_source": [{"id": 1}, 5]}, r"\$\.left_source\[1\] is not an object"),
        ({"join_type": "cross"}, r"\$\.join_type"),
        ({"right_source": [{"id": 1, "name": 2, "name_left": 3}]}, "would be named 'name_left'"),
    ],
)
def test_an_invalid_join_is_rejected_with_the_location_of_the_problem(changes, message):
    with pytest.raises(PermanentStepError, match=message):
        join(STAFF, PHONES, **{"join_keys": ["id"], **changes})


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\r\x00"), max_size=6)


@given(
    st.lists(st.text("abcxyz", min_size=1, max_size=3), min_size=1, max_size=4, unique=True),
    st.data(),
)
def test_written_csv_can_be_read_back(columns, data):
    # A single empty cell is a blank line, which is not kept, as white space at both ends of the CSV.
    row = st.lists(CELLS.map(lambda cell: f"<{cell}>"), min_size=len(columns), max_size=len(columns))
    rows = [
        dict(zip(columns, cells, strict=True)) for cells in data.draw(st.lists(row, min_size=1, max_size=5))
    ]
    text = write_csv(columns, rows)
    assert read_csv(text) == (rows, 0)
    assert list(csv.DictReader(io.StringIO(text, newline=""))) == rows


@given(st.text('a",\n\r ', max_size=60))
def test_any_string_can_be_read_as_csv(text):
    rows, dropped = read_csv(text)
    assert dropped >= 0
    assert all(isinstance(value, str) for row in rows for value in row.values())


IDS = st.sampled_from([1, "1", 2, None, "", "b"])


@given(
    st.lists(st.fixed_dictionaries({"id": IDS, "l": st.integers(0, 9)}), max_size=6),
    st.lists(st.fixed_dictionaries({"id": IDS, "r": st.integers(0, 9)}), max_size=6),
)
def test_joins_agree_with_a_comparison_of_all_pairs(left, right):
    def key(row):
        return "" if row["id"] is None else str(row["id"])

    pairs = [(a["l"], b["r"]) for a in left for b in right if key(a) == key(b)]
    only_left = [(a["l"], None) for a in left if all(key(a) != key(b) for b in right)]
    only_right = [(None, b["r"]) for b in right if all(key(a) != key(b) for a in left)]
    expected_rows = {
        "inner": pairs,
        "left": pairs + only_left,
        "right": pairs + only_right,
        "outer": pairs + only_left + only_right,
    }
    for join_type, expected in expected_rows.items():
        joined = join(left, right, join_type=join_type)
        found = [(row.get("l"), row.get("r")) for row in joined["result"]]
        assert sorted(found, key=repr) == sorted(expected, key=repr)
        assert joined["rowCount"] == len(expected)


@pytest.mark.parametrize(
    ("join_type", "ids", "found"),
    [
        ("outer", [None, 4, None], ["ac", "b"]),
        ("right", [None, 4, None], ["ac", "b"]),
        ("outer", [4, None, ""], ["a", "bc"]),
        ("outer", [5, 4, "5"], ["ac", "b"]),
        ("outer", [9, None, 9], ["ac", "b"]),
        ("inner", [None, 4, None], []),
        ("left", [None, 4, None], []),
    ],
)
def test_right_rows_with_equal_keys_and_no_match_are_together(join_type, ids, found):
    right = [{"id": key, "r": name} for key, name in zip(ids, "abc", strict=True)]
    rows = join([{"id": 9}], right, join_type=join_type)["result"]
    assert "".join(row["r"] or "" for row in rows) == "".join(found)


def test_rows_without_a_key_match_each_other():
    rows = join([{"id": None, "l": 1}], [{"id": 2, "r": 2}, {"id": "", "r": 3}], join_type="outer")["result"]
    assert rows == [{"id": None, "l": 1, "r": 3}, {"id": 2, "l": None, "r": 2}]
