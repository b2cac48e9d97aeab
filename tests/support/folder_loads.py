"""Loads of flow folders, and what they found."""

from __future__ import annotations

from airflow_allma.flow import DeployVariables, FileCache, find_files, load_found_files
from airflow_allma.loading import FLOW_CHECKS
from tests.support.artifact_files import flow_of, put, using

PROD = DeployVariables({"stage": "prod"})


def load(folder, cache=None, deploy=PROD):
    return load_found_files([find_files(folder)], cache or FileCache(FLOW_CHECKS), deploy=deploy)


def shown(loaded):
    """Return (file, severity, path, message) of all problems."""
    return [
        (problem.file.rpartition("/")[2], str(problem.severity), problem.path, problem.message)
        for problem in loaded.problems
    ]


def located(loaded, folder):
    """Return (file, path, the line's text) of all errors."""
    found = []
    for problem in loaded.problems:
        if problem.is_error:
            name = problem.file.rpartition("/")[2]
            found.append(
                (name, problem.path, (folder / name).read_text().splitlines()[problem.line - 1].strip())
            )
    return found


def flows(loaded):
    return {source.flow.id: source.flow for source in loaded.flows}


def one_flow(folder, **fields):
    put(folder, "f.flow.json", flows=[flow_of("f", {"a": using("d", **fields)})])


def variables(folder, **options):
    return flows(load(folder, **options))["f"].flow_variables


def step(kind, **fields):
    return {"stepType": kind, **fields}
