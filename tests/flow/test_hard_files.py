"""Files that would take long or much memory: refused, or looked at no further than is useful."""

from __future__ import annotations

import json

import pytest

from airflow_allma.common.nearest import nearest
from airflow_allma.flow import load_file
from airflow_allma.flow.documents import MAX_FILE_BYTES, MAX_PROBLEMS, MAX_TAGS
from airflow_allma.flow.json_scan import scan
from airflow_allma.flow.validation import MAX_STEPS
from tests.support.flow_files import flow, write


def test_a_file_of_50_mb_is_rejected_unopened(tmp_path, monkeypatch):
    file = tmp_path / "large.json"
    with file.open("wb") as stream:
        stream.truncate(50_000_000)
    monkeypatch.setattr(type(file), "open", lambda *_: pytest.fail("it was opened"))
    (problem,) = load_file(file).problems
    assert f"the file is larger than {MAX_FILE_BYTES >> 20} MiB; split it into several" in problem.message


def test_a_file_of_unknown_size_is_read_only_up_to_the_limit(tmp_path):
    # Its size is 0, and it could be read for ever.
    (tmp_path / "memory.json").symlink_to("/proc/self/mem")
    (problem,) = load_file(tmp_path / "memory.json").problems
    assert "cannot be read: Input/output error" in problem.message


@pytest.mark.parametrize("digits", [309, 400, 4_300, 100_000])
@pytest.mark.parametrize("field", ["name", "version", "unknown"])
def test_an_integer_of_too_many_digits_is_a_located_problem(tmp_path, digits, field):
    file = write(tmp_path, "f.json", f'{{"id": "f",\n "{field}": {"9" * digits},\n "steps": {{}}}}')
    (problem,) = load_file(file).problems
    assert "this number is too large" in problem.message
    assert problem.line == 2


def test_many_digits_in_a_string_are_no_number(tmp_path):
    loaded = load_file(write(tmp_path, "f.json", flow(description="9" * 400)))
    assert loaded.problems == ()


def steps(count):
    return {
        f"s{n}": {
            "stepType": "NO_OP",
            "displayName": n,
            **({"defaultNextStepInstanceId": f"s{n + 1}"} if n + 1 < count else {}),
        }
        for n in range(count)
    }


def test_of_too_many_problems_the_first_are_listed_and_the_others_counted(tmp_path):
    flow = {"id": "f", "startStepInstanceId": "s0", "steps": steps(3 * MAX_PROBLEMS)}
    text = json.dumps(flow, indent=1)
    (tmp_path / "f.json").write_text(text)
    problems = load_file(tmp_path / "f.json").problems
    assert [problem.path for problem in problems[:-1]] == [
        f"$.steps.s{n}.displayName" for n in range(MAX_PROBLEMS)
    ]
    assert problems[-1].message.startswith("200 more problems")
    first_of_them = text[: text.index('"displayName": 100')].count("\n") + 1
    assert problems[-1].line == first_of_them


def test_errors_have_priority_over_warnings_if_there_are_too_many(tmp_path):
    unreached = {f"a{n}": {"stepType": "NO_OP"} for n in range(2 * MAX_PROBLEMS)}
    flow = {
        "id": "f",
        "startStepInstanceId": "last",
        "steps": {**unreached, "last": {"stepType": "NO_OP", "displayName": 1}},
    }
    (tmp_path / "f.json").write_text(json.dumps(flow))
    problems = load_file(tmp_path / "f.json").problems
    assert len(problems) == MAX_PROBLEMS + 1
    assert [problem.path for problem in problems if problem.is_error] == ["$.steps.last.displayName"]
    columns = [problem.column for problem in problems[:-1]]
    assert columns == sorted(columns)


def test_of_too_many_repeated_keys_the_first_are_reported(tmp_path):
    (tmp_path / "f.json").write_text("{" + ",".join(['"a": 1'] * 5_000) + "}")
    assert len(load_file(tmp_path / "f.json").problems) == MAX_PROBLEMS


@pytest.mark.parametrize("place", ["flow", "branch"])
def test_a_flow_with_too_many_steps_is_rejected_unchecked(tmp_path, place):
    flow = {"id": "f", "startStepInstanceId": "s0", "steps": steps(MAX_STEPS + 1)}
    if place == "branch":
        own = {"branchId": "b", "startStepInstanceId": "s0", "steps": flow["steps"]}
        fork = {"stepType": "PARALLEL_FORK_MANAGER", "parallelBranches": [own]}
        flow = {"id": "f", "startStepInstanceId": "fork", "steps": {"fork": fork}}
    (tmp_path / "f.json").write_text(json.dumps(flow))
    loaded = load_file(tmp_path / "f.json")
    (problem,) = loaded.problems
    assert problem.path == "$.steps"
    assert "at most 2000 steps, and this one has 200" in problem.message
    assert loaded.broken_flow_ids == ("f",)


def test_small_values_share_empty_containers():
    elements = scan("[1, 2, [3]]").root.elements
    assert elements[0].members is elements[1].members
    assert elements[0].elements is elements[1].elements
    assert elements[2].elements is not elements[0].elements


def test_a_name_is_not_compared_with_too_many_others():
    assert nearest("step_1x", [f"step_{n}" for n in range(100)]) is not None
    assert nearest("step_1x", [f"step_{n}" for n in range(10_000)]) is None


@pytest.mark.parametrize("tag", ["{{a}}", r"\u007b\u007Ba}}", r"{\u007b a}}"])
def test_a_file_with_too_many_template_tags_is_refused_at_the_first_of_them_beyond_the_limit(tmp_path, tag):
    def problems(count):
        steps = f'"s": {{"stepType": "NO_OP", "literals": {{"x": \n"{tag * count}"}}}}'
        file = tmp_path / "flow.json"
        file.write_text(f'{{"id": "f", "startStepInstanceId": "s", "steps": {{{steps}}}}}')
        return load_file(file).problems

    assert problems(MAX_TAGS) == ()
    (problem,) = problems(MAX_TAGS + 1)
    assert (problem.line, problem.column) == (2, 2 + MAX_TAGS * len(tag))
    assert f"more than {MAX_TAGS} template tags" in problem.message
