"""Broken flow files do not affect other flows and are shown as import errors, with Airflow's own DagBag."""

from __future__ import annotations

import json
import logging
import os
import shutil

import pytest

from airflow_allma.dag_factory import load_flows, report_problems
from airflow_allma.exceptions import FlowError
from tests.airflow.flows import compose, flow

pytestmark = pytest.mark.airflow


@pytest.fixture
def folder(tmp_path, repository):
    """A dags folder with both loader files of this project."""
    for name in ("allma_flows.py", "allma_problems.py"):
        shutil.copy(repository / "dags" / name, tmp_path)
    return tmp_path


def put(folder, name, written):
    (folder / name).write_text(written if isinstance(written, str) else json.dumps(written, indent=2))


def parsed(folder):
    """Parse a folder like the Dag processor: return Dag ids, and import errors by file."""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(str(folder), bundle_path=folder, bundle_name="flows")
    return set(bag.dags), bag.import_errors


def broken(flow_id):
    return flow(flow_id, {"s": compose(to="nowhere")})


def test_one_broken_flow_among_a_thousand_is_shown_alone_until_it_is_fixed(folder):
    for number in range(1000):
        put(folder, f"f{number}.json", flow(f"f{number}", {"s": compose()}))
    put(folder, "f7.json", broken("f7"))
    dag_ids, errors = parsed(folder)
    assert dag_ids == {f"f{number}" for number in range(1000) if number != 7}
    assert set(errors) == {"allma_problems.py"}, "an error of the loader itself would take all flows along"
    text = errors["allma_problems.py"]
    line = 1 + (folder / "f7.json").read_text().split("nowhere")[0].count("\n")
    assert "1 flow file has errors" in text
    assert f"{folder}/f7.json:{line}:" in text
    assert "error: $.steps.s.defaultNextStepInstanceId: " in text
    assert "Other flows that run: 999" in text
    put(folder, "f7.json", flow("f7", {"s": compose()}))
    assert parsed(folder) == ({f"f{number}" for number in range(1000)}, {})


def link(target):
    return lambda path: path.symlink_to(target)


def sparse(path):
    with path.open("wb") as stream:
        stream.truncate(50_000_000)


def text(written):
    return lambda path: path.write_text(written if isinstance(written, str) else json.dumps(written))


HARD_FILES = {
    "the same id twice": (text(flow("good", {"s": compose()})), "is used; raise this `version`"),
    "an id with a control character": (text(flow("a\nb", {"s": compose()})), "control characters"),
    "an id that is too long": (text(flow("x" * 300, {"s": compose()})), "at most 200 characters"),
    "an empty id": (text(flow("", {"s": compose()})), "$.id: "),
    "no permission, or a failing disk": (link("/proc/self/mem"), "cannot be read: Input/output error"),
    "a link to nothing": (link("gone"), "cannot be read: No such file"),
    "a link to itself": (link("hard.json"), "cannot be read: Too many levels of symbolic links"),
    "50 MB": (sparse, "is larger than 4 MiB; split it"),
    "nested deeply": (text('{"steps":' * 100_000), "nested deeper than 100 levels"),
    "a pipe": (os.mkfifo, "not a regular file"),
    "no JSON": (text('{"id": "a",}'), "a comma is not allowed before }"),
    "empty": (text(""), "the file is empty"),
    "not UTF-8": (lambda path: path.write_bytes(b'{"id": "\xe9"}'), "not UTF-8 from here on"),
}


@pytest.mark.parametrize("case", HARD_FILES)
def test_a_file_that_is_not_a_valid_flow_is_shown_and_affects_no_other(folder, case):
    make, message = HARD_FILES[case]
    put(folder, "good.json", flow("good", {"s": compose()}))
    make(folder / "hard.json")
    dag_ids, errors = parsed(folder)
    assert dag_ids == {"good"}
    (shown,) = errors.values()
    assert f"{folder}/hard.json" in shown
    assert message in shown
    (folder / "hard.json").unlink()
    assert parsed(folder) == ({"good"}, {})


@pytest.mark.parametrize("flow_id", ["two words", "dotted.id", "café", "x" * 200, "a--0123456789"])
def test_an_id_that_airflow_does_not_accept_is_changed_and_found_again(folder, flow_id):
    put(folder, "f.json", flow(flow_id, {"s": compose()}))
    (dag_ids, errors) = parsed(folder)
    (dag_id,) = dag_ids
    assert errors == {}
    assert list(load_flows(folder, only=dag_id)) == [dag_id]


def test_a_loop_of_links_is_not_an_error_and_ends(tmp_path, caplog):
    # Not in Airflow's own folder: there, Airflow itself refuses to list Dag files.
    put(tmp_path, "good.json", flow("good", {"s": compose()}))
    (tmp_path / "loop").symlink_to(tmp_path)
    assert list(load_flows(tmp_path)) == ["good"]
    assert "remove the link" in caplog.text
    report_problems(tmp_path)


def test_while_a_new_version_is_broken_the_error_names_the_old_one_that_runs(folder):
    put(folder, "v1.json", flow("f", {"old": compose()}))
    put(folder, "v2.json", {**broken("f"), "version": 2})
    dag_ids, errors = parsed(folder)
    assert dag_ids == {"f"}
    shown = errors["allma_problems.py"]
    assert "until this file is fixed, version 1 of flow `f` runs, from " in shown
    assert "v1.json:1" in shown


def test_a_flow_that_only_airflow_refuses_is_shown_too(tmp_path):
    put(tmp_path, "f.json", flow("f", {"s": compose()}))

    def refuse(dag, one):
        raise ValueError("no such team")

    with pytest.raises(FlowError, match=r"f\.json:1:1: error: \$: .*: no such team"):
        report_problems(tmp_path, on_dag=refuse)
    report_problems(tmp_path, on_dag=refuse, keep=lambda _: False)


def test_of_many_problems_only_the_first_are_shown(tmp_path):
    for number in range(60):
        put(tmp_path, f"f{number:02}.json", "{")
    with pytest.raises(FlowError) as caught:
        report_problems(tmp_path)
    shown = str(caught.value)
    assert shown.startswith("60 flow files have errors")
    assert shown.count("not JSON") == 50
    assert shown.endswith("10 more: see `allma_problem` in the Dag processor's log.")


def test_warnings_alone_are_not_an_import_error(tmp_path):
    put(tmp_path, "f.json", flow("f", {"s": compose(), "unreached": compose()}))
    problems = []
    load_flows(tmp_path, on_problem=problems.append)
    assert [problem.is_error for problem in problems] == [False]
    report_problems(tmp_path)


def test_the_log_of_a_task_whose_flow_is_broken_says_why_there_is_no_dag(tmp_path, caplog):
    put(tmp_path, "f.json", broken("f"))
    put(tmp_path, "g.json", flow("g", {"s": compose()}))
    with caplog.at_level(logging.INFO, "airflow_allma.loader"):
        assert load_flows(tmp_path, only="f") == {}
        assert "f.json" in caplog.text
        assert "$.steps.s.defaultNextStepInstanceId" in caplog.text
        caplog.clear()
        assert list(load_flows(tmp_path, only="g")) == ["g"]
        assert "f.json" not in caplog.text
