"""One test per vector; ``--vectors DIR`` runs those of another folder instead of the project's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

OWN_VECTORS = Path(__file__).parent / "vectors"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "vector" not in metafunc.fixturenames:
        return
    folder = Path(metafunc.config.getoption("--vectors") or OWN_VECTORS)
    files = sorted(folder.glob("*.jsonl"))
    if not files:
        raise pytest.UsageError(f"--vectors {folder}: no .jsonl files were found")
    cases = []
    for file in files:
        kind = file.stem.removeprefix("ours-")
        for line in file.read_text(encoding="utf-8").splitlines():
            if line.strip():
                case = json.loads(line)
                cases.append(pytest.param((kind, case), id=f"{kind}:{case['id']}"))
    metafunc.parametrize("vector", cases)
