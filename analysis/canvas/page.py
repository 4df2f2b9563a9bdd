"""The canvas of one run as one HTML page: no server, no network; opens from disk and inside a notebook.

Everything the live view would send over time is sent in one message, in base64, which the canvas's own scripts read.
"""

import base64
import html
import tempfile
from pathlib import Path

import numpy as np

from analysis import paths
from analysis.canvas import control_data, run_data
from analysis.canvas.assets import MODULE, STYLES
from analysis.canvas.run_cache import View
from analysis.canvas.wire import pack
from analysis.checks import checked
from analysis.errors import RunError
from analysis.runs import RunDirectory
from analysis.runs.memory import MemoryRun
from analysis.runs.record import RunRecord

__all__ = ["CanvasPage", "canvas_page"]

_FRAME_HEIGHT = 900
"""Pixels of the frame in a notebook: the map of a 30-layer model with its curves."""
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>@TITLE@</title>
<style>
:root {
  color-scheme: light dark;
  --st-font: "Source Sans", "Source Sans Pro", system-ui, sans-serif;
  --st-background-color: #ffffff; --st-text-color: #31333f; --st-primary-color: #0072b2;
}
@media (prefers-color-scheme: dark) {
  :root { --st-background-color: #0e1117; --st-text-color: #fafafa; --st-primary-color: #2a86c4; }
}
body { margin: 0; padding: 16px; background: var(--st-background-color); color: var(--st-text-color); }
@STYLES@
</style>
</head>
<body>
<main id="canvas"></main>
<script type="text/plain" id="message">@MESSAGE@</script>
<script type="module">
@MODULE@
const text = document.getElementById("message").textContent;
const data = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const ignored = () => {};
drawCanvas({
  data, parentElement: document.getElementById("canvas"), setStateValue: ignored, setTriggerValue: ignored,
});
</script>
</body>
</html>
"""


class CanvasPage:
    """An HTML page that can be shown in a notebook or saved."""

    def __init__(self, title: str, page: str):
        self.title = title
        self.page = page
        """The whole HTML document."""

    @checked
    def save(self, path: str | Path) -> Path:
        """Write the page to one file, which any browser opens.

        Raises:
            RunError: the file cannot be written.
        """
        path = paths.expanded(path)
        try:
            paths.write_atomically(path, self.page.encode())
        except OSError as error:
            raise RunError(f"{path} cannot be written ({error.strerror}). Name another file.") from error
        return path

    def __repr__(self) -> str:
        return f"CanvasPage({self.title}; {len(self.page) / 2**20:.1f} MiB, .save(path) writes it)"

    def _repr_html_(self) -> str:
        style = f"width:100%;height:{_FRAME_HEIGHT}px;border:0"
        return f'<iframe srcdoc="{html.escape(self.page)}" style="{style}" title="{html.escape(self.title)}"></iframe>'


def canvas_page(run: RunRecord, view: View | None = None) -> CanvasPage:
    """Make the page that plays a run on the canvas.

    Args:
        run: The run, with at least two snapshots; its control, if any, is drawn behind it.
        view: What is shown; default: the change of the run's concept since the edit, in standard deviations.

    Raises:
        RunError: the run has too few snapshots, or its scores are not finite.
    """
    if isinstance(run, MemoryRun):
        with tempfile.TemporaryDirectory() as folder:
            return canvas_page(run.save(Path(folder) / "run"), view)
    if not isinstance(run, RunDirectory):
        raise RunError("Only runs in a folder or in memory can be drawn.")
    view = view or View(concepts=(run.config.concept,))
    facts, count = run.facts(), run.n_snapshots()
    if facts is None or count < 2:
        raise RunError("The run has no snapshot after the edit yet, so there is nothing to draw.")
    if not all(np.isfinite(scores).all() for scores in run.snapshot(0).saliency[run.config.concept].values()):
        raise RunError("The scores of the unedited model are not finite, so there is no scale to draw them on.")
    reference = run_data.reference_index(run, view, count)
    frames = run_data.frames(run, view, facts, 0, count)
    message = pack(
        run_data.scene(run, view, facts, count),
        frames,
        control=control_data.curves(run, view),
        live=False,
        status=run.status().state,
        half_steps=run_data.half_steps(frames),
        values={index: run_data.values(run, view, index, count) for index in range(count)},
        net=control_data.net_flows(run, view, reference, 0, count, 0),
    )
    title = f"{run.config.describe()} · {run.config.model} · seed {run.config.seed}"
    module = MODULE.replace("export default ", "const drawCanvas = ", 1) if MODULE.count("export default ") == 1 else ""
    if not module or "</script" in module:
        raise RunError("The canvas's scripts do not fit into a page. Please report this.")
    parts = {
        "@TITLE@": html.escape(title),
        "@STYLES@": STYLES,
        "@MESSAGE@": base64.b64encode(message).decode(),
        "@MODULE@": module,
    }
    page = _PAGE
    for mark, text in parts.items():
        page = page.replace(mark, text, 1)
    return CanvasPage(title, page)
