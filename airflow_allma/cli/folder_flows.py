"""The flows that steps run on the command line: those of the file, and of its folder."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from airflow_allma.cli.cli_secrets import allowed_notifiers, allowed_secrets, external_modules
from airflow_allma.engine import CompiledFlows, find_flow
from airflow_allma.flow import DeployVariables, Flow, LoadedFolder
from airflow_allma.loading import load_flow_files, sibling_files

__all__ = ["folder_flows"]


def folder_flows(path: Path, deploy: DeployVariables) -> CompiledFlows:
    """Return the flows that the flows of a file can run, read when a step first runs one.

    Args:
        path: the file, or a folder.
        deploy: the values of placeholders in flow variables.
    """

    @cache
    def loaded() -> LoadedFolder:
        paths = [path] if path.is_dir() else [path, *sibling_files(path)]
        return load_flow_files(
            paths, allowed_secrets(), allowed_notifiers(), deploy=deploy, external_modules=external_modules()
        )

    def find(flow_id: str, version: str) -> Flow:
        return find_flow(loaded(), flow_id, version)

    return CompiledFlows(find)
