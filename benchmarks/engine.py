"""The engine on one core: items of a fork, and each kind of expression.

``items`` are the items per second of a fork over 200,000 JSON lines: decode the line, run a branch of one
step, encode and write the result. Its reference, the floor, is a loop that decodes, encodes and writes the
same lines without a branch. The other measures are evaluations per second of one compiled expression; they
have no reference.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import msgspec

from airflow_allma.common.batching import batched
from airflow_allma.engine import BranchResult, ForkRun, RunInfo, Services, compile_flow, run_items
from airflow_allma.expressions import compile_condition, compile_path, compile_template
from airflow_allma.flow import parse_flow
from benchmarks.measure import Measure, rate, seconds

ITEMS = 200_000
FLOW = {
    "id": "bench",
    "startStepInstanceId": "fork",
    "steps": {
        "fork": {
            "stepType": "PARALLEL_FORK_MANAGER",
            "itemsPath": "$.items",
            "parallelBranches": [{"branchId": "each", "stepInstanceId": "compose"}],
        },
        "compose": {
            "stepType": "DATA_TRANSFORMATION",
            "moduleIdentifier": "system/compose-object-from-input",
            "inputMappings": {
                "id": "$.currentItem.userId",
                "region": "$.currentItem.region",
                "plan": "$.currentItem.account.plan",
            },
            "literals": {"kind": "user"},
        },
    },
}
CONTEXT = {
    "steps_output": {"a": {"list": [{"id": n, "price": n % 7, "ok": n % 2 == 0} for n in range(20)]}},
    "currentItem": {"userId": "user-7", "region": "eu-west-1", "account": {"plan": "pro"}, "n": 7},
    "flow_variables": {"host": "api.test"},
}


def lines() -> list[bytes]:
    """Return JSON lines of about 150 bytes each."""
    return [
        msgspec.json.encode(
            {
                "userId": f"user-{number}",
                "region": "eu-west-1",
                "account": {"plan": "pro", "since": "2024-01-01", "limits": [1, 2, 3]},
                "note": "some text that nobody reads, to be long enough",
            }
        )
        for number in range(ITEMS)
    ]


def run() -> dict[str, Measure]:
    data = lines()
    with tempfile.TemporaryFile() as out:
        floor = ITEMS / seconds(lambda: _floor(data, out), rounds=3)
    with tempfile.TemporaryFile() as out:
        whole = ITEMS / seconds(lambda: asyncio.run(_items(data, out)), rounds=3)
    find = compile_path("$.steps_output.a.list[3].price").find
    find_filtered = compile_path("$.steps_output.a.list[?(@.price > 4)].id").find
    holds = compile_condition("$.currentItem.n > 3 && $.currentItem.region == 'eu-west-1'").matches
    plain = compile_template("https://{{flow_variables.host}}/users/{{currentItem.userId}}").render
    looping = compile_template("{{#each steps_output.a.list}}{{id}}={{price}};{{/each}}").render
    return {
        "items": Measure(whole, "items/s", floor),
        "path": Measure(rate(lambda: find(CONTEXT)), "ops/s"),
        "filter": Measure(rate(lambda: find_filtered(CONTEXT), 20_000), "ops/s"),
        "condition": Measure(rate(lambda: holds(CONTEXT)), "ops/s"),
        "template": Measure(rate(lambda: plain(CONTEXT)), "ops/s"),
        "loop_template": Measure(rate(lambda: looping(CONTEXT), 20_000), "ops/s"),
    }


def _floor(data: list[bytes], out: BinaryIO) -> None:
    decode, encode, write = msgspec.json.Decoder().decode, msgspec.json.Encoder().encode, out.write
    for line in data:
        write(encode(decode(line)))
        write(b"\n")


async def _items(data: list[bytes], out: BinaryIO) -> None:
    decode, encode, write = msgspec.json.Decoder().decode, msgspec.json.Encoder().encode, out.write
    program = compile_flow(parse_flow(FLOW))
    fork = program.steps["fork"].fork
    assert fork is not None
    info = RunInfo.now("bench", 1, "bench-run")

    def items() -> Iterator[list[tuple[int, Any]]]:
        for batch in batched(enumerate(data)):
            yield [(index, decode(line)) for index, line in batch]

    def sink(results: Sequence[BranchResult]) -> None:
        for result in results:
            write(encode(result))
            write(b"\n")

    context = program.start_state({}, info.flow_execution_id).context
    await run_items(ForkRun(fork, context, info, Services()), items(), sink)
