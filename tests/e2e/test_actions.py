"""Real double clicks and reloads in a browser: an action is carried out once, and a page keeps what it computes with."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from analysis import concepts
from analysis.concepts import Concept
from tests.dashboard_server import served
from tests.e2e.conftest import OpenPage

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def home(browser: Browser, tiny_concept: Concept, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder with the tiny concept."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PALIMPSEST_HOME", str(home))
        concepts.save(tiny_concept)
    return home


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[str]:
    with served(home) as url:
        yield url


@pytest.fixture
def page(open_page: OpenPage) -> Page:
    return open_page()


def _settled(page: Page) -> None:
    """Wait until Streamlit has finished running, and stays so for a moment."""
    for _ in range(3):
        page.wait_for_function(
            "document.querySelector('[data-testid=stApp]')?.dataset.testScriptState === 'notRunning'"
        )
        page.wait_for_timeout(300)


def _count(folder: Path) -> int:
    return len(list(folder.glob("*"))) if folder.is_dir() else 0


@pytest.mark.parametrize("between", [0, 150], ids=["fast", "slow"])
def test_a_double_click_starts_one_run(server: str, page: Page, home: Path, tiny_folder: Path, between: int):
    before = _count(home / "runs")
    page.goto(f"{server}/relearn?model={tiny_folder}&concept=tiny-capitals&steps=1&control=false&new_run=true")
    _settled(page)
    start = page.get_by_role("button", name="Start relearning")
    if not start.is_visible():
        page.get_by_text("New run", exact=True).first.click()
    start.dblclick(delay=between / 2)
    expect(page).to_have_url(re.compile(r"run=\d{8}-\d{6}-tiny-capitals"))
    _settled(page)
    expect(page.get_by_test_id("stException")).to_have_count(0)
    assert _count(home / "runs") == before + 1
    run = max(path.name for path in (home / "runs").iterdir())
    expect(page).to_have_url(
        re.compile(f"run={run}")
    )  # the new run is shown, although the second click drew the page anew


def test_a_double_click_edits_once(server: str, page: Page, home: Path, tiny_folder: Path):
    page.goto(f"{server}/surgery?model={tiny_folder}&concept=tiny-capitals&percent=10")
    page.get_by_role("button", name="Apply to weights").dblclick(delay=75)
    expect(page.get_by_role("button", name="Undo the last edit")).to_be_visible()
    _settled(page)
    expect(page.get_by_text("weights after 1 edit").first).to_be_attached()
    expect(page.get_by_text("weights after 2 edits")).to_have_count(0)

    page.get_by_role("button", name="Apply to weights").click()  # a press of its own is a second edit
    _settled(page)
    expect(page.get_by_text("weights after 2 edits").first).to_be_attached()
    page.get_by_role("button", name="Undo the last edit").dblclick(delay=75)
    _settled(page)
    expect(page.get_by_role("button", name="Undo the last edit")).to_be_visible()  # one of two is left

    page.get_by_role("button", name="Carry out and evaluate").dblclick(delay=75)
    _settled(page)
    assert _count(home / "removals") == 1


def test_the_second_click_of_a_slow_double_click_meets_the_new_button(server: str, page: Page, tiny_folder: Path):
    """The page may have drawn the button of the next action before a busy browser handles the second click."""
    page.goto(f"{server}/surgery?model={tiny_folder}&concept=tiny-capitals&percent=10")
    _settled(page)
    box = page.get_by_role("button", name="Apply to weights").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    for number in (1, 2, 3):
        page.mouse.down(click_count=number)
        page.mouse.up(click_count=number)
        expect(page.get_by_text("weights after 1 edit").first).to_be_attached()
        page.wait_for_timeout(1000)
        _settled(page)
    expect(page.get_by_text("weights after 2 edits")).to_have_count(0)
    page.mouse.down()
    page.mouse.up()
    expect(page.get_by_text("weights after 2 edits").first).to_be_attached()


def test_a_page_keeps_its_model_through_links_and_reloads(server: str, page: Page, tiny_folder: Path):
    page.goto(f"{server}/saliency?model={tiny_folder}&dtype=bfloat16&device=cpu&concept=tiny-capitals")
    _settled(page)
    for title in ("Model", "Lens", "Relearn", "Surgery"):
        page.get_by_test_id("stSidebar").get_by_role("link", name=title).click()
        expect(page).to_have_url(re.compile(f"/{title.lower()}|/\\?" if title == "Model" else f"/{title.lower()}"))
        for part in ("model=", "dtype=bfloat16", "device=cpu", "concept=tiny-capitals"):
            expect(page).to_have_url(re.compile(part))
    page.reload()
    _settled(page)
    expect(page.get_by_text(re.compile("Model: .*tiny-llama.* on cpu, bfloat16"))).to_be_visible()
    expect(page).to_have_url(re.compile("concept=tiny-capitals"))
