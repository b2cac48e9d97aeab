"""Runs one benchmark and prints its report, one JSON object, as the last line."""

from __future__ import annotations

import importlib
import json
import sys

from benchmarks.measuring import Measure, machine

NAMES = ("engine", "parse")


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or arguments[0] not in NAMES:
        print(f"usage: python -m benchmarks NAME, where NAME is one of: {', '.join(NAMES)}", file=sys.stderr)
        return 2
    name = arguments[0]
    measures: dict[str, Measure] = importlib.import_module(f"benchmarks.{name}").run()
    report = {
        "name": name,
        "measures": {key: measure.as_dict() for key, measure in measures.items()},
        "machine": machine(),
    }
    print(json.dumps(report))
    return 0


sys.exit(main(sys.argv[1:]))
