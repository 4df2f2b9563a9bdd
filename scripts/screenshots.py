"""Photograph every page, light and dark, into docs/screenshots.

    python scripts/screenshots.py [--url http://127.0.0.1:8501] [--run NAME] [--removal NAME] [--only NAME ...]
                                  [--out docs/screenshots]

Without --url a server is started on a free port, with the runs and removals of the current home; the Relearn, Compare
and Board pages are worth photographing only where there are some. Agreement and Circuits measure first, which takes
minutes without a GPU.
"""

import argparse
import io
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

SHOTS = {
    "model": "",
    "saliency": "saliency?method=standardised",
    "saliency-layers": "saliency?method=standardised&view=Layers&compare=athletes",
    "saliency-agreement": "saliency?method=standardised&view=Agreement",
    "saliency-concepts": "saliency?method=standardised&view=Two+concepts&against=athletes",
    "neuron-card": "saliency?method=standardised&card=L9.N0",
    "lens": "lens",
    "circuits": "circuits",
    "surgery": "surgery",
    "surgery-result": "surgery",
    "board": "board",
    "relearn-edited": "relearn",
    "relearn-early": "relearn",
    "relearn-middle": "relearn",
    "relearn": "relearn",
    "relearn-form": "relearn",
    "compare": "compare",
}
"""Name -> address."""
_MOMENTS = {"relearn-edited": 1, "relearn-early": 3, "relearn-middle": 6}
"""Name -> index of the snapshot; `relearn` shows the last one."""
_HEIGHTS = {"relearn": 1750, "surgery-result": 1650}
ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Start a server if none is named, and photograph."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url")
    parser.add_argument("--run", help="the run that the Relearn page shows (default: the newest)")
    parser.add_argument("--removal", help="the removal that the Surgery page shows (default: the newest)")
    parser.add_argument("--only", nargs="+", choices=list(SHOTS), default=list(SHOTS), metavar="NAME")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "screenshots")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.url:
        photograph(options.url, options)
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)], cwd=ROOT
    )
    try:
        time.sleep(8)
        photograph(f"http://127.0.0.1:{port}", options)
    finally:
        server.terminate()
        server.wait()


def photograph(url: str, options: argparse.Namespace) -> None:
    """One picture a name of `SHOTS` and colour scheme."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-background-networking"],
        )
        for scheme in ("light", "dark"):
            for name in options.only:
                height = _HEIGHTS.get(name, _HEIGHTS["relearn"] if name in _MOMENTS else 1250)
                page = browser.new_page(viewport={"width": 1440, "height": height}, color_scheme=scheme)
                page.set_default_timeout(600_000)
                page.goto(f"{url}/{SHOTS[name]}{_query(name, options)}")
                _settle(page)
                _prepare(page, name)
                _save(page.screenshot(), options.out / f"{name}-{scheme}.png")
                page.close()
        browser.close()


def _query(name: str, options: argparse.Namespace) -> str:
    if options.run and SHOTS[name] == "relearn":
        return f"?run={options.run}"
    if options.removal and name == "surgery-result":
        return f"?op={options.removal}"
    return ""


def _prepare(page: Page, name: str) -> None:
    """Press what has to be pressed before there is something to see."""
    if name == "saliency-agreement":
        more = page.get_by_role("button", name="Measure the other quick methods")
        if more.count():
            more.click()
            page.get_by_text("attribution_patching").first.wait_for()
            _settle(page)
            page.reload()  # there is nothing left to measure: the button goes
            _settle(page)
    if name == "circuits":
        find = page.get_by_role("button", name="Find the circuit")
        if find.is_enabled():
            find.click()
        page.get_by_role("button", name="Use this circuit in Surgery").wait_for()
        _settle(page)
    if name == "lens":
        page.locator(".lens td.answer").last.hover()
    if name == "surgery":
        page.get_by_role("button", name="Preview").click()
        page.wait_for_timeout(1500)
        _settle(page)
    if name == "surgery-result":
        page.get_by_role("heading", name="Removals").scroll_into_view_if_needed()
        page.get_by_text("Greedy continuations").first.wait_for()
        page.mouse.move(900, 600)  # over the page, not over the sidebar
        page.mouse.wheel(0, 1050)
        page.wait_for_timeout(1500)
    if name == "relearn-form":
        page.get_by_text("New run").first.click()
        _settle(page)
        page.get_by_role("button", name="Tracking").click()
        page.wait_for_timeout(1000)
    if name == "relearn" or name in _MOMENTS:
        view = page.locator(".palimpsest").first
        view.wait_for()
        page.wait_for_timeout(14_000)  # the replay plays through to the last snapshot
        if name in _MOMENTS:
            view.locator(".stage").focus()
            page.keyboard.press("Home")
            for _ in range(_MOMENTS[name]):
                page.keyboard.press("ArrowRight")
            _settle(page)


def _save(picture: bytes, path: Path) -> None:
    """256 colours are enough for a page, and a third of the size."""
    Image.open(io.BytesIO(picture)).convert("RGB").quantize(256).save(path, optimize=True)


def _settle(page: Page) -> None:
    page.get_by_role("heading", level=1).wait_for()
    for _ in range(3):
        page.wait_for_function(
            "document.querySelector('[data-testid=stApp]')?.dataset.testScriptState === 'notRunning'"
        )
        page.wait_for_timeout(900)
    page.wait_for_function(
        """!document.querySelector('[data-testid=stSkeleton]') &&
        [...document.querySelectorAll('[data-testid=stPlotlyChart]')].every(one => one.querySelector('.main-svg'))"""
    )
    page.wait_for_timeout(900)


if __name__ == "__main__":
    main()
