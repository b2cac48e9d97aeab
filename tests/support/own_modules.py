"""Packages with modules of one's own, installed into a folder as pip would."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from airflow_allma.engine import compile_flow
from airflow_allma.engine.own_modules import OwnModules
from airflow_allma.flow import parse_flow
from airflow_allma.flow.secret_names import AllowedSecrets
from airflow_allma.loading import flow_checks, load_flow_files
from tests.support.engine import FlowResult, run

CALL = {"apiHttpMethod": "GET", "apiUrlTemplate": {"template": "https://x.test"}}
GROUP = "airflow_allma.modules"


def install(folder: Path, name: str, code: str, modules: Mapping[str, str]) -> None:
    """Write a package of one Python module and its metadata.

    Args:
        folder: where packages are installed; to be on ``sys.path``.
        name: the name of the package and of its only Python module.
        code: the source.
        modules: module id -> callable in that source.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.py").write_text(code)
    register(folder, name, {key: f"{name}:{target}" for key, target in modules.items()})


def register(folder: Path, name: str, modules: Mapping[str, str]) -> None:
    """Write the metadata of a package.

    Args:
        folder: where packages are installed; to be on ``sys.path``.
        name: the name of the package.
        modules: module id -> ``package.module:callable``.
    """
    metadata = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    metadata.mkdir(parents=True, exist_ok=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    points = "".join(f"{key} = {target}\n" for key, target in modules.items())
    (metadata / "entry_points.txt").write_text(f"[{GROUP}]\n{points}")


def forget(*names: str) -> None:
    """Forget imported modules, so that another folder can have modules of the same names."""
    for name in [key for key in sys.modules if key.partition(".")[0] in names]:
        del sys.modules[name]


def own(identifier, kind="CUSTOM_LOGIC", **fields):
    return {"stepType": kind, "moduleIdentifier": identifier, **fields}


def problems(tmp_path, step, external=""):
    document = {"id": "shop", "startStepInstanceId": "own", "steps": {"own": step}}
    (tmp_path / "shop.json").write_text(json.dumps(document))
    loaded = load_flow_files([tmp_path / "shop.json"], external_modules=external)
    return [(problem.path, problem.message) for problem in loaded.problems if problem.is_error]


def run_external(step, external, payload=None, *, fakes=None, **services) -> FlowResult:
    text = json.dumps(external)
    document = {"id": "shop", "startStepInstanceId": "own", "steps": {"own": step}}
    program = compile_flow(parse_flow(document, flow_checks(AllowedSecrets(), external_modules=text)))
    return run(program, payload, fakes=fakes, own_modules=OwnModules(text), **services)
