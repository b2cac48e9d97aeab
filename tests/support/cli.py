"""Calling the command line in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from airflow_allma.cli import app


class Called:
    """What one call of ``airflow-allma`` came to."""

    def __init__(self, *arguments: Any) -> None:
        answer = CliRunner().invoke(app, [str(one) for one in arguments])
        if answer.exception is not None and not isinstance(answer.exception, SystemExit):
            raise answer.exception
        self.code = answer.exit_code
        self.out = answer.stdout
        self.err = answer.stderr

    @property
    def answer(self) -> dict[str, Any]:
        """Standard output as the one JSON object that it must be."""
        found: dict[str, Any] = json.loads(self.out)
        return found


def written(folder: Path, name: str, document: Any) -> Path:
    """A file with this JSON (or this text) in it."""
    path = folder / name
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def flow_document(steps: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"id": "shop", "startStepInstanceId": next(iter(steps)), "steps": steps, **fields}
