"""Module steps: the effective input from the custom config and the input."""

from __future__ import annotations

import asyncio

from airflow_allma.engine import RunInfo, SegmentStatus, Services, compile_flow, run_segment
from airflow_allma.storage import MemoryStore, Pointer
from tests.conformance.vector_kinds import flow_of


def test_keys_and_values_of_object_metadata_are_templates():
    store = MemoryStore()
    flow = flow_of(
        {
            "id": "f",
            "startStepInstanceId": "save",
            "steps": {
                "save": {
                    "stepType": "DATA_SAVE",
                    "moduleIdentifier": "system/s3-data-saver",
                    "customConfig": {
                        "destinationS3UriTemplate": "s3://out/{{name}}.json",
                        "metadataTemplate": {"by-{{name}}": "{{n}}", "plain": "$.n"},
                    },
                    "inputMappings": {"contentToSave": "$.n"},
                }
            },
        }
    )
    program = compile_flow(flow)
    info = RunInfo.now("f", 1, "run")
    state = program.start_state({"name": "ada", "n": 7}, "run")
    ended = asyncio.run(run_segment(program, state, info, Services(store=store)))
    assert ended.status is SegmentStatus.COMPLETED, ended.error
    assert store.head(Pointer("out", "ada.json")).metadata == {"by-ada": "7", "plain": "7"}
