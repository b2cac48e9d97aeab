"""A short form of each campaign, and tests of the runner itself."""

from __future__ import annotations

from collections import Counter

import pytest

from airflow_allma.loading import load_flow_file
from tests.fuzz import deliberate_faults, engine_and_dag, flow_corpus
from tests.fuzz.__main__ import CAMPAIGNS, main
from tests.fuzz.campaign import generator, load, run_case
from tests.fuzz.runner import Limits, run_campaign
from tests.support.airflow import RunDag
from tests.support.flow_files import write

FAULTS = "tests.fuzz.deliberate_faults:CAMPAIGN"
FEW = {"flow-files": 150, "expressions": 1_500, "manifests": 100, "json": 400}
"""How many cases take a few seconds."""
SEED = 1


@pytest.mark.parametrize("name", FEW)
def test_no_input_of_a_campaign_crashes_hangs_or_has_unlocated_problems(name):
    outcomes = list(run_campaign(CAMPAIGNS[name][0], seed=SEED, cases=range(FEW[name]), workers=1))
    assert len(outcomes) == FEW[name]
    assert [(one.index, one.fault, one.details) for one in outcomes if one.fault] == []
    # Inputs that are all refused, or all read, test nothing.
    assert len(Counter(outcome.kind for outcome in outcomes)) >= 2


def test_the_flows_that_are_changed_have_no_errors_before(tmp_path):
    for number, document in enumerate(
        (flow_corpus.RICH, {**flow_corpus.EXPORT, "flows": [flow_corpus.RICH]})
    ):
        loaded = load_flow_file(write(tmp_path, f"{number}.json", document))
        assert [str(problem) for problem in loaded.problems if problem.is_error] == []


@pytest.mark.airflow
@pytest.mark.parametrize("index", range(4))
def test_a_random_flow_has_the_same_result_on_the_engine_and_as_a_dag(index, run_dag: RunDag, tmp_path):
    outcome = run_case(engine_and_dag.CAMPAIGN, SEED, index, tmp_path)
    assert outcome.fault is None, outcome.details


def test_the_runner_reports_each_way_to_fail_and_goes_on():
    cases = range(45)
    limits = Limits(seconds=0.3, memory_bytes=1 << 30)
    outcomes = {one.index: one for one in run_campaign(FAULTS, seed=0, cases=cases, workers=2, limits=limits)}
    made = {index: deliberate_faults.make(generator(deliberate_faults.CAMPAIGN, 0, index)) for index in cases}
    assert set(made.values()) == set(deliberate_faults.BEHAVIORS)
    assert {index: one.kind for index, one in outcomes.items()} == {
        index: deliberate_faults.EXPECTED[name] for index, name in made.items()
    }
    places = {made[index]: one.fault or "" for index, one in outcomes.items()}
    assert places["raise"].startswith("ValueError at")
    assert "SystemExit" in places["exit"]
    assert "exit code 4" in places["die"]
    assert "MemoryError" in places["memory"]


@pytest.mark.parametrize("name", CAMPAIGNS)
def test_an_input_depends_on_its_seed_and_number_alone(name):
    campaign = load(CAMPAIGNS[name][0])
    made = {seed: [campaign.make(generator(campaign, seed, index)) for index in range(5)] for seed in (1, 2)}
    assert [campaign.make(generator(campaign, 1, index)) for index in reversed(range(5))] == made[1][::-1]
    assert made[1] != made[2]


def test_the_command_counts_what_it_tried_and_says_how_to_repeat_a_fault(monkeypatch, capsys):
    monkeypatch.setitem(CAMPAIGNS, "faults", (FAULTS, 40))
    assert main(["faults", "--cases", "12", "--seconds", "0.3"]) == 1
    printed = capsys.readouterr().out
    assert "faults: 12 inputs in " in printed
    assert "again: python -m tests.fuzz --seed 0 --case faults:" in printed
    assert main(["json", "--cases", "20", "--seed", "3"]) == 0
    assert "0 crash, 0 hang, 0 unlocated, 0 wrong" in capsys.readouterr().out


def test_one_case_is_repeated_by_its_number(monkeypatch, capsys):
    monkeypatch.setitem(CAMPAIGNS, "faults", (FAULTS, 40))
    numbers = {
        deliberate_faults.make(generator(deliberate_faults.CAMPAIGN, 0, index)): index for index in range(40)
    }
    assert main(["--case", f"faults:{numbers['raise']}"]) == 1
    assert "ValueError: no" in capsys.readouterr().out
    assert main(["--case", f"faults:{numbers['good']}"]) == 0
