"""``airflow-allma items`` and ``airflow-allma item``: what a run has stored of a fork's items."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import typer

from airflow_allma.cli.stored_run_option import open_stored_fork
from airflow_allma.common.printable import printable, shortened
from airflow_allma.exceptions import AllmaError
from airflow_allma.inspection import ItemQuery, fork_summary, item_detail, item_page

__all__ = ["print_item", "print_items"]

_MAX_VALUE: Final = 2_000
"""Characters of a value in text."""
_MAX_LABEL: Final = 40


def print_items(run: str, fork: str, *, query: Mapping[str, Any], store: str | None, as_json: bool) -> int:
    """Print counts, kinds of failures, and a page of items.

    Args:
        run: the run or its folder, see ``open_stored_fork``.
        fork: the fork's step id.
        query: the fields of an ``ItemQuery``.
        store: the option ``--store``.
        as_json: whether one JSON object ``{"summary", "page"}`` is printed.

    Returns:
        The exit code: 0, or 2 if the call is not valid or the store cannot be read.
    """
    try:
        view = open_stored_fork(run, fork, store).view
        page = item_page(view, ItemQuery(**query))
        summary = fork_summary(view, time.time())
    except AllmaError as error:
        typer.echo(f"error: {error}", err=True)
        return 2
    if as_json:
        typer.echo(json.dumps({"summary": summary, "page": page}, ensure_ascii=False))
        return 0
    for line in _summary_lines(summary):
        typer.echo(line)
    for row in page["rows"]:
        typer.echo(_row_line(row))
    if page["note"]:
        typer.echo(f"note: {page['note']}", err=True)
    if page["next"] is not None:
        typer.echo(f"More: --start {page['next']}", err=True)
    return 0


def _summary_lines(summary: Mapping[str, Any]) -> Iterator[str]:
    items = "an unknown number of" if summary["items"] is None else f"{summary['items']:,}"
    about = "" if summary["isExact"] else "about "
    yield (
        f"{about}{items} items, {summary['ended']:,} ended: {summary['succeeded']:,} ok, "
        f"{summary['failed']:,} failed, {summary['skipped']:,} skipped"
    )
    for kind in summary["kinds"]:
        status = "" if kind["status"] is None else f" {kind['status']}"
        step = f" in {kind['step']}" if kind["step"] else ""
        yield printable(
            f"  {kind['count']:>7,} x {kind['kind']}  {kind['errorName']}{status}{step}: {kind['message']}"
        )
    if summary["problem"]:
        yield f"problem: {printable(summary['problem'])}"


def _row_line(row: Mapping[str, Any]) -> str:
    index = "?" if row["index"] is None else row["index"]
    label = shortened(row["label"], _MAX_LABEL)
    branch = "" if row["branch"] is None else f"  {row['branch']}"
    line = f"{index:>9}  {row['status']:<7}  {label}{branch}"
    if row["status"] == "failed":
        step = f" in {row['step']}" if row["step"] else ""
        return printable(f"{line}  {row['errorName']}{step}: {row['message']}")
    return printable(line)


def print_item(
    run: str, fork: str, *, index: int, branch: str | None, store: str | None, as_json: bool
) -> int:
    """Print one item: input, steps, output or error.

    Args:
        run: the run or its folder, see ``open_stored_fork``.
        fork: the fork's step id.
        index: the item.
        branch: which branch run; None for the first that failed, otherwise the first that ran.
        store: the option ``--store``.
        as_json: whether one JSON object is printed.

    Returns:
        The exit code: 0, or 2 if the item does not exist or the store cannot be read.
    """
    try:
        detail = item_detail(open_stored_fork(run, fork, store).view, index, branch)
    except AllmaError as error:
        typer.echo(f"error: {error}", err=True)
        return 2
    if as_json:
        typer.echo(json.dumps(detail, ensure_ascii=False))
        return 0
    for line in _detail_lines(detail):
        typer.echo(printable(line, "\n"))
    return 0


def _detail_lines(detail: Mapping[str, Any]) -> Iterator[str]:
    chunk = detail["chunk"]
    yield f"Item {detail['index']}, {detail['label']}: {detail['status']}"
    if len(detail["branches"]) > 1:
        yield "Branches: " + ", ".join(f"{one['branch']} {one['status']}" for one in detail["branches"])
    yield f"Branch {detail['branch']}, chunk {chunk['number']} ({chunk['label']})"
    if detail["line"] is not None:
        line = detail["line"]
        units = (("line", "number"), ("row", "row"), ("byte", "byte"))
        yield ", ".join(
            [f"From {line['pointer']}", *(f"{unit} {line[name]}" for unit, name in units if name in line)]
        )
    yield f"Input: {_value(detail['input'])}"
    for number, step in enumerate(detail["trace"] or (), 1):
        yield from _step_lines(number, step)
    for part in ("output", "error"):
        if part in detail:
            yield f"{part.capitalize()}: {_value(detail[part])}"
    for name in ("traceNote", "note"):
        if detail[name]:
            yield f"Note: {detail[name]}"


def _step_lines(number: int, step: Mapping[str, Any]) -> Iterator[str]:
    seconds, tries = step.get("seconds"), step.get("tries", 1)
    took = "" if seconds is None else f", {seconds:.3f} s"
    again = f", {tries} tries" if tries > 1 else ""
    ending = "failed" if step.get("error") else f"then {step['next']}" if step.get("next") else "end"
    yield f"{number:>4}  {step.get('step')} ({step.get('type', '?')}){took}{again}, {ending}"
    for part in ("input", "output", "error"):
        if step.get(part) is not None:
            yield f"      {part}: {_value(step[part])}"
    for call in _dicts(step.get("calls")):
        what = call.get("method") or f"{call.get('service')} {call.get('operation')}"
        status = "" if call.get("status") is None else f", {call['status']}"
        error = f", {call['error']}" if call.get("error") else ""
        yield f"      call: {what} {call.get('target')}{status}, {call.get('milliseconds')} ms{error}"


def _dicts(value: Any) -> Iterable[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else ()


def _value(value: Any) -> str:
    if isinstance(value, dict) and "$cut" in value:
        size = value.get("$bytes")
        return shortened(str(value["$cut"]), _MAX_VALUE) + (f" ({size} bytes)" if size else "")
    return shortened(json.dumps(value, ensure_ascii=False), _MAX_VALUE)
