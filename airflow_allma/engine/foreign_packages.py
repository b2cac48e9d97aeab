"""Which installed packages are tools of the platform, not code that was written for flows."""

from __future__ import annotations

import re
import sys
import sysconfig
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from importlib.util import find_spec
from pathlib import Path
from typing import Final

__all__ = ["is_platform_module"]

_PYTHON: Final = sys.stdlib_module_names | {"builtins", "test", "__main__"}
_PLATFORM: Final = frozenset({"airflow", "airflow_allma"})
_TOOLS: Final = ("airflow-allma", "apache-airflow", "pip", "setuptools", "wheel", "uv")
_PROVIDERS: Final = "apache-airflow-"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def is_platform_module(module: str) -> bool:
    """Return whether a module belongs to Python, to Airflow or this package, or to what they require.

    Code in a dags folder, on ``PYTHONPATH`` or in a package that nothing of Airflow requires does not.

    Args:
        module: a dotted name. It is not imported.
    """
    top = module.partition(".")[0]
    if top in _PYTHON or top in _PLATFORM:
        return True
    return _is_installed(top) and top in _platform_packages()


def _is_installed(top: str) -> bool:
    """Return whether a package is where packages are installed; a dags folder or a checkout is not."""
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):
        return False
    if spec is None:
        return False
    folders = [Path(location) for location in (spec.submodule_search_locations or [spec.origin or ""])]
    installed = [Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")]
    return any(root in folder.parents for folder in folders for root in installed)


@cache
def _platform_packages() -> frozenset[str]:
    """Return the names under which the packages that Airflow requires are imported."""
    names = {_normal(one.name) for one in distributions() if one.name}
    waiting = [name for name in names if name in _TOOLS or name.startswith(_PROVIDERS)]
    seen: set[str] = set()
    packages: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue
        packages |= _import_names(found)
        waiting += [
            _normal(match[0])
            for requirement in found.requires or ()
            if "extra ==" not in requirement and (match := _NAME.match(requirement))
        ]
    return frozenset(packages)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _import_names(found: Distribution) -> set[str]:
    listed = (found.read_text("top_level.txt") or "").split()
    files = {file.parts[0].removesuffix(".py") for file in found.files or () if file.suffix == ".py"}
    return {*listed, *files}
