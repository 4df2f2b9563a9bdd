"""A line of the page that keeps itself up to date, and tells the page when there is more to draw than this line.

Drawing a part of the page costs the browser 50 ms (docs/benchmarks.md), whatever changed. A line that asks the server by
itself and changes its own text costs next to nothing, however many people watch.
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
    """Draw the line, inside a fragment: that is what runs again when `News.what` is another.

    Args:
        shown: What the page shows now.
        address: Where to ask for what is new (`news`).
        every: Seconds from an answer to the next question.
        hold: Seconds for which the answer is held back while there is nothing to draw; then it brings the text up to date.
        small: As a caption.
        quiet: Show nothing, and only tell the page.
        key: Streamlit key.
    """
    _component(
        key=key,
        data=asdict(shown) | {"address": address, "every": 1000 * every, "hold": hold, "small": small, "quiet": quiet},
        height="content",
        on_news_change=lambda: None,
    )


_component = component(
    "palimpsest_live_line",
    js=(_HERE / "line.js").read_text(encoding="utf-8"),
    css=(_HERE / "line.css").read_text(encoding="utf-8"),
)
