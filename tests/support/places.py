"""The steps that wait or start flows, in every place where a step can be: flows, a job server, and runs.

Each flow runs the same chain of steps: a sub-flow, a flow that is started and waited for, one that is only
started, a wait for an event, and a poll. What the chain collects must be the same in every place.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.airflow.flows import Json, branch, compose, flow, fork, route

PLACES = ("main", "loop", "mapped", "chunk")
CHILD = "place_child"
CALLS_OF_A_JOB = 2


class _Server(ThreadingHTTPServer):
    request_queue_size = 1024
    daemon_threads = True


@contextmanager
def job_server() -> Iterator[tuple[str, Counter[str]]]:
    """Serve jobs that are over at their second call; yield the URL and how often each job was called."""
    calls: Counter[str] = Counter()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with lock:
                calls[self.path] += 1
                done = calls[self.path] >= CALLS_OF_A_JOB
            body = json.dumps({"done": done, "n": int(self.path.rpartition("/")[2])}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - its name
            pass

    server = _Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", calls
    finally:
        server.shutdown()
        server.server_close()


def chain(url: str, place: str, number: str, to: str | None = None, collected: str = "$.collected") -> Json:
    """Return the steps of the chain; the first is ``sub``, the last ``collect``.

    Args:
        url: of the job server.
        place: begins the keys of events and the paths of jobs.
        number: the path of the number that the chain works with, such as ``$.n``.
        to: the step after the chain.
        collected: where in the context its result goes.
    """
    name = f"{{{{{number.removeprefix('$.')}}}}}"
    key = f"{{{{initialContextData.tag}}}}:{place}:{name}"
    starts = {"moduleIdentifier": "system/start-flow-execution", "flowDefinitionId": CHILD}
    return {
        "sub": {
            "stepType": "START_SUB_FLOW",
            "subFlowDefinitionId": CHILD,
            "inputMappingsToSubFlow": {"initialContextData.n": number},
            "outputMappings": {"$.sub": "$.answer"},
            "defaultNextStepInstanceId": "sync",
        },
        "sync": {
            "stepType": "START_FLOW_EXECUTION",
            **starts,
            "customConfig": {"sync": True},
            "inputMappings": {"initialContextData.n": number},
            "outputMappings": {"$.sync": "$.answer"},
            "defaultNextStepInstanceId": "start",
        },
        "start": {
            "stepType": "START_FLOW_EXECUTION",
            **starts,
            "inputMappings": {"initialContextData.n": number},
            "outputMappings": {"$.started": "$.dagId"},
            "defaultNextStepInstanceId": "wait",
        },
        "wait": {
            "stepType": "WAIT_FOR_EXTERNAL_EVENT",
            "correlationKeyTemplate": key,
            "outputMappings": {"$.waited": "$.v"},
            "defaultNextStepInstanceId": "poll",
        },
        "poll": {
            "stepType": "POLL_EXTERNAL_API",
            "apiCallDefinition": {
                "apiHttpMethod": "GET",
                "apiUrlTemplate": {"template": f"{url}/{{{{initialContextData.tag}}}}/{place}/{name}"},
            },
            "pollingConfig": {"intervalSeconds": 5, "maxAttempts": 20},
            "exitConditions": {"successCondition": "$.done == true", "failureCondition": "$.failed == true"},
            "outputMappings": {"$.polled": "$.data.n"},
            "defaultNextStepInstanceId": "collect",
        },
        "collect": compose(
            {
                "n": number,
                "sub": "$.sub",
                "sync": "$.sync",
                "started": "$.started",
                "waited": "$.waited",
                "polled": "$.polled",
            },
            to=to,
            **({"outputMappings": {collected: "$"}} if to else {}),
        ),
    }


def expected(n: int) -> Json:
    """Return what the chain collects for a number."""
    return {"n": n, "sub": n, "sync": n, "started": CHILD, "waited": f"event {n}", "polled": n}


def place_flows(url: str) -> dict[str, Json]:
    """Return the flows by id: the child, and one for each place."""
    child = {"double": compose({"v": "$.n"}, outputMappings={"$.answer": "$.v"})}
    many = {"maxInMemoryItems": 3}
    loop = {
        "begin": compose({"n": "$.first"}, to="sub", outputMappings={"$.n": "$.n"}),
        **chain(url, "loop", "$.n", to="again"),
        "again": route(("$.n == $.second", "end"), to="change"),
        "change": compose({"n": "$.second"}, to="sub", outputMappings={"$.n": "$.n"}),
        "end": compose({"last": "$.collected"}),
    }
    of_items = {place: chain(url, place, "$.currentItem.n") for place in ("mapped", "chunk")}
    return {
        CHILD: flow(CHILD, child),
        "place_main": flow("place_main", chain(url, "main", "$.first")),
        "place_loop": flow("place_loop", loop),
        "place_mapped": flow("place_mapped", {"f": fork(branch("sub")), **of_items["mapped"]}),
        "place_chunk": flow("place_chunk", {"f": fork(branch("sub")), **of_items["chunk"]}, airflow=many),
    }


def payload(place: str, tag: str, items: int) -> Json:
    """Return the payload of a run; ``items`` counts in chunks only."""
    count = {"mapped": 3, "chunk": items}.get(place, 0)
    return {"tag": tag, "first": 1, "second": 2, "items": [{"n": n} for n in range(count)]}


def numbers(place: str, items: int) -> list[int]:
    """Return the numbers for which the chain runs, in order."""
    return {"main": [1], "loop": [1, 2], "mapped": [0, 1, 2]}.get(place) or list(range(items))


def keys(place: str, tag: str, items: int) -> dict[str, Json]:
    """Return the keys of the events that a run waits for, and their payloads."""
    return {f"{tag}:{place}:{n}": {"v": f"event {n}"} for n in numbers(place, items)}


def result_task(place: str) -> str:
    """Return the id of the task that returns the result, on the main path."""
    return {"main": "collect", "loop": "end", "mapped": "f.aggregate", "chunk": "f.aggregate"}[place]


def result_of(place: str, returned: Any) -> Any:
    """Return the collected values in the output of the last step."""
    return {"main": lambda out: [out], "loop": lambda out: [out["last"]]}.get(
        place, lambda out: out["aggregatedData"]
    )(returned)


def expected_results(place: str, items: int) -> list[Json]:
    """Return what a run must have collected."""
    wanted: Callable[[list[int]], list[int]] = (lambda n: n[-1:]) if place == "loop" else (lambda n: n)
    return [expected(n) for n in wanted(numbers(place, items))]
