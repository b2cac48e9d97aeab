"""Runs one benchmark and prints its report, one JSON object, as the last line.

A benchmark whose ``run`` has arguments takes each as an option, such as ``--items 100000``.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import sys

from benchmarks.measuring import Measure, machine

NAMES = (
    "engine",
    "in-memory",
    "map-airflow",
    "map-api",
    "map-compose",
    "map-memory",
    "parse",
)


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] not in NAMES:
        print(
            f"usage: python -m benchmarks NAME [--OPTION N], where NAME is one of: {', '.join(NAMES)}",
            file=sys.stderr,
        )
        return 2
    name = arguments[0]
    run = importlib.import_module(f"benchmarks.{name.replace('-', '_')}").run
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks {name}")
    for option, parameter in inspect.signature(run).parameters.items():
        parser.add_argument(f"--{option}", type=int, default=parameter.default, metavar="N")
    measures: dict[str, Measure] = run(**vars(parser.parse_args(arguments[1:])))
    report = {
        "name": name,
        "measures": {key: measure.as_dict() for key, measure in measures.items()},
        "machine": machine(),
    }
    print(json.dumps(report))
    return 0


# Spawned processes import this module under another name, to find what they run.
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
