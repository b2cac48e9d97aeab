"""Debian's Chromium, driven by Playwright, with an eye on everything that a page must not do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import pytest

from tests.support.ui_server import UiServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

REQUIRED = "ALLMA_REQUIRE_BROWSER"
"""Set to 1, a missing browser fails the tests in place of skipping them."""
SECONDS = 30


def find_chromium() -> str | None:
    """Return the path of Chromium, if it is installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Run a browser without a window; skips the tests without one, unless it is required."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _missing("Playwright is not installed: pip install playwright")
    path = find_chromium()
    if path is None:
        _missing("Chromium is not installed: apt-get install chromium")
    # Chromium's own sandbox does not work for root, and its pages are ours.
    flags = [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--process-per-site",
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        try:
            yield browser
        finally:
            browser.close()


def _missing(reason: str) -> None:
    if os.environ.get(REQUIRED) == "1":
        pytest.fail(reason)
    pytest.skip(reason)


class Watch:
    """What a page did: messages on its console, errors, and requests to other hosts.

    Args:
        page: a page that has loaded nothing yet.
        url: the address of the server that it may talk to.
    """

    def __init__(self, page: Page, url: str) -> None:
        self._host = urlsplit(url).netloc
        self.problems: list[str] = []
        self.statuses: list[tuple[int, str]] = []
        self.allowed: list[str] = []
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        page.on("request", self._asked)
        page.on("response", lambda response: self.statuses.append((response.status, response.url)))

    def allow(self, text: str) -> None:
        """Let messages with this text through, such as those about an answer that a test provokes."""
        self.allowed.append(text)

    def check(self) -> None:
        """Fail if anything was wrong."""
        left = [one for one in self.problems if not any(text in one for text in self.allowed)]
        assert not left, left

    def _said(self, message: Any) -> None:
        if message.type in {"error", "warning"}:
            self.problems.append(f"{message.type}: {message.text} {message.location}")

    def _asked(self, request: Any) -> None:
        split = urlsplit(request.url)
        if split.scheme not in {"data", "blob"} and split.netloc != self._host:
            self.problems.append(f"request to {request.url}")


def accessibility_problems(page: Page, within: str = ".allma") -> list[str]:
    """Return what axe-core finds against WCAG A and AA, one line for each element."""
    from axe_playwright_python import sync_playwright as axe

    source = (Path(axe.__file__).parent / "axe.min.js").read_text()
    page.evaluate(source)
    run = "within => axe.run(within, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa']})"
    found = page.evaluate(run, within)
    return [
        f"{one['id']}: {node['html'][:150]} {node['failureSummary'][:200]}"
        for one in found["violations"]
        for node in one["nodes"]
    ]


# Not for the session: Playwright's event loop runs in this thread; tests of other modules start theirs.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for the tests of a module."""
    with running_browser() as running:
        yield running


class PageOf(Protocol):
    """The type of the fixture `page_of`."""

    def __call__(
        self, url: str, *, dark: bool = ..., width: int = ..., height: int = ..., token: str | None = ...
    ) -> tuple[Page, Watch]:
        """Open an empty page that may talk to the server at `url`, signed in if there is a token."""


@pytest.fixture(scope="module")
def shared_context(browser: Browser) -> Iterator[BrowserContext]:
    """The context of all pages of a module that nobody is signed in to; each test has a server of its own."""
    context = browser.new_context()
    context.set_default_timeout(SECONDS * 1000)
    with UiServer() as server:
        # It keeps the process of pages alive: starting one takes longer than most tests.
        context.new_page().goto(server.url)
        yield context


@pytest.fixture
def page_of(browser: Browser, shared_context: BrowserContext) -> Iterator[PageOf]:
    """Open pages; a page that did something wrong fails the test."""
    pages, watches = [], []

    def make(
        url: str, *, dark: bool = False, width: int = 1400, height: int = 900, token: str | None = None
    ) -> tuple[Page, Watch]:
        context = shared_context
        if token:
            context = browser.new_context()
            context.set_default_timeout(SECONDS * 1000)
            context.add_cookies([{"name": "_token", "value": token, "url": url}])
        page = context.new_page()
        page.emulate_media(color_scheme="dark" if dark else "light")
        page.set_viewport_size({"width": width, "height": height})
        pages.append(page)
        watches.append(Watch(page, url))
        return page, watches[-1]

    yield make
    for page in pages:
        page.close()
    for watch in watches:
        watch.check()
