from __future__ import annotations

import re

import pytest

from tests.support.cli import Called, flow_document, written

GOOD = flow_document({"a": {"stepType": "NO_OP"}})
WARNED = flow_document({"a": {"stepType": "NO_OP"}, "lonely": {"stepType": "NO_OP"}}, id="warned")
LINE = re.compile(r"(?P<file>.+):(?P<line>\d+):(?P<column>\d+): (?P<severity>error|warning): \$\S*: .+")


def test_a_good_flow_has_nothing_to_print_and_exits_with_0(tmp_path):
    called = Called("validate", written(tmp_path, "good.json", GOOD))
    assert (called.code, called.out) == (0, "")
    assert called.err == "1 files, 1 flows that run, 0 errors, 0 warnings\n"


def test_warnings_alone_exit_with_0(tmp_path):
    called = Called("validate", written(tmp_path, "warned.json", WARNED))
    assert (called.code, called.out.count(": warning: $.steps.lonely: ")) == (0, 1)


def test_every_problem_is_a_line_with_its_place(repository):
    file = repository / "tests/flow/broken/many_mistakes.json"
    called = Called("validate", file)
    assert called.code == 1
    lines = called.out.splitlines()
    assert len(lines) > 3
    text = file.read_text().splitlines()
    for line in lines:
        found = LINE.fullmatch(line)
        assert found is not None, line
        assert found["file"] == str(file)
        assert int(found["column"]) <= len(text[int(found["line"]) - 1]) + 1


def test_a_folder_is_searched_and_a_broken_file_leaves_the_others_alone(tmp_path):
    (tmp_path / "deep").mkdir()
    written(tmp_path, "good.json", GOOD)
    written(tmp_path / "deep", "broken.json", "{")
    written(tmp_path / "deep", "notes.txt", "{")
    called = Called("validate", tmp_path)
    assert called.code == 1
    assert called.out.startswith(f"{tmp_path}/deep/broken.json:1:")
    assert called.err.startswith("2 files, 1 flows that run, 1 errors")


def test_the_same_flow_in_two_files_is_an_error(tmp_path):
    one, two = written(tmp_path, "a.json", GOOD), written(tmp_path, "b.json", GOOD)
    called = Called("validate", one, two)
    assert called.code == 1
    assert "is already defined in" in called.out


@pytest.mark.parametrize(
    "arguments", [["validate"], ["validate", "no/such/file.json"], ["validate", "--what"]]
)
def test_wrong_usage_exits_with_2(arguments):
    called = Called(*arguments)
    assert (called.code, called.out) == (2, "")


def test_what_cannot_run_here_is_said_at_its_place(tmp_path):
    document = flow_document(
        {"a": {"stepType": "SQS_SEND", "customConfig": {"queueUrl": "q", "payload": {}}}}
    )
    called = Called("validate", written(tmp_path, "sqs.json", document))
    assert called.code == 1
    assert "step type SQS_SEND is not supported yet" in called.out


def test_the_flows_that_come_along_are_valid(repository):
    assert (Called("validate", repository / "dags").code, Called("validate", repository / "dags").out) == (
        0,
        "",
    )
