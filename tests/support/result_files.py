"""Reads the files of a ``resultWriter``, and checks that its manifest names what is there."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from airflow_allma.storage import ObjectStore, Pointer

Json = dict[str, Any]


@dataclass(frozen=True)
class WrittenResults:
    """The manifest, and the lines of the files that it names."""

    manifest: Json
    succeeded: list[Json]
    failed: list[Json]

    @property
    def counts(self) -> Json:
        counts: Json = self.manifest["counts"]
        return counts


def read_manifest(store: ObjectStore, bucket: str, folder: str) -> Json:
    manifest: Json = json.loads(store.read(Pointer(bucket, f"{folder}/manifest.json")))
    return manifest


def read_results(store: ObjectStore, bucket: str, folder: str) -> WrittenResults:
    """Return the results; whoever reads all files by their names finds no others."""
    manifest = read_manifest(store, bucket, folder)
    assert manifest["status"] == "COMPLETE"
    assert manifest["bucket"] == bucket
    lines: dict[str, list[Json]] = {}
    for name in ("succeeded", "failed"):
        files = manifest["files"][name]
        assert [one["key"] for one in files] == [
            f"{folder}/{name}-{number:06}.jsonl" for number in range(len(files))
        ]
        lines[name] = []
        for one in files:
            data = store.read(Pointer(bucket, one["key"]))
            assert len(data) == one["bytes"]
            assert data.count(b"\n") == one["lines"] > 0
            lines[name] += map(json.loads, data.splitlines())
        keys = {one["key"] for one in files}
        others = [info for info in store.list(bucket, f"{folder}/{name}-") if info.pointer.key not in keys]
        assert not any(info.size for info in others)
        assert len(lines[name]) == manifest["counts"][name]
        order = [one["index"] for one in lines[name]]
        assert order == sorted(order)
    return WrittenResults(manifest, lines["succeeded"], lines["failed"])
