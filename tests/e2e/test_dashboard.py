"""The main job in a real browser, on the real default model: load, look, prune, relearn, watch, reload, deep link."""

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from analysis import concepts
from tests.dashboard_server import served
from tests.e2e.conftest import PATIENCE, OpenPage

pytestmark = [pytest.mark.browser, pytest.mark.slow_model]


@pytest.fixture(scope="module")
def server(browser: Browser, default_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A cold dashboard with a home of its own that shares only the converted model."""
    home = tmp_path_factory.mktemp("e2e-home")
    (home / "models").symlink_to(default_model_folder.parent, target_is_directory=True)
    capitals = concepts.load("capitals")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PALIMPSEST_HOME", str(home))
        # a snapshot of all facts takes a minute on a slow processor
        concepts.save(replace(capitals, name="few", facts=capitals.facts[:16], sentences=capitals.sentences[:12]))
    with served(home) as url:
        yield url


@pytest.fixture
def page(open_page: OpenPage) -> Page:
    return open_page()


def _settled(page: Page) -> None:
    """Wait until Streamlit has finished running, and stays so for a moment."""
    idle = "document.querySelector('[data-testid=stApp]')?.dataset.testScriptState === 'notRunning'"
    for _ in range(2):
        page.wait_for_function(idle)
        page.wait_for_timeout(400)


def _no_error_shown(page: Page) -> None:
    expect(page.get_by_test_id("stException")).to_have_count(0)


def _frames(page: Page) -> int:
    """Snapshots that the canvas holds."""
    return int(page.locator("[data-frames]").first.get_attribute("data-frames") or 0)


def _wait_for_frames(page: Page, count: int) -> None:
    deadline = time.monotonic() + PATIENCE / 1000
    while _frames(page) < count:
        assert time.monotonic() < deadline, f"the canvas still holds {_frames(page)} snapshots, not {count}"
        page.wait_for_timeout(200)


def test_the_main_job(server: str, page: Page):
    # A deep link into a cold server lands on its page, with all pages in the sidebar.
    page.goto(f"{server}/saliency?method=standardised")
    expect(page.get_by_role("heading", name="Saliency")).to_be_visible()
    for title in ("Model", "Saliency", "Logit lens", "Circuits", "Surgery", "Board", "Relearn", "Compare"):
        expect(page.get_by_test_id("stSidebar").get_by_role("link", name=title)).to_be_visible()
    expect(page.get_by_test_id("stPlotlyChart").first).to_be_visible()
    _settled(page)
    expect(page.locator("p", has_text="standard deviations").first).to_be_visible()
    _no_error_shown(page)

    # Model: the default is loaded already, and what it knows is shown.
    page.get_by_test_id("stSidebar").get_by_role("link", name="Model").click()
    expect(page.get_by_text(re.compile(r"The model knows \d+ of 81 facts"))).to_be_visible()
    _no_error_shown(page)

    # Surgery: the preview shows before and after.
    page.get_by_test_id("stSidebar").get_by_role("link", name="Surgery").click()
    expect(page.get_by_text("461 of 46,080 neurons")).to_be_visible()
    page.get_by_role("button", name="Preview").click()
    # (Its table is drawn on a canvas: the cells in the DOM are for screen readers only.)
    expect(page.locator("p", has_text="preview: prune (zero, held)").last).to_be_visible()
    _settled(page)
    _no_error_shown(page)

    # Relearn: a short run, whose canvas advances while it goes on.
    page.goto(f"{server}/relearn?concept=few&steps=2&cadence=steps&every=1&control=false")
    page.get_by_role("button", name="Start relearning").click()
    page.locator("[data-frames]").first.wait_for()
    _wait_for_frames(page, 1)
    _wait_for_frames(page, _frames(page) + 1)

    # Another one, started while the first is watched, is shown at once; it waits, and is taken out of the queue.
    first = re.findall(r"\d{8}-\d{6}-few", page.inner_text("body"))[0]
    page.get_by_text("New run", exact=True).first.click()
    page.get_by_role("button", name="Start relearning").click()
    expect(page.get_by_text("1st in the queue").first).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("button", name="Cancel")).to_have_count(0)
    page.goto(f"{server}/relearn?run={first}")
    expect(page.get_by_text(re.compile(r"Finished after 2 steps"))).to_be_visible()
    _wait_for_frames(page, 4)
    assert page.locator("[data-mounts]").first.get_attribute("data-mounts") == "1"
    _no_error_shown(page)

    # After a reload of the page, and from another browser, the run is still there.
    address = page.url
    page.reload()
    _wait_for_frames(page, 4)
    _settled(page)
    assert page.url == address
    expect(page.get_by_text("facts retrained on").first).to_be_visible()
    _no_error_shown(page)

    # A visit to another page changes nothing about what is shown here.
    page.get_by_role("radio", name="raw", exact=True).click()
    page.get_by_test_id("stSidebar").get_by_role("link", name="Compare").click()
    expect(page.get_by_role("heading", name="Compare")).to_be_visible()
    page.get_by_test_id("stSidebar").get_by_role("link", name="Relearn").click()
    expect(page.get_by_role("radio", name="raw", exact=True)).to_have_attribute("aria-checked", "true")
    _wait_for_frames(page, 4)
    expect(page).to_have_url(re.compile(f"run={first}"))
    _no_error_shown(page)


@pytest.mark.parametrize("path", ["", "saliency", "lens", "circuits", "surgery", "board", "relearn", "compare"])
def test_every_page_opens_by_its_address(server: str, page: Page, path: str):
    page.goto(f"{server}/{path}")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    _settled(page)
    _no_error_shown(page)


def test_bad_input_is_told_on_the_page(server: str, page: Page):
    page.goto(f"{server}/surgery?rule=explicit&neurons=L99.N1")
    expect(page.get_by_test_id("stAlert").get_by_text("lies outside the model")).to_be_visible()
    page.goto(f"{server}/?model=no-such-model")
    expect(page.get_by_test_id("stAlert").get_by_text("not a model of the catalog")).to_be_visible()
    _no_error_shown(page)
