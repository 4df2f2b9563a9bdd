"""Frame gaps of the migration canvas in headless Chromium, playing, with software rendering.

    python benchmarks/canvas_frames.py [--layers 30 --neurons 1536 --concepts 1 3] [--json]
    python benchmarks/canvas_frames.py --layers 32 --neurons 14336 --concepts 1

Plays a made-up run (the numbers do not matter here, their amount does) and measures the gaps between animation frames
from outside.
"""

import argparse
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
_MEASURE = """async (seconds) => {
  const gaps = []; let last = performance.now();
  await new Promise((done) => {
    const start = last;
    const tick = (now) => {
      gaps.push(now - last); last = now;
      if (now - start < seconds * 1000) requestAnimationFrame(tick); else done();
    };
    requestAnimationFrame(tick);
  });
  return gaps.slice(5).sort((a, b) => a - b);
}"""


def main() -> None:
    """Print the gaps for each number of concepts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=30)
    parser.add_argument("--neurons", type=int, default=1536)
    parser.add_argument("--concepts", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--seconds", type=int, default=12)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with served() as url, sync_playwright() as playwright:
        for concepts in options.concepts:
            browser = launched(playwright)
            row = _play(browser, url, options, concepts)
            browser.close()
            print(json.dumps(row) if options.json else ", ".join(f"{key}: {value}" for key, value in row.items()))


@contextmanager
def served() -> Iterator[str]:
    """The app on a free port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    app = Path(__file__).parent / "canvas_app.py"
    command = [sys.executable, "-m", "streamlit", "run", str(app), "--server.port", str(port)]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(5)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def launched(playwright, *more: str) -> Browser:
    """Headless Chromium without a graphics card."""
    usual = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-background-networking"]
    return playwright.chromium.launch(executable_path=shutil.which("chromium"), args=[*usual, *more])


def _play(browser: Browser, url: str, options: argparse.Namespace, concepts: int) -> dict:
    page = browser.new_page(viewport={"width": 1400, "height": 1100})
    size = f"layers={options.layers}&neurons={options.neurons}&concepts={concepts}&frames={options.frames}"
    page.goto(f"{url}/?{size}")
    canvas = page.locator(f"[data-frames='{options.frames}']").first
    canvas.wait_for(timeout=60_000)
    page.wait_for_timeout(3000)
    assert canvas.get_attribute("data-playing") == "true", "the replay does not play"
    gaps = page.evaluate(_MEASURE, options.seconds)
    still_playing = canvas.get_attribute("data-playing")
    return {
        "layers": options.layers,
        "neurons": options.neurons,
        "concepts": concepts,
        "frames": len(gaps),
        "played_throughout": still_playing == "true",
        "median_gap_ms": round(gaps[len(gaps) // 2], 1),
        "p95_gap_ms": round(gaps[int(len(gaps) * 0.95)], 1),
        "p99_gap_ms": round(gaps[int(len(gaps) * 0.99)], 1),
        "max_gap_ms": round(gaps[-1], 1),
    }


if __name__ == "__main__":
    main()
