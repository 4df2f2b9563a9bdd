"""A line on the page that requests updates from the server, shows them, and reruns its fragment when more has changed.

Drawing a fragment costs the browser 50 ms (docs/benchmarks.md), whatever changed. A line that requests updates itself and
changes only its own text costs next to nothing, however many people watch.
"""

from dataclasses import asdict
from pathlib import Path

from streamlit.components.v2 import component

from ui.app.updates import Update

__all__ = ["live_line"]

_HERE = Path(__file__).parent


def live_line(
    shown: Update, address: str, *, every: float, hold: float = 0.0, small: bool = False, quiet: bool = False, key: str
) -> None:
    """Draw the line inside a fragment, which reruns whenever `Update.version` changes.

    Args:
        shown: The update that the page shows now.
        address: The address to request newer ones from (`ui.app.updates`).
        every: Seconds from an answer to the next request.
        hold: Seconds for which the server may delay its answer while the version stays the same; the answer then updates
            the text.
        small: Draw it like a caption.
        quiet: Show nothing, and only rerun the fragment.
        key: Streamlit key.
    """
    _component(
        key=key,
        data=asdict(shown) | {"address": address, "every": 1000 * every, "hold": hold, "small": small, "quiet": quiet},
        height="content",
        on_version_change=lambda: None,
    )


_component = component(
    "palimpsest_live_line",
    js=(_HERE / "line.js").read_text(encoding="utf-8"),
    css=(_HERE / "line.css").read_text(encoding="utf-8"),
)
