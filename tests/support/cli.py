"""A function that runs the command line in this process, and functions that write its input files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from airflow_allma.cli import app


@dataclass(frozen=True)
class CliResult:
    """The result of one call of ``airflow-allma``."""

    code: int
    """The exit status."""
    out: str
    """Standard output."""
    err: str
    """Standard error."""

    @property
    def json(self) -> dict[str, Any]:
        """Standard output, which must be one JSON object."""
        document: dict[str, Any] = json.loads(self.out)
        return document


def run_cli(*arguments: Any) -> CliResult:
    """Run ``airflow-allma`` with these arguments; exceptions other than its exit are raised."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return CliResult(result.exit_code, result.stdout, result.stderr)


def write_file(folder: Path, name: str, document: Any) -> Path:
    """Write a file with this string, or with this value as JSON."""
    path = folder / name
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def flow_document(steps: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Return a flow that starts at its first step."""
    return {"id": "shop", "startStepInstanceId": next(iter(steps)), "steps": steps, **fields}
