"""Fixtures of the browser tests: one Chromium, one server with made-up data, a page for each test."""

from __future__ import annotations

import pytest

from tests.support.browser import SECONDS, Watch, running_browser
from tests.support.ui_server import UiServer


# Not for the session: Playwright's event loop runs in this thread; tests of other modules start theirs.
@pytest.fixture(scope="module")
def browser():
    with running_browser() as running:
        yield running


@pytest.fixture
def ui_server():
    with UiServer() as server:
        yield server


@pytest.fixture
def page_of(browser):
    """Make pages of contexts of their own: `page_of(url, dark=True)` returns a page and its watch."""
    contexts, watches = [], []

    def make(url, *, dark=False, width=1400, height=900, token=None):
        context = browser.new_context(
            color_scheme="dark" if dark else "light", viewport={"width": width, "height": height}
        )
        contexts.append(context)
        context.set_default_timeout(SECONDS * 1000)
        if token:
            context.add_cookies([{"name": "_token", "value": token, "url": url}])
        page = context.new_page()
        watch = Watch(page, url)
        watches.append(watch)
        return page, watch

    yield make
    for context in contexts:
        context.close()
    for watch in watches:
        watch.check()
