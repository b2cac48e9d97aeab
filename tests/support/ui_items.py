"""Forks for the pages' tests, in the shapes of the HTTP API: counts, pages of items, one item."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

START = 1_795_000_000.0
HOSTILE = '<img src=x onerror="window.hacked=1">\u202egnp.exe\x07\nsecond line'
_KINDS = (
    ("aaaaaaaaaaa1", "HTTPError", "get_profile", 503, "GET https://profiles.example/users/… answered 503"),
    ("aaaaaaaaaaa2", "ValidationError", "check_profile", None, "email: … is not an e-mail address"),
    ("aaaaaaaaaaa3", "StepTimeout", "get_orders", None, "no answer within … s"),
)


@dataclass(frozen=True)
class FakeFork:
    """A fork of `items` items, of which the `failed` ones failed, in turn for one of three reasons."""

    name: str = "enrich"
    items: int = 100_000
    failed: int = 37
    done: int | None = None
    """How many items have ended; all by default."""
    mode: str = "chunks"
    label: str = "u-{index:07d}"
    message: str | None = None
    """Of every failure, in place of those of the kinds."""
    chunks: int = 7
    branches: tuple[str, ...] = ("enrich_user",)
    huge: frozenset[int] = field(default_factory=frozenset)
    """Indexes of items whose output was cut."""

    @cached_property
    def failures(self) -> dict[int, int]:
        """Item index → number of the kind of its failure."""
        step = max(1, self.items // max(1, self.failed))
        found = [index * step + min(7, step - 1) for index in range(self.failed)]
        return {index: place % 3 for place, index in enumerate(found) if index < self.ended}

    @property
    def ended(self) -> int:
        """How many items have ended."""
        return self.items if self.done is None else self.done

    def summary(self) -> dict[str, Any]:
        """Return a ForkSummary."""
        running = self.done is not None
        kinds = []
        for number, (kind, error, step, status, message) in enumerate(_KINDS):
            found = [index for index, which in self.failures.items() if which == number]
            if found:
                kinds.append(
                    {
                        "kind": kind,
                        "errorName": error,
                        "step": step,
                        "status": status,
                        "message": self.message or message,
                        "count": len(found),
                        "first": found[0],
                        "share": len(found) / len(self.failures),
                    }
                )
        chunks = {
            "total": self.chunks,
            "success": self.chunks - 3,
            "failed": 3,
            "running": 0,
            "queued": 0,
            "waiting": 0,
        }
        if running:
            chunks = {
                "total": self.chunks,
                "success": 2,
                "failed": 1,
                "running": 2,
                "queued": 2,
                "waiting": 0,
            }
        return {
            "fork": self.name,
            "name": "Enrich users",
            "mode": self.mode,
            "items": self.items,
            "isExact": True,
            "ended": self.ended,
            "succeeded": self.ended - len(self.failures),
            "failed": len(self.failures),
            "skipped": 0,
            "running": 20 if running else 0,
            "waiting": 0,
            "perSecond": 812.5 if running else None,
            "secondsLeft": (self.items - self.ended) / 812.5 if running else None,
            "start": START,
            "end": None if running else START + 123.4,
            "isRunning": running,
            "kinds": kinds,
            "chunks": chunks if self.mode == "chunks" else None,
            "branches": list(self.branches),
            "source": {"kind": "object", "pointer": "s3://bucket/users.jsonl"}
            if self.mode == "chunks"
            else {"kind": "list"},
            "stored": self.mode == "chunks",
            "problem": None,
        }

    def _row(self, index: int) -> dict[str, Any]:
        kind = self.failures.get(index)
        status = "ok" if index < self.ended else ("running" if index < self.ended + 20 else "none")
        row = {
            "index": index,
            "label": self.label.format(index=index),
            "branch": self.branches[0],
            "status": status if kind is None else "failed",
            "step": None,
            "errorName": None,
            "httpStatus": None,
            "message": None,
            "kind": None,
            "seconds": 0.012 + index % 7 * 0.003,
            "chunk": index * self.chunks // self.items,
            "mapIndex": index * self.chunks // self.items,
        }
        if kind is not None:
            name, error, step, http_status, message = _KINDS[kind]
            text = self.message or message.replace("…", f"u-{index:07d}", 1)
            row |= {
                "step": step,
                "errorName": error,
                "httpStatus": http_status,
                "message": text,
                "kind": name,
            }
        return row

    def page(self, query: Mapping[str, str]) -> dict[str, Any]:
        """Return a page of items."""
        show, start = query.get("show", "all"), int(query.get("start", "0"))
        limit = int(query.get("limit", "50"))
        if show == "all" and not query.get("label") and not query.get("text"):
            rows = [self._row(index) for index in range(start, min(self.items, start + limit))]
            more = start + limit if start + limit < self.items else None
            return {"rows": rows, "total": self.items, "isExact": True, "next": more, "note": None}
        if show == "failed":
            found = [self._row(index) for index in self.failures]
        elif show == "running":
            found = [self._row(index) for index in range(self.ended, min(self.items, self.ended + 20))]
        else:
            found = [self._row(index) for index in range(min(2000, self.items)) if index not in self.failures]
        label, text = query.get("label", ""), query.get("text", "")
        if label and label.removeprefix("u-").isdigit():
            found = [self._row(int(label.removeprefix("u-")))]
        found = [row for row in found if query.get("kind") in {None, row["kind"]} and label in row["label"]]
        found = [row for row in found if text in f"{row['label']} {row['message']}"]
        more = start + limit if start + limit < len(found) else None
        return {
            "rows": found[start : start + limit],
            "total": len(found),
            "isExact": True,
            "next": more,
            "note": None,
        }

    def item(self, index: int) -> dict[str, Any] | None:
        """Return one item; None if it does not exist."""
        if not 0 <= index < self.items:
            return None
        row = self._row(index)
        user = {
            "userId": row["label"],
            "region": "eu-2",
            "email": f"user{index}@example.com",
            "tags": ["a", "b"],
            "address": {"city": "Köln", "lines": ["Domplatz 1", "4th floor"]},
        }
        first = index * self.chunks // self.items * self.items // self.chunks
        item = {
            "index": index,
            "label": row["label"],
            "branch": row["branch"],
            "branches": [{"branch": name, "status": row["status"]} for name in self.branches],
            "status": row["status"],
            "input": user,
            "inputCut": False,
            "outputCut": index in self.huge,
            "trace": None,
            "traceNote": None,
            "tries": 2 if row["status"] == "failed" else 1,
            "chunk": {
                "number": row["chunk"],
                "label": f"items {first}-{first + 14_284}",
                "first": first,
                "mapIndex": row["chunk"],
                "count": 14_285,
            }
            if self.mode == "chunks"
            else None,
            "line": {"pointer": "s3://bucket/users.jsonl", "byte": index * 153, "number": index + 1}
            if self.mode == "chunks"
            else None,
            "task": {
                "taskId": f"{self.name}.chunk",
                "mapIndex": row["chunk"],
                "logUrl": f"/dags/orders/runs/ended/tasks/{self.name}.chunk/mapped/{row['chunk']}",
                "uiUrl": f"/dags/orders/runs/ended/tasks/{self.name}.chunk/mapped/{row['chunk']}/details",
            },
            "previous": index - 1 if index else None,
            "next": index + 1 if index + 1 < self.items else None,
        }
        if row["status"] == "failed":
            item["error"] = {
                "errorName": row["errorName"],
                "errorMessage": row["message"],
                "isRetryable": True,
                "errorDetails": {"failedStepInstanceId": row["step"], "status": row["httpStatus"]},
            }
        elif row["status"] == "ok":
            item["output"] = (
                {"$cut": '{"profile": {"x": "' + "y" * 300, "$bytes": 20_971_520}
                if index in self.huge
                else {"profile": user | {"plan": "gold"}, "orders": [1, 2, 3]}
            )
        if row["status"] in {"ok", "failed"}:
            item["trace"] = _trace(row, user)
        else:
            item["traceNote"] = (
                "Steps of succeeded items are stored if the flow's enableExecutionLogs is true or [allma] "
                "trace_items says so."
            )
        return item

    def rerun(
        self, what: str, kind: str | None, index: str | None, dag_id: str, run_id: str
    ) -> dict[str, Any]:
        """Return what a rerun would do."""
        chosen = [number for number, which in self.failures.items() if kind in {None, _KINDS[which][0]}]
        if what == "item":
            chosen = [int(index or 0)]
        chunks = sorted({number * self.chunks // self.items for number in chosen})
        xcoms = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{self.name}.chunks/xcomEntries"
        clear = {
            "dry_run": False,
            "dag_run_id": run_id,
            "only_failed": False,
            "include_downstream": True,
            "reset_dag_runs": True,
            "task_ids": [[f"{self.name}.chunk", chunk] for chunk in chunks],
        }
        return {
            "items": len(chosen),
            "sentence": f"{len(chosen)} items in {len(chunks)} chunks run again, then enrich.aggregate and "
            "the 2 tasks after it.",
            "others": f"The other {self.items - len(chosen):,} items keep their results.",
            "replaced": None,
            "clear": clear,
            "selection": None
            if what == "failed"
            else {
                "path": xcoms,
                "method": "POST",
                "body": {"key": "allma_rerun", "value": "{}", "map_index": -1},
            },
            "undo": None
            if what == "failed"
            else {
                "path": f"{xcoms}/allma_rerun",
                "method": "PATCH",
                "body": {"value": "void", "map_index": -1},
            },
            "command": f"airflow-allma rerun {dag_id} {run_id} --fork {self.name}",
            "blocked": "The run is still running. Rerun when it has ended."
            if self.done is not None
            else None,
        }


def _trace(row: Mapping[str, Any], user: Mapping[str, Any]) -> list[dict[str, Any]]:
    failed_step = row["step"]
    steps = [
        ("get_profile", "API_CALL", 0.085),
        ("check_profile", "CUSTOM_LOGIC", 0.0004),
        ("get_orders", "API_CALL", 1.9),
        ("merge", "DATA_TRANSFORM", 0.0002),
    ]
    made: list[dict[str, Any]] = []
    at = START + 12
    for place, (step, kind, seconds) in enumerate(steps):
        is_failed = step == failed_step
        call = {
            "service": "HTTP",
            "method": "GET",
            "target": f"https://api.example/{step}/{row['label']}?token=***",
            "status": (row["httpStatus"] or 200) if is_failed else 200,
            "milliseconds": seconds * 1000,
            "sent": 0,
            "received": 5120,
            "requestId": "9b1c",
        }
        calls = (
            [{**call, "status": 503, "milliseconds": 40.2}, call]
            if is_failed and row["httpStatus"]
            else [call]
        )
        one: dict[str, Any] = {
            "step": step,
            "type": kind,
            "input": {"user": user},
            "next": None,
            "at": at,
            "seconds": seconds,
            "tries": 2 if is_failed else 1,
            "calls": calls if kind == "API_CALL" else [],
        }
        if is_failed:
            one["error"] = {
                "errorName": row["errorName"],
                "errorMessage": row["message"],
                "errorDetails": {"status": row["httpStatus"]},
                "isRetryable": True,
            }
            made.append(one)
            break
        one["output"] = {"ok": True, "values": list(range(12))}
        if place + 1 < len(steps):
            one["next"] = steps[place + 1][0]
        made.append(one)
        at += seconds
    return made
