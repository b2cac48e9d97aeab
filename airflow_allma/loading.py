"""Loads flow files with all checks: of expressions, step types, modules and schedules.

The one module that connects the flow language to what runs it; the command line and the Dag factory load
files with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from airflow_allma.engine.modules.fixed_settings import settings_check
from airflow_allma.engine.own_modules import OwnModules
from airflow_allma.engine.steps import unsupported_reason
from airflow_allma.expressions import (
    compile_condition,
    compile_config_string,
    compile_path,
    compile_target,
    compile_template,
)
from airflow_allma.expressions.condition_findings import never_true
from airflow_allma.expressions.find_references import references, template_references
from airflow_allma.flow import (
    NO_DEPLOY_VARIABLES,
    DeployVariables,
    FileCache,
    FlowChecks,
    FoundFile,
    FoundFiles,
    LoadedFile,
    LoadedFolder,
    find_files,
    found_file,
    load_file,
    load_found_files,
)
from airflow_allma.flow.secret_names import AllowedSecrets
from airflow_allma.timetables import schedule_problem

__all__ = ["FLOW_CHECKS", "flow_checks", "load_flow_file", "load_flow_files", "sibling_files"]


class _Compilers:
    path = staticmethod(compile_path)
    condition = staticmethod(compile_condition)
    template = staticmethod(compile_template)
    rendered = staticmethod(compile_config_string)
    target = staticmethod(compile_target)

    @staticmethod
    def target_keys(source: str) -> tuple[str, ...]:
        return compile_target(source).keys

    @staticmethod
    def path_keys(source: str) -> tuple[str, ...] | None:
        return compile_path(source).plain_keys


class _Readers(_Compilers):
    reads = staticmethod(references)
    template_reads = staticmethod(template_references)
    never_true = staticmethod(never_true)


_EXPRESSIONS: Final = _Readers()

FLOW_CHECKS: Final = FlowChecks(
    _EXPRESSIONS,
    unsupported_reason,
    schedule_problem,
    _EXPRESSIONS,
    settings_check,
    notifiers=(),
)
"""All checks of this package: each expression is compiled by the code that will run it."""


def flow_checks(
    allowed: AllowedSecrets,
    notifiers: tuple[str, ...] | None = (),
    external_modules: str = "",
    *,
    lints: bool = True,
) -> FlowChecks:
    """Return all checks.

    Args:
        allowed: the connections and Variables that flows may name.
        notifiers: patterns of the notifiers that flows may name; None: they are not checked.
        external_modules: the setting of this name.
        lints: whether to look for likely mistakes too; a task's own process need not, as nobody sees warnings
            there.
    """
    reader = FLOW_CHECKS.reader if lints else None
    supported = partial(unsupported_reason, own_modules=OwnModules(external_modules))
    return replace(FLOW_CHECKS, allowed=allowed, notifiers=notifiers, reader=reader, supported=supported)


def load_flow_file(path: Path | str) -> LoadedFile:
    """Read one file and check everything in it; the result has its problems."""
    return load_file(path, FLOW_CHECKS)


def load_flow_files(
    paths: Iterable[Path | str],
    allowed: AllowedSecrets = FLOW_CHECKS.allowed,
    notifiers: tuple[str, ...] = (),
    *,
    deploy: DeployVariables = NO_DEPLOY_VARIABLES,
    external_modules: str = "",
) -> LoadedFolder:
    """Read flow files, also those below folders; of several versions of a flow, select the one that runs.

    What the flows of a file use can be in any of these files, and in the folder of a file that is named.

    Args:
        paths: files and folders; a file in this list is read whatever its name.
        allowed: the connections and Variables that flows may name.
        notifiers: patterns of the notifiers that flows may name.
        deploy: the values of placeholders in flow variables.
        external_modules: the setting of this name.
    """
    listed = [Path(path) for path in paths]
    found = [find_files(path) if path.is_dir() else FoundFiles((found_file(path),), ()) for path in listed]
    cache = FileCache(flow_checks(allowed, notifiers, external_modules))
    return load_found_files(found, cache, around=_siblings(listed, found), deploy=deploy)


def _siblings(paths: Iterable[Path], found: Iterable[FoundFiles]) -> list[FoundFile]:
    """Return the other files in the folders of the files, not those in deeper folders."""
    known = {Path(file.path).absolute() for one in found for file in one.files}
    first_of_folder = {path.parent: path for path in paths if not path.is_dir()}
    return [
        found_file(path)
        for one in first_of_folder.values()
        for path in sibling_files(one)
        if path.absolute() not in known
    ]


def sibling_files(path: Path) -> list[Path]:
    """Return the other JSON files in the folder of a file, not those in deeper folders."""
    return [
        one
        for one in sorted(path.parent.glob("*.json"))
        if not one.name.startswith(".") and one.name != path.name
    ]
