"""The imports of the package: those that break the order of layers."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "airflow_allma"
MAX_LINES = 400

_LOWEST = frozenset({"exceptions", "common"})
_ENGINE = _LOWEST | {"flow", "expressions", "storage"}
_TIMETABLES = _ENGINE | {"engine"}
_DISTRIBUTED = _ENGINE | {"engine", "settings"}
_INSPECTION = _DISTRIBUTED | {"distributed"}
_OPERATORS = _TIMETABLES | {"timetables", "distributed", "settings", "configuration", "compat"}
_FACTORY = _OPERATORS | {"operators", "loading"}
_TOP = _FACTORY | {"dag_factory", "picture"}

MAY_IMPORT: Mapping[str, frozenset[str]] = {
    "exceptions": frozenset(),
    "compat": frozenset(),
    "common": frozenset({"exceptions"}),
    "flow": _LOWEST,
    "expressions": _LOWEST,
    "storage": _LOWEST,
    "engine": _ENGINE,
    "settings": _LOWEST | {"flow"},
    "configuration": _LOWEST | {"flow", "settings", "compat"},
    "distributed": _DISTRIBUTED,
    "inspection": _INSPECTION,
    "timetables": _TIMETABLES,
    "loading": _TIMETABLES | {"timetables"},
    "operators": _OPERATORS,
    "dag_factory": _FACTORY,
    "picture": _LOWEST | {"flow"},
    "server": _TOP | {"inspection"},
    "cli": (_TOP - {"operators"}) | {"inspection"},
    "plugin": _TOP | {"server"},
    "provider": _TOP,
    # Public names, imported when they are first used.
    "__init__": _TOP,
    # Dag files, which import public names.
    "example_dags": frozenset({"__init__"}),
    "__main__": frozenset({"cli"}),
}
"""Part of the package -> the parts that it may import, besides itself."""

KNOWS_AIRFLOW = frozenset(
    {"compat", "configuration", "timetables", "operators", "dag_factory", "server", "plugin", "provider"}
)


@dataclass(frozen=True)
class Import:
    """One import statement; ``module`` includes the name if it is imported from the root package."""

    file: Path
    line: int
    part: str
    module: str
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.part} imports {self.module}"


def modules(root: Path) -> Iterator[Path]:
    """Return all Python files of the package in ``root``."""
    return iter(sorted((root / PACKAGE).rglob("*.py")))


def imports(root: Path) -> Iterator[Import]:
    """Yield all imports of the package, also those inside functions and for type checkers."""
    for file in modules(root):
        path = file.relative_to(root / PACKAGE)
        part = path.parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield Import(file, node.lineno, part, alias.name)
            elif isinstance(node, ast.ImportFrom):
                names = tuple(alias.name for alias in node.names)
                module = _absolute(node, path)
                if module == PACKAGE:
                    for name in names:
                        yield Import(file, node.lineno, part, f"{PACKAGE}.{name}")
                else:
                    yield Import(file, node.lineno, part, module, names)
            elif isinstance(node, ast.Call) and _is_dynamic(node):
                argument = node.args[0]
                if isinstance(argument, ast.Constant):
                    yield Import(file, node.lineno, part, str(argument.value))


def _absolute(node: ast.ImportFrom, path: Path) -> str:
    if not node.level:
        return node.module or ""
    above = [PACKAGE, *path.parts[:-1]]
    return ".".join([*above[: len(above) - node.level + 1], *([node.module] if node.module else [])])


def _is_dynamic(node: ast.Call) -> bool:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    return name in {"import_module", "__import__"} and bool(node.args)


def violations(root: Path) -> list[str]:
    """Return the imports that break the order of layers."""
    found = []
    for one in imports(root):
        top, _, rest = one.module.partition(".")
        if top == PACKAGE:
            below = rest.split(".")[0]
            if below.startswith("__") or below == one.part:
                continue
            # What is not a part is a public name.
            if (below if below in MAY_IMPORT else "__init__") not in MAY_IMPORT.get(one.part, frozenset()):
                found.append(str(one))
        elif top == "airflow" and one.part not in KNOWS_AIRFLOW:
            found.append(str(one))
    return found


def module_name(root: Path, file: Path) -> str:
    """Return the dotted name of a file's module."""
    return ".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
