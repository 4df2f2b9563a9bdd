"""A long live run in the migration canvas: memory of browser and server, remounts, and how soon a snapshot is on screen.

    python benchmarks/canvas_live.py [--layers 32 --neurons 14336 --snapshots 500 --every 0.6] [--json]

A made-up run writes a snapshot every so many seconds; the browser follows it as it follows a real one. Heap sizes are
taken after a garbage collection, at each tenth of the run.
"""

import argparse
import json
import time
from pathlib import Path

from canvas_frames import launched, served
from playwright.sync_api import Page, sync_playwright


def main() -> None:
    """Print memory at each tenth, delays, and the number of mounts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--neurons", type=int, default=14336)
    parser.add_argument("--concepts", type=int, default=1)
    parser.add_argument("--snapshots", type=int, default=500)
    parser.add_argument("--every", type=float, default=0.6)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with served() as url, sync_playwright() as playwright:
        browser = launched(playwright, "--js-flags=--expose-gc", "--enable-precise-memory-info")
        row = _follow(browser.new_page(viewport={"width": 1400, "height": 1100}), url, options)
        browser.close()
    print(json.dumps(row) if options.json else "\n".join(f"{key}: {value}" for key, value in row.items()))


def _follow(page: Page, url: str, options: argparse.Namespace) -> dict:
    size = f"layers={options.layers}&neurons={options.neurons}&concepts={options.concepts}"
    page.goto(f"{url}/?{size}&frames={options.snapshots}&every={options.every}")
    canvas = page.locator("[data-frames]").first
    canvas.wait_for(timeout=60_000)
    first_seen, heap, seen = {}, [], 0
    began = None
    while seen < options.snapshots:
        seen = int(canvas.get_attribute("data-frames") or 0)
        now = time.time()
        if seen and began is None:
            began = now - (seen - 1) * options.every  # snapshot 1 is there from the start
        first_seen.setdefault(seen, now)
        if seen >= len(heap) * options.snapshots / 10 + 1:
            mounts = int(canvas.get_attribute("data-mounts") or 0)
            memory = {"browser_mib": _browser_mib(page), "server_mib": _server_mib(url)}
            heap.append({"snapshots": seen, "mounts": mounts, **memory})
        page.wait_for_timeout(50)
    assert began is not None
    # relative to the quickest one: when the app began to count is not known from here
    late = sorted(at - (began + (index - 1) * options.every) for index, at in first_seen.items() if index > 2)
    late = [one - late[0] for one in late]
    return {
        "snapshots": seen,
        "minutes": round((max(first_seen.values()) - began) / 60, 1),
        "mounts": int(canvas.get_attribute("data-mounts") or 0),
        "held_at_end": int(canvas.get_attribute("data-held") or 0),
        "delay_median_s": round(late[len(late) // 2], 2),
        "delay_p95_s": round(late[int(len(late) * 0.95)], 2),
        "memory": heap,
    }


def _browser_mib(page: Page) -> float:
    """JavaScript heap and buffers after a collection."""
    return round(page.evaluate("() => { gc(); return performance.memory.usedJSHeapSize; }") / 2**20, 1)


def _server_mib(url: str) -> float:
    """Resident memory of the process that listens on this port."""
    port = f"{int(url.rsplit(':', 1)[1]):04X}"
    inodes = {line.split()[9] for line in Path("/proc/net/tcp").read_text().splitlines()[1:] if f":{port} 0" in line}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            links = {str(link.readlink()) for link in (process / "fd").iterdir()}
            if links & {f"socket:[{inode}]" for inode in inodes}:
                status = (process / "status").read_text()
                return round(int(status.split("VmRSS:")[1].split()[0]) / 1024, 1)
        except OSError:
            continue
    return float("nan")


if __name__ == "__main__":
    main()
