"""Step records in the task's log: one block per step execution, shortened, with secrets masked."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from airflow_allma.common.printable import printable
from airflow_allma.compat import redact_connections

if TYPE_CHECKING:
    from airflow_allma.engine import StepRecord

__all__ = ["StepLog", "short_json"]

_MAX_RECORDS: Final = 200
"""Maximum number of blocks in a task's log; more would hide what matters in a chunk of a thousand items."""


class StepLog:
    """Writes step records to a task's log; pass it to the engine as ``recorder``.

    Args:
        log: the task's log.
        max_bytes: maximum size of each input, output or error, in bytes of JSON (UTF-8).
        only_failures: omit steps that succeeded (for chunks of many items).
    """

    def __init__(self, log: logging.Logger, max_bytes: int, *, only_failures: bool = False) -> None:
        self._log = log
        self._max_bytes = max_bytes
        self.only_failures = only_failures
        self._written = 0

    def __call__(self, record: StepRecord) -> None:
        """Write one record."""
        if self.only_failures and record.error is None:
            return
        self._written += 1
        if self._written > _MAX_RECORDS:
            if self._written == _MAX_RECORDS + 1:
                self._log.info("More than %d step executions; further ones are not logged", _MAX_RECORDS)
            return
        for line in self._block(record):
            self._log.info("%s", line)

    def _block(self, record: StepRecord) -> list[str]:
        status = "failed" if record.error is not None else "done"
        item = "" if record.item_index is None else f" [item {record.item_index}, branch {record.branch_id}]"
        flow = "" if record.flow_id is None else f" of flow {printable(record.flow_id)}"
        step = f"Step {record.step_id} ({record.step_type}){flow}{item}"
        values: Mapping[str, Any] = {"input": record.input, "output": record.output, "error": record.error}
        return [
            f"::group::{step}: {status} in {record.seconds:.3f} s",
            *(
                f"{name + ':':<8}{short_json(value, self._max_bytes)}"
                for name, value in values.items()
                if value is not None
            ),
            *(f"called: {redact_connections(line)}" for line in record.calls.lines()),
            *([f"tries:  {record.tries}"] if record.tries > 1 else []),
            f"next:   {record.next_step or 'end of the path'}",
            "::endgroup::",
        ]


def short_json(value: Any, max_bytes: int) -> str:
    """Return a value as JSON on one line, cut to ``max_bytes`` of UTF-8 at a whole character.

    Values with secret-looking names are masked and, as everywhere in Airflow, the secrets of connections.
    """
    from airflow_allma.engine.masking import mask_secrets

    encoded = json.dumps(redact_connections(mask_secrets(value)), ensure_ascii=False, default=str)
    # JSON escapes few of the characters that steer terminals, and no surrogates, which UTF-8 cannot encode.
    data = printable(encoded).encode()
    if len(data) <= max_bytes:
        return data.decode()
    return f"{data[:max_bytes].decode(errors='ignore')}... ({len(data)} bytes in total)"
