"""The line of an import error that says which flows are broken: the Dag processor writes it for the pages."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["BROKEN_FLOWS", "BrokenFlow", "broken_flows_line", "read_broken_flows"]

BROKEN_FLOWS: Final = "Flows with errors: "
"""What the line begins with."""

_LINE: Final = re.compile(rf"^{BROKEN_FLOWS}(\{{.*\}})$", re.MULTILINE)
_MAX_LENGTH: Final = 4_000
"""An import error has room for little more than its problems."""


@dataclass(frozen=True, slots=True)
class BrokenFlow:
    """A flow that does not run.

    Attributes:
        flow_id: its id.
        file: its file, as problems show it.
        problem: what is wrong in that file, one problem after another; empty if there was no room for it.
    """

    flow_id: str
    file: str
    problem: str


def broken_flows_line(flows: Mapping[str, Sequence[str]]) -> str:
    """Return the line for the ids of broken flows by their files; the first ones, or "" for none."""
    kept: dict[str, list[str]] = {}
    line = ""
    for file, ids in flows.items():
        kept[file] = list(ids)
        longer = BROKEN_FLOWS + json.dumps(kept)
        if len(longer) > _MAX_LENGTH:
            break
        line = longer
    return line


def read_broken_flows(text: str) -> list[BrokenFlow]:
    """Return the broken flows that an import error names, in the order of their files.

    Args:
        text: the whole import error; its problems are separated by empty lines.
    """
    found = _LINE.search(text)
    if found is None:
        return []
    try:
        flows = json.loads(found[1])
    except (ValueError, RecursionError):
        return []
    blocks = text[found.end() :].split("\n\n")
    broken = []
    for file, ids in flows.items():
        problem = "\n\n".join(block.strip() for block in blocks if block.strip().startswith(f"{file}:"))
        broken += [BrokenFlow(str(flow_id), file, problem) for flow_id in ids]
    return broken
