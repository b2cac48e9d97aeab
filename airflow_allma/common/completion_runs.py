"""What connects the runs of a flow to the runs of its completion Dag.

The API server starts the latter and knows no flow; the tasks of the latter know the flow and no database.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

__all__ = ["COMPLETION_TAG", "END_PREFIX", "EndedRun", "completion_dag_id", "flow_dag_id"]

COMPLETION_TAG: Final = "allma-completion"
"""The tag by which the API server finds the completion Dags."""

END_PREFIX: Final = "end_"
"""The beginning of the ids of the runs of completion Dags: ``end_<number>__<run id>``."""

_SUFFIX: Final = ".completion"
"""No flow's Dag has an id with a dot."""

_MAX_RUN_ID: Final = 250


def completion_dag_id(dag_id: str) -> str:
    """Return the id of the Dag that runs the completion actions of a flow's Dag."""
    return f"{dag_id}{_SUFFIX}"


def flow_dag_id(completion_id: str) -> str | None:
    """Return the id of the Dag whose completion actions a Dag runs; None if it is another Dag."""
    dag_id = completion_id.removesuffix(_SUFFIX)
    return dag_id if dag_id and dag_id != completion_id else None


@dataclass(frozen=True, slots=True)
class EndedRun:
    """One end of one run; the ``conf`` of the run of the completion Dag.

    Attributes:
        run_id: the run.
        number: 0 for its first end, and one more for each time that it was cleared.
        state: Airflow's state of the run, ``success`` or ``failed``.
        ended_at: when it ended, ISO 8601.
        was_marked: whether somebody marked the run, or one of its tasks, as failed.
    """

    run_id: str
    number: int
    state: str
    ended_at: str
    was_marked: bool = False

    @property
    def completion_run_id(self) -> str:
        """The id of the run of the completion Dag: the same for the same end."""
        # Not the other way round: a run id that begins like that of a scheduled run is reserved for those.
        whole = f"{END_PREFIX}{self.number}__{self.run_id}"
        if len(whole) <= _MAX_RUN_ID:
            return whole
        digest = hashlib.sha256(self.run_id.encode()).hexdigest()[:16]
        return f"{whole[: _MAX_RUN_ID - len(digest) - 2]}__{digest}"

    def to_conf(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {
            "runId": self.run_id,
            "number": self.number,
            "state": self.state,
            "endedAt": self.ended_at,
            "wasMarked": self.was_marked,
        }

    @classmethod
    def from_conf(cls, conf: Any) -> Self | None:
        """Return what ``to_conf`` returned; None if this is something else."""
        conf = conf if isinstance(conf, Mapping) else {}
        run_id, number, state, ended_at = (conf.get(name) for name in ("runId", "number", "state", "endedAt"))
        if not (isinstance(run_id, str) and isinstance(state, str) and isinstance(ended_at, str)):
            return None
        return cls(
            run_id, number if isinstance(number, int) else 0, state, ended_at, conf.get("wasMarked") is True
        )
