"""Which names of Airflow the package uses: documented ones anywhere, others in one module only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.support.layers import PACKAGE, Import, imports, modules

PRIVATE_NAMES_IN = "compat"

WITH_MODELS = "server"
"""Runs in the API server only, where Airflow's database models are; plugins have no documented ones."""

PUBLIC_MODULES = frozenset(
    {
        "airflow.plugins_manager",
        "airflow.providers.amazon.aws.hooks.base_aws",
        "airflow.sdk",
        "airflow.sdk.exceptions",
        "airflow.sdk.lineage",
        "airflow.timetables.base",
        "airflow.triggers.base",
        "airflow.triggers.shared_stream",
    }
)
"""Documented in Airflow's public interface, the Task SDK's reference or a provider's."""

PRIVATE_NAMES = frozenset(
    {"SUPERVISOR_COMMS", "get_policy_plugin_manager", "get_task_states", "get_ti_count"}
)
"""Names of Airflow's that are found by their spelling, however they are reached."""


def private_names(root: Path) -> list[str]:
    """Return every use of a name of Airflow's that is not documented, one sentence each."""
    exempt = {PRIVATE_NAMES_IN, WITH_MODELS}
    found = [str(one) for one in imports(root) if one.part not in exempt and not _is_public(one)]
    for file in modules(root):
        if file.relative_to(root / PACKAGE).parts[0].removesuffix(".py") != PRIVATE_NAMES_IN:
            found += [f"{file}:{line}: uses {name}" for line, name in _spelled(file)]
    return found


def _is_public(one: Import) -> bool:
    if one.module.partition(".")[0] != "airflow":
        return True
    return one.module in PUBLIC_MODULES and not any(name.startswith("_") for name in one.names)


def _spelled(file: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(file.read_text())):
        name = None
        if isinstance(node, ast.Attribute):
            name = node.attr
        elif isinstance(node, ast.Name):
            name = node.id
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            name = node.value
        if name in PRIVATE_NAMES:
            yield node.lineno, name
