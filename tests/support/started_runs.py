"""A fake of what starts runs: it keeps the requests, and each key makes one run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from airflow_allma.engine import RunInfo
from airflow_allma.engine.flow_runs import RunOutcome, StartedRun, StartRequest


@dataclass
class FakeRuns:
    """Starts nothing, and says how the runs have ended.

    Attributes:
        waits: whether steps can wait for runs of their own.
        requests: all requests, in order.
        started: the runs by the keys of their requests.
        ends: returns how a run has ended; None while it runs.
        refuse: raises the error of a start that fails.
    """

    waits: bool = True
    requests: list[StartRequest] = field(default_factory=list)
    started: dict[str, StartedRun] = field(default_factory=dict)
    ends: Callable[[StartedRun], RunOutcome | None] = lambda _: None
    refuse: Callable[[StartRequest], None] = lambda _: None

    def can_wait(self, info: RunInfo) -> bool:
        """Return what ``waits`` says."""
        del info
        return self.waits

    async def start(self, request: StartRequest) -> StartedRun:
        """Keep the request."""
        self.requests.append(request)
        self.refuse(request)
        run_id = f"allma__{request.key[:32]}"
        started = StartedRun(request.flow_execution_id or request.key, request.flow_id, run_id)
        return self.started.setdefault(request.key, started)

    async def outcome(self, started: StartedRun) -> RunOutcome | None:
        """Return what ``ends`` says."""
        return self.ends(started)
