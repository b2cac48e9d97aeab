"""Flows, one flow and one run: lists, pictures, sources, what waits; over made-up data."""

from __future__ import annotations

import pytest

from tests.support import ui_flows
from tests.support.browser import accessibility_problems
from tests.support.ui_items import HOSTILE

NODES = "button.allma-node"


@pytest.fixture
def open_page(ui_server, page_of):
    def open_page(query="", *, wait=".allma-page", **options):
        page, watch = page_of(ui_server.url, **options)
        page.goto(f"{ui_server.url}/allma/ui{query}")
        page.wait_for_selector(wait)
        return page, watch

    return open_page


def test_flows_are_found_by_name_and_state_and_have_pages(open_page):
    page, _ = open_page(wait=".allma-table")
    rows = page.locator(".allma-table tbody tr")
    assert rows.count() == 50
    page.get_by_role("button", name="Next").click()
    page.wait_for_selector("text=51 to 65 of 65")
    page.get_by_role("button", name="Broken").click()
    page.wait_for_selector("text=NO_SUCH")
    assert rows.count() == 1
    page.get_by_role("button", name="All", exact=False).first.click()
    page.get_by_role("searchbox").fill("orders")
    page.wait_for_selector("text=1 flow")
    page.reload()
    page.wait_for_selector(".allma-table")
    assert rows.count() == 1
    assert page.get_by_role("link", name="manual__1: failed").get_attribute("title").endswith("1 min 01 s")
    page.get_by_role("searchbox").fill("no such flow")
    page.wait_for_selector("text=No flow matches")


def test_each_error_of_a_broken_flow_has_a_line_of_its_own(open_page):
    page, _ = open_page("?allma_state=broken", wait=".allma-name .problem")
    assert page.locator(".allma-name .problem").all_inner_texts() == [
        "nightly.json:12:7: $.steps.a.stepType: `NO_SUCH` is not a step type",
        "nightly.json:20:3: $.steps.b: no step leads to it",
    ]


def test_a_step_of_the_picture_opens_to_its_json_and_its_lines(open_page):
    page, _ = open_page("?dag_id=orders", wait=NODES)
    page.get_by_role("button", name="use_cached").click()
    side = page.locator(".allma-side")
    assert '"stepType": "NO_OP"' in side.locator(".allma-json").inner_text()
    page.keyboard.press("Escape")
    side.wait_for(state="detached")
    page.get_by_role("button", name="use_cached").click()
    side.get_by_role("button", name="lines").click()
    page.wait_for_selector(".row.chosen")
    assert "use_cached" in page.locator(".row.chosen").first.inner_text()
    page.get_by_role("button", name="Line 12").click()
    page.reload()
    page.wait_for_selector(".row.chosen")
    page.get_by_role("button", name="Versions").click()
    page.wait_for_selector("text=runs now")


def test_the_arrow_keys_walk_through_the_picture_and_it_zooms(open_page):
    page, _ = open_page("?dag_id=long", wait=NODES)
    page.locator(NODES).first.focus()
    for _ in range(30):
        page.keyboard.press("ArrowDown")
        page.wait_for_timeout(20)
    page.keyboard.press("Enter")
    page.wait_for_selector(".allma-side h2:text('step_')")
    page.get_by_role("button", name="Zoom to fit").click()
    page.wait_for_function("document.querySelector('[aria-label=\"Zoom to fit\"]').textContent === '10 %'")
    page.get_by_role("button", name="Zoom in").click()
    page.wait_for_function("document.querySelector('[aria-label=\"Zoom to fit\"]').textContent === '15 %'")


def test_of_a_large_flow_only_what_is_in_sight_is_drawn(open_page):
    page, _ = open_page("?dag_id=huge&allma_step=step_300", wait=f'{NODES}[data-step="step_300"]')
    assert page.locator(NODES).count() < 60


def test_a_run_shows_states_and_a_step_opens_to_what_it_got_and_gave(open_page):
    page, _ = open_page("?dag_id=orders&run_id=ended", wait=NODES)
    assert page.get_by_role("button", name="Load orders, succeeded · 3.2 s · 2 tries").count() == 1
    fork = page.get_by_role("button", name="Enrich users, failed · 100,000 of 100,000 items · 37 failed")
    assert fork.count() == 1
    page.get_by_role("button", name="Load orders").click()
    page.wait_for_selector(".allma-trace")
    text = page.locator(".allma-side").inner_text()
    assert "shop-1" in text
    assert "503" in text
    # Chunks have no tasks of the branch's steps, but their failures are known.
    assert page.get_by_role("button", name="get_profile, 13 failed").count() == 1
    fork.click()
    page.locator(".allma-side").get_by_role("link", name="100,000 items").click()
    page.wait_for_selector(".allma[data-page=items]")


def test_of_a_branch_that_one_task_runs_the_steps_that_failed_are_marked(open_page):
    page, _ = open_page("?dag_id=orders&run_id=memory", wait=NODES)
    assert page.get_by_role("button", name="get_profile, 2 failed").count() == 1
    assert page.get_by_role("button", name="check_profile, 2 failed").count() == 1
    assert page.locator(f"{NODES}[data-step=use_cached].failed").count() == 0


def test_what_waits_is_resumed_through_the_existing_route(open_page, ui_server):
    page, _ = open_page("?dag_id=orders&run_id=waiting", wait=NODES)
    page.get_by_role("button", name="Resume order-4711").click()
    page.get_by_role("textbox", name="Payload").fill('{"approved": }')
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Resume").click()
    dialog.get_by_text("The payload is not JSON").wait_for()
    page.get_by_role("textbox", name="Payload").fill('{"approved": true}')
    dialog.get_by_role("button", name="Resume").click()
    page.wait_for_selector("text=order-4711 was resumed.")
    body = {"correlationValue": "order-4711", "payload": {"approved": True}}
    assert ui_server.changes == [("POST", "/allma/resume", body)]


def test_a_run_is_triggered_with_the_example_as_its_payload(open_page, ui_server):
    page, watch = open_page("?dag_id=orders&allma_tab=payload")
    watch.allow("403")
    page.get_by_role("button", name="Trigger").first.click()
    ui_server.refuse = (403, "Forbidden")
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Trigger").click()
    dialog.get_by_text("Airflow does not allow you to do this").wait_for()
    body = {"logical_date": None, "conf": {"shop": "shop-1"}}
    assert ui_server.changes == [("POST", "/api/v2/dags/orders/dagRuns", body)]


TOKENS = [
    ["OPENAI/gpt-4o-mini", "62,951", "37,000", "25,180,400", "1,888,530", "4.91 USD"],
    ["ANTHROPIC/claude-haiku-4-5", "12", "0", "4,800", "360", "0.0066 USD"],
    [f"AWS_BEDROCK/{ui_flows.ARN}", "1", "0", "20", "4", "0.00012 USD, 0.0000054 EUR"],
    ["CUSTOM_LAMBDA/classify", "37", "0", "0", "0", ""],
    ["OPENAI/gpt-4o", "0", "37", "0", "0", ""],
]


def test_what_models_took_is_a_line_that_opens_to_a_table(open_page):
    page, _ = open_page("?dag_id=orders&run_id=models", wait=".allma-tokens")
    summary = page.locator(".allma-tokens summary")
    assert summary.inner_text() == (
        "5 models 63,001 answers · 25,185,220 tokens in, 1,888,894 out · 37,037 answers from the cache · "
        "4.92 USD, 0.0000054 EUR"
    )
    table = page.get_by_role("table", name="Tokens by model")
    assert not table.is_visible()
    summary.focus()
    page.keyboard.press("Enter")
    table.wait_for()
    assert [row.split("\t") for row in table.locator("tbody tr").all_inner_texts()] == TOKENS
    assert accessibility_problems(page, ".allma-tokens") == []


def test_only_the_models_with_the_most_tokens_have_rows(open_page):
    page, _ = open_page("?dag_id=huge&run_id=models", wait=".allma-tokens")
    page.locator(".allma-tokens summary").click()
    assert (
        page.locator(".allma-tokens summary")
        .inner_text()
        .startswith("1,000 models and others 10,000 answers")
    )
    rows = page.locator(".allma-tokens tbody tr")
    assert rows.count() == 50
    assert rows.first.inner_text().startswith("other models\t9,000\t3,600,000")
    assert page.locator(".allma-tokens p").inner_text() == "951 more with fewer tokens"


def test_a_run_that_asks_no_model_has_no_tokens(open_page):
    page, _ = open_page("?dag_id=orders&run_id=ended", wait=NODES)
    assert page.locator(".allma-tokens").count() == 0


def test_a_hostile_name_of_a_model_is_text_and_shortened(open_page):
    page, _ = open_page("?dag_id=hostile&run_id=models", wait=".allma-tokens")
    page.locator(".allma-tokens summary").click()
    name = page.locator(".allma-tokens .model span", has_text=HOSTILE[:20])
    assert name.inner_text().endswith("…")
    assert len(name.inner_text()) == 201
    assert page.evaluate("window.hacked") is None


def test_hostile_names_are_text(open_page):
    page, _ = open_page("?dag_id=hostile&allma_step=a", wait=".allma-side")
    assert page.evaluate("window.hacked") is None
    assert page.locator("img").count() == 0
    assert HOSTILE[:20] in page.locator("h1").inner_text()


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("?dag_id=other", "Not an Allma flow"),
        ("?dag_id=orders&run_id=forbidden", "Airflow does not allow you"),
        ("?dag_id=orders&run_id=silent", "did not answer"),
        ("?dag_id=nowhere", "No fixture"),
    ],
)
def test_what_cannot_be_shown_is_a_sentence(open_page, query, text):
    page, watch = open_page(query)
    watch.allow("status of")
    page.wait_for_selector(f"text={text}")


@pytest.mark.parametrize(
    ("dark", "query", "wait"),
    [
        (False, "?allma_q=nightly-0", ".allma-table"),
        (False, "?dag_id=orders&allma_tab=json&allma_step=check", ".row.chosen"),
        (True, "?dag_id=orders&run_id=waiting&allma_step=load_orders", ".allma-trace"),
    ],
)
def test_the_pages_are_accessible(open_page, dark, query, wait):
    page, _ = open_page(query, wait=wait, dark=dark)
    assert accessibility_problems(page) == []


@pytest.mark.parametrize(
    ("query", "wait"),
    [
        ("", ".allma-table"),
        ("?dag_id=orders&run_id=ended&allma_step=enrich", ".allma-side"),
        ("?dag_id=hostile&run_id=models", ".allma-tokens"),
    ],
)
def test_nothing_is_wider_than_the_window(open_page, query, wait):
    page, _ = open_page(query, wait=wait)
    for width in (640, 1280, 2560):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.evaluate("(e => e.scrollWidth <= e.clientWidth + 1)(document.querySelector('.allma'))")
