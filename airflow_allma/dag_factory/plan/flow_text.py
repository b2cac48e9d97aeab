"""The flow in its Dag's documentation: what the API server, which has no flow files, knows of it.

The documentation has the flow's JSON, cut if it is long. The whole JSON of such a flow goes to the API server
with one of its tasks: ``DagPlan.whole_flow``.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["MAX_SHOWN", "WHOLE_FLOW", "flow_in_doc_md", "json_block"]

MAX_SHOWN: Final = 64 << 10
"""Characters of a flow's JSON in the documentation, which is part of every version of the Dag."""

WHOLE_FLOW: Final = "whole_flow"
"""The attribute of a flow's first task that has the JSON of a flow that is longer."""

_BEGIN: Final = re.compile(r"^(`{3,})json\n", re.MULTILINE)


def json_block(source: str, max_length: int) -> str:
    """Return JSON as a block of Markdown, cut after ``max_length`` characters, which a note then says."""
    note = ""
    if len(source) > max_length:
        note = f"\n\n(the first {max_length} of {len(source)} characters)"
        source = source[:max_length]
    # A fence longer than any in the JSON, which then cannot end the block.
    fence = "```"
    while fence in source:
        fence += "`"
    return f"{fence}json\n{source}\n{fence}{note}"


def flow_in_doc_md(doc_md: str) -> str | None:
    """Return the JSON of the flow in the documentation of its Dag, which may be cut; None without one."""
    # The description, which comes before it, can have blocks too. No line of JSON begins with a fence.
    begins = [*_BEGIN.finditer(doc_md)]
    if not begins:
        return None
    source, fence, _ = doc_md[begins[-1].end() :].partition(f"\n{begins[-1][1]}")
    return source if fence else None
