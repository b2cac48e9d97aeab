"""More parents than slots, whose steps wait for runs of their own: no deadlock.

Run it with ``python -m tests.airflow.full_size.own_runs``; it prints one JSON object. PostgreSQL must be
installed. Twelve runs of six slots wait for two runs each, one of them for each of two items.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from demo.airflow_instance import AirflowInstance
from demo.dag_files import write_loader
from tests.support.own_run_flows import OwnRuns, own_run_flows

PARALLELISM = 6


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="allma-own-runs-") as folder:
        root = Path(folder)
        dags = root / "dags"
        dags.mkdir()
        write_loader(dags)
        flows = own_run_flows("own", seconds=5.0)
        for flow in flows:
            (dags / f"{flow['id']}.json").write_text(json.dumps(flow), encoding="utf-8")
        with AirflowInstance(
            root / "airflow", [dags], database="postgresql", parallelism=PARALLELISM, triggerer=True
        ) as instance:
            for flow in flows:
                instance.client.wait_for_dag(flow["id"], timeout=120)
            answer = {}
            for count in (1, PARALLELISM, 2 * PARALLELISM):
                runs = OwnRuns(instance.client, "own", count=count, items=2)
                answer[f"seconds of {count}"] = round(runs.wait(600), 1)
            answer["runs of the inner flow"] = len(runs.children())
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
