"""Run one benchmark and print its report, a JSON object, as the last line.

Every parameter of a benchmark's ``run`` is a command line option, such as ``--items 100000`` or, if it is a
boolean, ``--references``.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import sys

from benchmarks.measure import Measure, machine

NAMES = (
    "engine",
    "in-memory",
    "llm",
    "llm-limits",
    "many-waits",
    "map-airflow",
    "map-api",
    "map-aws",
    "map-compose",
    "map-kept",
    "map-memory",
    "parse",
    "polls",
    "read-csv",
    "read-parquet",
    "read-zstd",
    "resume-race",
    "scale",
    "stock",
    "sub-flows",
    "ui",
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
        flag = f"--{option.replace('_', '-')}"
        if parameter.default is False:
            parser.add_argument(flag, action="store_true")
        else:
            parser.add_argument(flag, type=int, default=parameter.default, metavar="N")
    measures: dict[str, Measure] = run(**vars(parser.parse_args(arguments[1:])))
    report = {
        "name": name,
        "measures": {key: measure.as_dict() for key, measure in measures.items()},
        "machine": machine(),
    }
    print(json.dumps(report))
    return 0


# The guard is needed: processes of multiprocessing import this module again, under another name.
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
