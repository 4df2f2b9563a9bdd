"""Defines the style of all figures: colours for colour blindness (Okabe-Ito), margins, and the legend's place."""

__all__ = ["HUES", "LEGEND", "MARGINS", "faded"]

HUES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARGINS = {"l": 60, "r": 20, "t": 34, "b": 50}
LEGEND = {
    "margin": MARGINS | {"t": 64},
    "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.0, "yanchor": "bottom"},
}
"""Layout of a figure with a legend: in a row of its own, below the toolbar that a browser draws over the top margin."""


def faded(hue: str, opacity: float = 0.18) -> str:
    """A `#rrggbb` hue as a translucent CSS colour, for bands."""
    red, green, blue = (int(hue[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"
