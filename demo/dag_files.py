"""The Dag file that loads the flows of a throwaway dags folder."""

from __future__ import annotations

from pathlib import Path

__all__ = ["write_loader"]

_LOADER = "from airflow_allma import load_flows\n\nglobals().update(load_flows(__file__))\n"


def write_loader(folder: Path) -> None:
    """Write `flows.py`, which loads all flows in the folder."""
    (folder / "flows.py").write_text(_LOADER, encoding="utf-8")
