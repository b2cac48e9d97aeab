"""The items of a fork: what the page shows, finds, links to and reruns, over made-up data."""

from __future__ import annotations

import pytest

from tests.support.browser import accessibility_problems
from tests.support.ui_items import FakeFork

ROWS = ".allma-list tbody tr"


def wait_for_rows(page, number):
    from playwright.sync_api import expect

    expect(page.locator(ROWS)).to_have_count(number)


def text_of(page, selector):
    return [one.inner_text() for one in page.locator(selector).all()]


@pytest.fixture
def open_items(ui_server, page_of):
    def open_page(run="ended", query="", **options):
        page, watch = page_of(ui_server.url, **options)
        page.goto(f"{ui_server.url}/allma/ui?dag_id=orders&run_id={run}&allma_fork=enrich{query}")
        page.wait_for_selector(".allma-page h1, .allma-problem")
        return page, watch

    return open_page


def test_a_kind_of_failures_is_one_click_and_its_address_survives_a_reload(open_items):
    page, _ = open_items()
    page.wait_for_selector(ROWS)
    assert "37" in page.locator(".allma-facts").first.inner_text()
    assert [row.split("\t")[:2] for row in text_of(page, ".allma-kinds tbody tr")] == [
        ["13", "HTTPError"],
        ["12", "ValidationError"],
        ["12", "StepTimeout"],
    ]
    assert page.locator(ROWS).count() == 37
    page.get_by_role("button", name="ValidationError", exact=True).click()
    page.wait_for_selector(".chip")
    wait_for_rows(page, 12)
    page.reload()
    page.wait_for_selector(ROWS)
    assert page.locator(ROWS).count() == 12
    assert "12 items found" in page.locator(".allma-filters").inner_text()
    page.locator(".chip").click()
    wait_for_rows(page, 37)


def test_the_keyboard_is_enough(open_items):
    page, _ = open_items()
    page.wait_for_selector(ROWS)
    for key in ("j", "j", "ArrowUp", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    page.wait_for_selector(".allma-item h2:text('Item 2,709')")
    page.keyboard.press("k")
    page.wait_for_selector(".allma-item h2:text-is('Item 7')")
    page.keyboard.press("Escape")
    page.wait_for_selector(".allma-item", state="detached")
    page.keyboard.press("?")
    page.wait_for_selector("dialog:has-text('next item')")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog", state="detached")
    page.keyboard.press("/")
    page.keyboard.type("u-0013517")
    page.keyboard.press("Enter")
    wait_for_rows(page, 1)
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.keyboard.type("4,711")
    page.keyboard.press("Enter")
    page.wait_for_selector(".allma-item h2:text('Item 4,711')")


def test_an_item_shows_input_steps_calls_and_output_and_links_to_its_task(open_items, ui_server):
    page, _ = open_items(query="&allma_item=4711", width=1000)
    page.wait_for_selector(".allma-trace")
    assert not page.locator(".allma-list").is_visible()  # a narrow page shows the item alone
    shown = page.locator(".allma-item").inner_text()
    for part in ("u-0004711", "get_profile", "API_CALL · 85 ms", "200", "user4711@example.com", "gold"):
        assert part in shown
    log = page.get_by_role("link", name="Open the log")
    assert log.get_attribute(
        "href"
    ) == f"{ui_server.url}/dags/orders/runs/ended/tasks/enrich.chunk/mapped/0?x=".removesuffix("?x=")
    page.get_by_role("button", name="Next item").click()
    page.wait_for_selector(".allma-item h2:text('Item 4,712')")
    page.get_by_role("button", name="get_orders").click()
    page.wait_for_selector(".allma-json[aria-label='Output of get_orders']")


def change_answer(page, path, change):
    """Let a function change the JSON that the pages get from a path."""

    def answer(route):
        response = route.fetch()
        body = response.json()
        change(body)
        route.fulfill(response=response, json=body)

    page.route(path, answer)


def test_what_is_not_known_of_an_item_is_said(open_items):
    page, _ = open_items()
    page.wait_for_selector(ROWS)

    def change(item):
        item |= {"note": "The input cannot be read.", "traceNote": "The trace is not complete."}
        step = next(step for step in item["trace"] if step["calls"])
        step |= {
            "note": "It ran in an earlier task.",
            "omittedCalls": 1_234,
            "within": [{"fork": "inner", "branch": "each", "item": 1_711}],
        }

    change_answer(page, "**/items/4711*", change)
    page.get_by_label("Go to the item with this index").fill("4711")
    page.keyboard.press("Enter")
    page.wait_for_selector(".allma-trace")
    shown = page.locator(".allma-item").inner_text()
    for part in (
        "The input cannot be read.",
        "The trace is not complete.",
        "It ran in an earlier task.",
        "1,234 earlier calls left out",
        "in inner, branch each, item 1,711",
    ):
        assert part in shown
    page.unroute_all(behavior="wait")


def test_items_of_a_lost_chunk_can_rerun_although_none_failed(open_items):
    page, _ = open_items()
    page.wait_for_selector(ROWS)
    change_answer(page, "**/forks/enrich", lambda summary: summary.update(failed=0, kinds=[]))
    change_answer(page, "**/rerun?*", lambda plan: plan.update(items=0, sentence="Lost items run again."))
    page.reload()
    page.get_by_role("button", name="Rerun failed").click()
    page.wait_for_selector("dialog:has-text('Lost items run again.')")
    page.get_by_role("dialog").get_by_role("button", name="Rerun", exact=True).click()
    page.get_by_text("Items without a result will run again").wait_for()
    page.unroute_all(behavior="wait")


def test_a_value_that_was_cut_says_so_and_can_be_downloaded_whole(open_items):
    page, _ = open_items("huge", "&allma_item=4711")
    page.wait_for_selector("text=Only the beginning is shown")
    assert "20 MiB in all" in page.locator(".allma-json[aria-label=Output]").inner_text()
    address = page.get_by_role("link", name="Download the output").get_attribute("href")
    assert address.endswith("/forks/enrich/items/4711/value?part=output&branch=enrich_user")


def test_hostile_labels_and_errors_are_text_with_visible_control_characters(open_items):
    page, _ = open_items("hostile", "&allma_item=7")
    page.wait_for_selector(".allma-trace")
    assert page.evaluate("window.hacked") is None
    assert page.locator(".allma img").count() == 0
    shown = page.locator(".allma").inner_text()
    assert r'<img src=x onerror="window.hacked=1">\u202egnp.exe\x07\nsecond line' in shown
    assert not set("\u202e\x07") & set(shown)


def test_a_rerun_of_a_kind_sends_the_selection_first_and_shows_the_answer(open_items, ui_server):
    page, _ = open_items()
    page.get_by_role("button", name="Rerun 12 failures of StepTimeout").click()
    page.wait_for_selector("dialog:has-text('12 items in 7 chunks run again')")
    assert "airflow-allma rerun orders ended" in page.locator("dialog").inner_text()
    page.get_by_role("button", name="Rerun 12 items").click()
    page.wait_for_selector("text=12 items will run again: Airflow cleared 8 task instances.")
    (first, path, selection), (second, clear_path, clear) = ui_server.changes
    assert (first, second) == ("POST", "POST")
    assert path == "/api/v2/dags/orders/dagRuns/ended/taskInstances/enrich.chunks/xcomEntries"
    assert selection["key"] == "allma_rerun"
    assert clear_path == "/api/v2/dags/orders/clearTaskInstances"
    assert clear["dry_run"] is False
    assert clear["only_failed"] is False


@pytest.mark.parametrize(("status", "stays"), [(409, False), (504, True)])
def test_a_refused_clear_makes_the_selection_void_unless_it_may_be_needed(
    open_items, ui_server, status, stays
):
    ui_server.refuse, ui_server.refused_path = (status, "Task is running"), "clearTaskInstances"
    page, watch = open_items()
    watch.allow(str(status))
    page.get_by_role("button", name="Rerun 12 failures of StepTimeout").click()
    page.get_by_role("button", name="Rerun 12 items").click()
    problem = page.locator("dialog .allma-problem:has-text('Task is running')")
    problem.wait_for()
    assert ("delete the XCom allma_rerun" in problem.inner_text()) == stays
    entries = [(method, body.get("value")) for method, path, body in ui_server.changes if "xcom" in path]
    assert entries == [("POST", "{}")] + [("PATCH", "void")] * (not stays)


def test_a_rerun_without_rights_shows_what_airflow_says(open_items, ui_server):
    ui_server.refuse = (403, "Forbidden")
    page, watch = open_items()
    watch.allow("403")
    page.get_by_role("button", name="Rerun 37 failed").click()
    page.get_by_role("button", name="Rerun 37 items").click()
    page.wait_for_selector(
        "dialog .allma-problem:has-text('Airflow does not allow you to do this (403: Forbidden)')"
    )
    assert len(ui_server.changes) == 1


def test_a_run_that_has_changed_since_the_dialog_opened_is_shown_again_before_a_rerun(open_items, ui_server):
    page, _ = open_items()
    page.get_by_role("button", name="Rerun 12 failures of StepTimeout").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("12 items in 7 chunks run again").wait_for()
    replaced = "2 other items were selected to run again."
    change_answer(page, "**/rerun?*", lambda plan: plan.update(replaced=replaced))
    dialog.get_by_role("button", name="Rerun 12 items").click()
    dialog.get_by_text("The run has changed since this dialog was opened").wait_for()
    dialog.get_by_text(replaced).wait_for()
    assert ui_server.changes == []
    dialog.get_by_role("button", name="Rerun 12 items").click()
    page.get_by_text("12 items will run again").wait_for()
    assert len(ui_server.changes) == 2
    page.unroute_all(behavior="wait")


def test_a_rerun_that_cannot_be_done_now_says_why(open_items):
    page, _ = open_items("running")
    page.get_by_role("button", name="Rerun 16 failed").click()
    page.wait_for_selector("dialog:has-text('The run is still running')")
    assert page.get_by_role("button", name="Rerun 16 items").is_disabled()


def test_a_running_fork_is_live_until_it_ends(open_items, ui_server):
    page, _ = open_items("running")
    page.wait_for_selector("text=about 1 min 10 s")
    ui_server.forks["running"] = FakeFork()
    page.wait_for_selector(".allma-facts :text-is('99,963')")
    wait_for_rows(page, 37)
    asked = len(ui_server.requests)
    page.wait_for_timeout(3500)  # more than one period of polling
    assert len(ui_server.requests) == asked


@pytest.mark.parametrize(
    ("run", "text"),
    [
        ("forbidden", "Airflow does not allow you to do this (403: Forbidden)"),
        ("deleted", "The results of fork enrich were deleted from s3://bucket/runs/1."),
        ("silent", "The object store did not answer within 10 s."),
        ("clean", "No item failed"),
        ("empty", "This fork had no items"),
    ],
)
def test_every_state_is_a_sentence(open_items, run, text):
    page, watch = open_items(run, "&allma_show=failed")
    watch.allow("Failed to load resource")
    page.wait_for_selector(f".allma :text('{text}')")


def test_an_index_out_of_range_is_a_sentence(open_items):
    page, watch = open_items(query="&allma_item=5000000")
    watch.allow("404")
    page.wait_for_selector(".allma-item :text('The fork has 100,000 items: there is no item 5000000.')")
    assert page.locator(".allma-item").get_by_role("button", name="Try again").count() == 0


def test_an_index_that_is_no_number_is_refused(open_items):
    page, _ = open_items()
    field = page.locator(".allma-goto input")
    field.fill("abc")
    field.press("Enter")
    page.wait_for_selector(".allma-goto [role=alert]:text('Enter a number')")
    field.fill("4,711")
    field.press("Enter")
    page.wait_for_selector(".allma-item h2:text('Item 4,711')")
    assert page.locator(".allma-goto [role=alert]").count() == 0


def test_a_fork_that_the_run_did_not_reach_says_so(open_items):
    page, _ = open_items()
    reason = "The run did not reach this fork."
    no_items = {"items": None, "ended": 0, "failed": 0, "succeeded": 0, "kinds": [], "chunks": None}
    no_items["noItems"] = {"state": "skipped", "reason": reason}
    change_answer(page, "**/forks/enrich", lambda summary: summary.update(no_items))
    page.reload()
    page.wait_for_selector(f".allma-card .allma-note:text('{reason}')")
    assert page.locator(".allma-card .allma-badge").first.inner_text() == "skipped"
    assert page.locator(".allma-card .allma-facts").count() == 0


def test_a_session_that_ended_goes_to_the_sign_in(open_items, ui_server, page_of):
    page, watch = page_of(ui_server.url)
    watch.allow("401")
    page.goto(f"{ui_server.url}/allma/ui?dag_id=orders&run_id=unauthorized&allma_fork=enrich")
    page.wait_for_url("**/api/v2/auth/login?next=**allma_fork**")


def test_items_in_memory_have_the_same_page_without_chunks(open_items):
    page, _ = open_items("memory")
    page.wait_for_selector(ROWS)
    assert page.locator(ROWS).count() == 5
    assert "Chunk" not in page.locator(".allma-list thead").inner_text()


@pytest.mark.parametrize(("dark", "width"), [(False, 1280), (True, 2560)])
def test_the_page_meets_wcag_aa(open_items, dark, width):
    page, _ = open_items(query="&allma_item=7", dark=dark, width=width)
    page.wait_for_selector(".allma-trace")
    page.locator(".allma-menu summary").click()
    assert accessibility_problems(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.keyboard.press("?")
    page.wait_for_selector("dialog")
    assert accessibility_problems(page, "dialog") == []
