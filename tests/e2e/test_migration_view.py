"""The migration view in a real browser, on a run of a tiny model: keys, card, files, one step for the whole page."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from analysis import runs
from analysis.canvas.assets import MODULE
from analysis.concepts import Concept
from analysis.edits import ComponentEdit, Selection
from analysis.relearning import RelearnConfig
from analysis.runs import execution
from tests.dashboard_server import served
from tests.e2e.conftest import OpenPage

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def server(
    browser: Browser, tiny_folder: Path, tiny_concept: Concept, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    home = tmp_path_factory.mktemp("home")
    config = RelearnConfig(
        model=str(tiny_folder),
        concept=tiny_concept.name,
        edit=ComponentEdit(selection=Selection(rule="top_k", value=5)),
        steps=6,
        snapshot_every=1,
        batch_size=4,
        learning_rate=1e-2,
        known_threshold=0.0,
        precision="float32",
        device="cpu",
    )
    execution.execute(runs.create(config, home / "runs" / "one", concepts={tiny_concept.name: tiny_concept}))
    with served(home) as url:
        yield url


@pytest.fixture(params=["light", "dark"])
def page(request: pytest.FixtureRequest, open_page: OpenPage) -> Page:
    return open_page(color_scheme=request.param)


def _opened(page: Page, server: str) -> tuple[Locator, int]:
    page.goto(f"{server}/relearn?run=one")
    view = page.locator(".palimpsest").first
    expect(view).to_have_attribute("data-playing", "true", timeout=60_000)
    expect(view).to_have_attribute("data-playing", "false", timeout=60_000)
    return view, int(view.get_attribute("data-frames") or 0)


def test_the_view_follows_the_keys_and_the_page_follows_the_view(server: str, page: Page):
    view, count = _opened(page, server)
    assert count >= 4
    page.locator(".palimpsest .stage").focus()
    page.keyboard.press("Home")
    expect(view).to_have_attribute("data-index", "0")
    expect(page.get_by_role("heading", name="before the edit")).to_be_visible()
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    expect(view).to_have_attribute("data-index", "2")
    expect(page.get_by_role("heading", name="at step")).to_be_visible()
    expect(page.locator(".spoken")).to_contain_text("Came back")

    box = page.locator(".palimpsest .stage").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 100, box["y"] + 60)
    card = page.locator(".palimpsest .card")
    expect(card).to_be_visible()
    expect(card).to_contain_text("mlp.hook_post")
    page.keyboard.press("Escape")
    expect(card).to_be_hidden()
    page.keyboard.press("?")
    expect(page.locator(".palimpsest .help")).to_be_visible()

    with page.expect_download() as saved:
        page.locator(".palimpsest button", has_text="CSV").click()
    lines = saved.value.path().read_text().splitlines()
    assert lines[0].startswith("run,phase,step,p_answer_retrained")
    assert sum(line.startswith("one,") for line in lines) == count
    assert any(line.startswith("control,") for line in lines)
    with page.expect_download() as picture:
        page.locator(".palimpsest button", has_text="PNG").click()
    assert picture.value.path().read_bytes().startswith(b"\x89PNG")
    assert view.get_attribute("data-mounts") == "1"


def test_an_update_that_another_overtakes_leaves_the_picture(page: Page):
    """Streamlit then calls the cleanup of the first update, before the second one is here."""
    found = page.evaluate(
        """async (source) => {
          const module = await import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
          const host = document.body.appendChild(document.createElement("div"));
          const parentElement = host.attachShadow({ mode: "open" });
          const update = () => module.default({ parentElement, data: {}, setStateValue() {}, setTriggerValue() {} });
          const wait = (time) => new Promise((done) => setTimeout(done, time));
          const mounts = () => [...parentElement.children].map((one) => one.dataset.mounts).join();
          const overtaken = update();
          const seen = [mounts()];
          overtaken();
          await wait(50);
          const last = update();
          await wait(1500);
          seen.push(mounts());
          last();
          await wait(1500);
          seen.push(mounts());
          return seen;
        }""",
        MODULE,
    )
    assert found == ["1", "1", ""]
