"""The canvas's scripts and styles, as one module and one style sheet."""

from pathlib import Path

__all__ = ["MODULE", "STYLES"]

_HERE = Path(__file__).parent
_SCRIPTS = (
    "frames.js",
    "held.js",
    "palette.js",
    "layout.js",
    "raster.js",
    "map.js",
    "marks.js",
    "strokes.js",
    "flow.js",
    "timeline.js",
    "lanes.js",
    "chrome.js",
    "story.js",
    "card.js",
    "tooltip.js",
    "export.js",
    "player.js",
    "input.js",
    "canvas.js",
)
"""Concatenated in this order into the one module that an inline component may have."""
MODULE = "\n".join((_HERE / "js" / name).read_text(encoding="utf-8") for name in _SCRIPTS)
STYLES = (_HERE / "canvas.css").read_text(encoding="utf-8")
