"""The pages in a real Airflow: its tabs, its router, its rights, and a rerun that Airflow carries out."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.support.airflow import parse_again, write_atomically
from tests.support.browser import accessibility_problems
from tests.support.user_enrichment import FORK, enrichment_flow, user_api, write_users

pytestmark = pytest.mark.scheduler

DAG, RUN = "enrich_users_pages", "r1"
ITEMS, FAILED = 60, 9
RUN_PAGE = f"/dags/{DAG}/runs/{RUN}"
TABS = RUN_PAGE + "/plugin/allma-run"


@pytest.fixture(scope="module")
def users(airflow_instance, tmp_path_factory):
    """A run of which 9 of 60 items failed, and the API that its items ask."""
    folder = tmp_path_factory.mktemp("users")
    with user_api(ITEMS, FAILED) as api:
        pointer = write_users(folder / "users.jsonl", ITEMS)
        chunk_bytes = (folder / "users.jsonl").stat().st_size // 3 + 1
        written = enrichment_flow(DAG, api.url, folder.as_uri(), chunk_bytes=chunk_bytes)
        write_atomically(airflow_instance.dags[0] / f"{DAG}.json", json.dumps(written))
        parse_again(airflow_instance)
        client = airflow_instance.client
        client.wait_for_dag(DAG)
        client.trigger(DAG, {"users": pointer}, run_id=RUN)
        assert client.wait_for_run(DAG, RUN) == "failed"
        yield api


@pytest.fixture
def airflow_page(users, airflow_instance, page_of):
    """Open pages of Airflow as `user`, who is signed in."""
    passwords = json.loads((airflow_instance.home / "passwords.json").read_text())
    url = airflow_instance.base_url

    def make(path, user="admin", **options):
        body = {"username": user, "password": passwords[user]}
        token = httpx.post(f"{url}/auth/token", json=body).raise_for_status().json()["access_token"]
        page, watch = page_of(url, token=token, **options)
        page.goto(url + path)
        return page, watch

    return make


def open_tab(page, name):
    """Click on a tab of the page that has just been opened."""
    tab = page.get_by_role("link", name=name)
    tab.wait_for()
    # As long as it loads, Airflow can go to the page's first tab.
    page.wait_for_load_state("networkidle")
    tab.click()
    page.wait_for_url("**/plugin/**")


def test_tabs_work_one_after_the_other_and_a_deep_link_survives_a_reload(airflow_page):
    page, _ = airflow_page(RUN_PAGE)
    page.get_by_role("link", name="Allma run").click()
    page.locator(".allma-card").get_by_role("link", name="Enrich users").click()
    page.wait_for_selector(".allma-list tbody tr")
    assert page.locator(".allma-list tbody tr").count() == FAILED
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_selector(".allma-item .allma-trace")
    address = page.url
    page.reload()
    page.wait_for_selector(".allma-item .allma-trace")
    assert page.url == address
    assert accessibility_problems(page) == []
    # Another tab of Airflow looks for another name in the same module.
    page.locator(".allma-item").get_by_role("link", name="items").click()
    open_tab(page, "Allma items")
    page.wait_for_selector(".allma-list tbody tr")
    page.get_by_role("link", name=DAG).or_(page.get_by_role("link", name="Enrich users")).first.click()
    open_tab(page, "Allma flow")
    page.wait_for_selector(".allma[data-page=flow] .allma-page")


def test_a_dag_that_is_no_flow_says_so(airflow_page, deploy_source):
    source = "from airflow.sdk import DAG\nwith DAG('plain_dag'):\n    pass\n"
    page, _ = airflow_page(f"/dags/{deploy_source('plain_dag', source)}/plugin/allma-flow")
    page.wait_for_selector(".allma :text('not an Allma flow')")


def test_a_viewer_sees_the_items_and_is_told_that_a_rerun_is_not_allowed(airflow_page):
    address = f"{TABS}?allma_fork={FORK}&allma_item=5"
    page, watch = airflow_page(address, user="viewer", dark=True, width=1600)
    watch.allow("403")
    page.wait_for_selector(".allma-item .allma-trace")
    assert accessibility_problems(page) == []
    page.get_by_role("button", name=f"Rerun {FAILED} failed").click()
    page.get_by_role("button", name=f"Rerun {FAILED} items").click()
    page.wait_for_selector("dialog .allma-problem:has-text('403: Forbidden')")


def test_an_admin_reruns_the_failures_of_one_kind_and_watches_them_succeed(
    airflow_page, users, airflow_instance
):
    page, _ = airflow_page(f"{TABS}?allma_fork={FORK}")
    page.wait_for_selector(".allma-kinds tbody tr")
    users.is_repaired = True
    users.calls.clear()
    page.get_by_role("button", name="Rerun 3 failures of TransientStepError").click()
    page.get_by_role("button", name="Rerun 3 items").click()
    page.wait_for_selector("text=3 items will run again")
    page.wait_for_selector(f".allma-actions :text('Rerun {FAILED - 3} failed')", timeout=60_000)
    assert users.users_asked == {user for user, kind in users.failing.items() if kind == 0}
    assert airflow_instance.client.wait_for_run(DAG, RUN) == "failed"
