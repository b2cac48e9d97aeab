"""Pictures of all pages for the documentation, light and dark, from a real Airflow.

Run it with ``python -m tests.airflow.full_size.screenshots [FOLDER]`` (docs/images by default), then look at
every picture. Chromium and PostgreSQL must be installed.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from demo.airflow_instance import AirflowInstance
from demo.dag_files import write_loader
from demo.servers import REGION, aws_client, aws_connection, aws_server
from tests.airflow.flows import compose, flow
from tests.support.browser import Watch, running_browser
from tests.support.user_enrichment import FORK, enrichment_flow, user_api, write_users

ROOT = Path(__file__).parents[3]
IMAGES = ROOT / "docs" / "images"
DAG, RUN = "enrich_users", "nightly"
DATA, RESULTS = "acme-data", "acme-flows"
ITEMS, FAILED, FIRST = 600, 37, 7
SIZE = {"width": 1440, "height": 900}
RUN_TAB = f"/dags/{DAG}/runs/{RUN}/plugin/allma-run"


@dataclass(frozen=True)
class Shot:
    """One picture: its name, the address, what must be there before, and what is done before."""

    name: str
    path: str
    wait: str
    prepare: Callable[[Any], None] | None = None


def _open_rerun(page: Any) -> None:
    page.get_by_role("button", name=f"Rerun {FAILED} failed").click()
    page.wait_for_selector("dialog p")


SHOTS = (
    Shot("flows", "/plugin/allma-flows", ".allma table"),
    Shot("flow", f"/dags/{DAG}/plugin/allma-flow", ".allma svg"),
    Shot("run", RUN_TAB, ".allma svg"),
    Shot("items", f"{RUN_TAB}?allma_fork={FORK}", ".allma-list tbody tr"),
    Shot("item", f"{RUN_TAB}?allma_fork={FORK}&allma_item={FIRST}", ".allma-trace"),
    Shot("rerun", f"{RUN_TAB}?allma_fork={FORK}", ".allma-list tbody tr", _open_rerun),
)


@contextmanager
def prepared_airflow() -> Iterator[AirflowInstance]:
    """Run an Airflow with a few flows, one of which has a run with failed items."""
    with (
        tempfile.TemporaryDirectory(prefix="allma-shots-") as folder,
        user_api(ITEMS, FAILED) as api,
        aws_server(Path(folder)) as aws,
    ):
        root = Path(folder)
        dags = root / "dags"
        dags.mkdir()
        write_loader(dags)
        shutil.copy(ROOT / "dags" / "allma_problems.py", dags)
        manifest = root / "users.jsonl"
        write_users(manifest, ITEMS)
        s3 = aws_client("s3", aws.url)
        for bucket in (DATA, RESULTS):
            s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
        s3.upload_file(str(manifest), DATA, "users/today.jsonl")
        chunk_bytes = manifest.stat().st_size // 6 + 1
        written = {
            DAG: enrichment_flow(DAG, api.url, f"s3://{RESULTS}/allma", chunk_bytes=chunk_bytes),
            "daily_report": flow("daily_report", {"collect": compose(to="send"), "send": compose()},
                                 name="Daily report", airflow={"schedule": "cron(0 6 * * ? *)"}),
            "sync_products": flow("sync_products", {"load": compose()}, name="Sync products",
                                  airflow={"schedule": "rate(1 hour)"}),
        }  # fmt: skip
        for flow_id, document in written.items():
            (dags / f"{flow_id}.json").write_text(json.dumps(document), encoding="utf-8")
        with AirflowInstance(
            root / "airflow",
            [dags],
            database="postgresql",
            parallelism=6,
            connections={"aws_default": aws_connection(aws.url)},
        ) as instance:
            client = instance.client
            for flow_id in written:
                client.wait_for_dag(flow_id, timeout=120)
            client.trigger(DAG, {"users": {"bucket": DATA, "key": "users/today.jsonl"}}, run_id=RUN)
            client.trigger("daily_report")
            client.wait_for_run(DAG, RUN, timeout=600)
            yield instance


def take(instance: AirflowInstance, folder: Path) -> list[str]:
    """Write all pictures; return what was wrong in the browser."""
    url = instance.base_url
    body = {"username": instance.user, "password": instance.password}
    token = httpx.post(f"{url}/auth/token", json=body).raise_for_status().json()["access_token"]
    problems = []
    with running_browser() as browser:
        for theme in ("light", "dark"):
            context = browser.new_context(color_scheme=theme, viewport=SIZE)  # type: ignore[arg-type]
            context.set_default_timeout(60_000)
            context.add_cookies([{"name": "_token", "value": token, "url": url}])
            page = context.new_page()
            watch = Watch(page, url)
            for shot in SHOTS:
                page.goto(url + shot.path)
                page.wait_for_selector(shot.wait)
                if shot.prepare:
                    shot.prepare(page)
                page.wait_for_timeout(1500)  # Airflow's own parts of the page load too
                page.screenshot(path=folder / f"pages-{shot.name}-{theme}.png")
            problems += watch.problems
            context.close()
    return problems


def main(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    with prepared_airflow() as instance:
        problems = take(instance, folder)
    sys.stdout.write(
        json.dumps({"folder": str(folder), "pictures": 2 * len(SHOTS), "problems": problems}) + "\n"
    )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES))
