"""``airflow-allma init``: the loader files, and the example flows, for a Dag folder."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path
from typing import Final

import typer

__all__ = ["EXAMPLES", "LOADER_FILES", "init_folder"]

LOADER_FILES: Final = {
    "allma_flows.py": '''\
"""Builds an Airflow Dag from every flow in this folder."""

from airflow_allma import load_flows

globals().update(load_flows(__file__))
''',
    "allma_problems.py": '''\
"""Shows broken flows of this folder as Airflow import errors; defines no Dag itself."""

from airflow_allma import report_problems

report_problems(__file__)
''',
}
"""File name -> content. Airflow only looks at Python files that contain the words "airflow" and "dag"."""

EXAMPLES: Final = ("product_details.json", "enrich_users.json")

_EXAMPLE_ID: Final = '"id": "example-'
"""Beginning of the ids in ``example_dags``. With ``[core] load_examples`` Airflow shows those flows too, and
no two Dags can have the same id, so the copies have ids without the prefix."""

_NEXT: Final = """
Next:
- {folder} must be Airflow's dags folder ([core] dags_folder), or a folder in it. Airflow finds the two Python
  files within five minutes ([dag_processor] refresh_interval).
- Put your flows (*.json) there; check them with: airflow-allma validate {folder}
- A new Dag is paused: unpause it in the UI, or with: airflow dags unpause DAG_ID"""

_NEXT_EXAMPLES: Final = """\
- product-details calls GET API/products/ID. Give it the address of your API:
  airflow dags trigger product-details --conf \\
    '{"productIds": [{"id": 101}], "flow_variables": {"apiBaseUrl": "https://api.example.com"}}'
- enrich-users reads a DynamoDB table (partition key tenant, sort key userId), writes a manifest to an S3
  bucket, and calls GET API/users/USER_ID?region=REGION. It needs the Airflow connection aws_default:
  airflow dags trigger enrich-users --conf '{"tenant": "acme", "flow_variables":
    {"apiBaseUrl": "https://api.example.com", "table": "users", "bucket": "my-data-bucket"}}'
- Or set these values for all runs, as flowVariables in the two files."""


def init_folder(folder: Path, *, examples: bool, force: bool) -> int:
    """Write the loader files, and with ``examples`` the example flows, into a folder.

    If a file exists with other content, nothing is written, unless ``force``.

    Returns:
        The exit code.
    """
    contents = dict(LOADER_FILES)
    if examples:
        contents |= {name: _example(name) for name in EXAMPLES}
    try:
        kept = {name for name, content in contents.items() if _content(folder / name) == content.encode()}
        # A link that leads nowhere exists too: writing through it would create a file elsewhere.
        changed = [name for name in contents if name not in kept and os.path.lexists(folder / name)]
        if changed and not force:
            listed = "\n".join(f"  {folder / name}" for name in changed)
            typer.echo(
                f"These files exist with other content:\n{listed}\n"
                "Nothing was written. Use --force to overwrite them, or choose another folder.",
                err=True,
            )
            return 2
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            if name not in kept:
                (folder / name).write_text(content, encoding="utf-8", newline="\n")
            typer.echo(f"{_verb(name, kept, changed)} {folder / name}")
    except OSError as error:
        typer.echo(f"{error.filename}: {error.strerror}", err=True)
        return 2
    typer.echo(_NEXT.format(folder=folder))
    if examples:
        typer.echo(_NEXT_EXAMPLES)
    return 0


def _verb(name: str, kept: set[str], changed: list[str]) -> str:
    if name in kept:
        return "unchanged"
    return "overwrote" if name in changed else "wrote"


def _content(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return None


def _example(name: str) -> str:
    content = (files("airflow_allma") / "example_dags" / name).read_text(encoding="utf-8")
    return content.replace(_EXAMPLE_ID, '"id": "', 1)
