"""The pages of a run of 100,000 items of which 37 fail, in a real Airflow: how many clicks it takes to what.

Run it with ``python -m tests.airflow.full_size.pages [ITEMS]``; it prints a table, then one JSON object.
Chromium and PostgreSQL must be installed. Clicks are counted from the page of the run; typing is no click.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from demo.airflow_instance import AirflowInstance
from demo.dag_files import write_loader
from tests.support.browser import Watch, running_browser
from tests.support.user_enrichment import FORK, UserApi, enrichment_flow, user_api, write_users

DAG, RUN = "enrich_users", "full"
FAILED = 37
ITEM = 4711
CONFIG = {"core": {"simple_auth_manager_users": "admin:admin"}}


class Visitor:
    """A user who counts clicks and the seconds until the page shows what was wanted.

    Args:
        page: a page of the browser, signed in.
        url: Airflow's address.
    """

    def __init__(self, page: Any, url: str) -> None:
        self.page = page
        self._url = url
        self.clicks = 0
        self.seconds = 0.0

    def start(self) -> None:
        """Go to Airflow's page of the run."""
        self.page.goto(f"{self._url}/dags/{DAG}/runs/{RUN}")
        self.page.get_by_role("link", name="Allma run").wait_for()
        self.clicks, self.seconds = 0, 0.0

    def click(self, role: str, name: str, *, exact: bool = True) -> None:
        """Click on a button or a link."""
        target = self.page.get_by_role(role, name=name, exact=exact).first
        target.wait_for()
        began = time.monotonic()
        target.click()
        self.clicks += 1
        self.seconds += time.monotonic() - began

    def wait(self, selector: str) -> None:
        """Wait until the page shows something."""
        began = time.monotonic()
        self.page.wait_for_selector(selector)
        self.seconds += time.monotonic() - began


def failures_by_kind(visitor: Visitor) -> str:
    visitor.click("link", "Allma run")
    visitor.wait(".allma-kinds tbody tr")
    rows = visitor.page.locator(".allma-kinds tbody tr").all()
    return "; ".join(row.inner_text().replace("\t", " ").replace("Rerun", "").strip() for row in rows)


def one_item(visitor: Visitor) -> str:
    visitor.click("link", "Allma run")
    visitor.wait(".allma-goto input")
    visitor.page.locator(".allma-goto input").fill(str(ITEM))
    visitor.page.keyboard.press("Enter")
    visitor.wait(".allma-trace")
    visitor.click("button", "get_profile", exact=False)
    visitor.wait(".allma-json[aria-label='Output of get_profile']")
    shown = visitor.page.locator(".allma-item").inner_text()
    for part in (f"u-{ITEM:07d}", "GET http://127.0.0.1", "200", "get_orders", "gold"):
        assert part in shown, part
    return "input, request, response, steps and output"


def download(visitor: Visitor) -> str:
    visitor.click("link", "Allma run")
    visitor.wait(".allma-kinds tbody tr")
    with visitor.page.expect_download() as started:
        visitor.click("link", "Download failures")
    lines = Path(started.value.path()).read_text().splitlines()
    assert len(lines) == FAILED, len(lines)
    return f"{len(lines)} lines, such as {lines[0][:80]}"


def rerun(visitor: Visitor, api: UserApi, wait_for_run: Callable[[], str]) -> str:
    visitor.click("link", "Allma run")
    visitor.wait(".allma-kinds tbody tr")
    visitor.click("button", f"Rerun {FAILED} failed")
    api.is_repaired = True
    api.calls.clear()
    visitor.click("button", f"Rerun {FAILED} items")
    visitor.wait("text=will run again")
    state = wait_for_run()
    assert api.users_asked == set(api.failing), sorted(api.users_asked)[:50]
    return f"run {state}, {len(api.users_asked)} users asked again, {sum(api.calls.values())} calls"


def main(items: int) -> int:
    with tempfile.TemporaryDirectory(prefix="allma-pages-") as folder, user_api(items, FAILED) as api:
        root = Path(folder)
        dags, store = root / "dags", root / "store"
        for made in (dags, store):
            made.mkdir()
        write_loader(dags)
        pointer = write_users(store / "users.jsonl", items)
        chunk_bytes = (store / "users.jsonl").stat().st_size // 12 + 1
        written = enrichment_flow(DAG, api.url, store.as_uri(), chunk_bytes=chunk_bytes)
        (dags / f"{DAG}.json").write_text(json.dumps(written), encoding="utf-8")
        with AirflowInstance(root / "airflow", [dags], database="postgresql", config=CONFIG) as instance:
            client = instance.client
            client.wait_for_dag(DAG, timeout=120)
            began = time.monotonic()
            client.trigger(DAG, {"users": pointer}, run_id=RUN)
            state = client.wait_for_run(DAG, RUN, timeout=3600)
            assert state == "failed", state
            ran = time.monotonic() - began
            rows, problems = visit(instance, api)
    lines = ["| from the run's page to | clicks | seconds | what was there |", "| --- | --- | --- | --- |"]
    lines += [f"| {name} | {clicks} | {seconds:.1f} | {found} |" for name, clicks, seconds, found in rows]
    report = {
        "items": items,
        "failed": FAILED,
        "run_seconds": round(ran, 1),
        "clicks": {name: clicks for name, clicks, _, _ in rows},
        "problems": problems,
    }
    sys.stdout.write("\n".join([*lines, json.dumps(report)]) + "\n")
    return 1 if problems else 0


def visit(instance: AirflowInstance, api: UserApi) -> tuple[list[tuple[str, int, float, str]], list[str]]:
    """Do each of the four things; return what it took, and what went wrong in the browser."""
    url, client = instance.base_url, instance.client
    body = {"username": instance.user, "password": instance.password}
    token = httpx.post(f"{url}/auth/token", json=body).raise_for_status().json()["access_token"]

    def wait_for_run() -> str:
        return client.wait_for_run(DAG, RUN, timeout=600)

    todo: dict[str, Callable[[Visitor], str]] = {
        "failures by kind": failures_by_kind,
        f"item {ITEM:,}": one_item,
        "a download of the failures": download,
        f"a rerun of exactly {FAILED} items of fork {FORK}": lambda visitor: rerun(
            visitor, api, wait_for_run
        ),
    }
    rows = []
    with running_browser() as browser:
        context = browser.new_context(viewport={"width": 1400, "height": 900}, accept_downloads=True)
        context.set_default_timeout(60_000)
        context.add_cookies([{"name": "_token", "value": token, "url": url}])
        page = context.new_page()
        watch = Watch(page, url)
        for name, action in todo.items():
            visitor = Visitor(page, url)
            visitor.start()
            found = action(visitor)
            rows.append((name, visitor.clicks, visitor.seconds, found))
    return rows, watch.problems


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000))
