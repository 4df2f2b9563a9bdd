"""A headless Chromium for each file of tests in a browser; they are skipped where there is none.

Playwright's event loop runs for as long as the fixture lives, and other files of the same process need one of their own.
"""

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

_CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# On a deep link Streamlit's own client looks for its server below the page's path first, and is answered 404.
_OWN_PROBES = re.compile(r"/_stcore/(health|host-config)$")

PATIENCE = 300_000
"""Milliseconds: a snapshot of the default model takes a minute on a slow processor that other tests use, too."""
expect.set_options(timeout=PATIENCE)

OpenPage = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if _CHROMIUM is None:
        pytest.skip("no Chromium on this machine (Debian: apt install chromium)")
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=_CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Opens pages, with the options of `Browser.new_page`; their errors and requests to other hosts fail the test."""
    with ExitStack() as pages:
        yield lambda **options: pages.enter_context(_page(browser, **options))


@contextmanager
def _page(browser: Browser, **options: object) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1400, "height": 1200}, **options)  # type: ignore[arg-type]
    complaints: list[str] = []

    def on_console(message: ConsoleMessage) -> None:
        if message.type == "error" and not _OWN_PROBES.search(message.location.get("url", "")):
            complaints.append(message.text)

    page.on("console", on_console)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda sent: None if _is_local(sent.url) else complaints.append(f"asked for {sent.url}"))
    page.set_default_timeout(PATIENCE)
    yield page
    page.close()
    assert complaints == []


def _is_local(url: str) -> bool:
    return url.startswith(("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:"))
