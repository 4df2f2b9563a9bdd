"""Draws the saliency map of layers and units, and finds the units inside a box or a lasso on it.

Axes: `L` layer, `N` unit in a layer.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from analysis.components.neurons import NeuronSet
from analysis.components.sites import MLP, Site
from analysis.figures.style import HUES, MARGINS

__all__ = ["MOST_MARKED", "box_neurons", "lasso_neurons", "saliency_map"]

MOST_MARKED = 5000
"""Most selected units that get a mark on the map."""
_EDGE = {"color": HUES[1], "width": 2.5}


def saliency_map(
    values_LN: np.ndarray, unit: str, *, selected: NeuronSet | None = None, site: Site = MLP, drawing: bool = False
) -> go.Figure:
    """Draw layers as rows and units as columns; bright = strong, up to the 99th percentile. `selected` units are marked.

    Args:
        values_LN: The values to draw.
        unit: Unit of the values.
        selected: Units to mark. Only the strongest `MOST_MARKED` are marked, so that the figure stays fast. A mark's
            custom data is the unit's name.
        site: Site of the units in the columns.
        drawing: If True, dragging draws a selection box, and the selected units are outlined as an area. If False,
            dragging zooms, and every selected unit has a mark that can be clicked (Streamlit reports clicks only where
            dragging does not select).
    """
    n_layers, n_units = values_LN.shape
    figure = go.Figure(
        go.Heatmap(
            z=values_LN.astype(np.float32),
            zmin=0,
            zmax=float(np.nanquantile(values_LN, 0.99)) or 1.0,
            colorscale="Cividis",
            colorbar={"title": {"text": unit, "side": "right"}, "thickness": 12},
            hovertemplate=f"L%{{y}}.{site.letter}%{{x}}<br>%{{z:.4g}}<extra></extra>",
        )
    )
    flat = np.zeros(0, dtype=np.int64) if selected is None else selected.flat
    if drawing:
        figure.add_trace(_outline(flat, (n_layers, n_units)))
        marked = flat[:0]
    else:
        marked = flat[np.argsort(-np.nan_to_num(values_LN.ravel()[flat], nan=-np.inf), kind="stable")[:MOST_MARKED]]
    layers, indices = np.divmod(marked, n_units)
    figure.add_trace(
        go.Scattergl(
            x=indices,
            y=layers,
            mode="markers",
            marker={"symbol": "square-open", "size": 7, "color": HUES[1], "line": {"width": 1.5}},
            selected={"marker": {"opacity": 1}},
            unselected={"marker": {"opacity": 1}},  # a click must not fade the others
            customdata=[[site.label(layer, index)] for layer, index in zip(layers.tolist(), indices.tolist())],
            name="selected",
            text=values_LN.ravel()[marked],
            hovertemplate="%{customdata[0]}<br>%{text:.4g}<extra></extra>",
        )
    )
    figure.update_layout(
        height=520,
        margin=MARGINS,
        dragmode="select" if drawing else "zoom",
        selectdirection="any",
        showlegend=False,
        uirevision="map",
    )
    figure.update_xaxes(title=f"{site.unit}", range=[-0.5, n_units - 0.5], showgrid=False, zeroline=False)
    figure.update_yaxes(title="layer", range=[-0.5, n_layers - 0.5], showgrid=False, zeroline=False)
    return figure


def _outline(flat: np.ndarray, shape: tuple[int, int]) -> go.Scattergl:
    """The border of the selected area: every edge between a cell inside and one outside."""
    inside = np.zeros((shape[0] + 2, shape[1] + 2), dtype=bool)  # a frame of cells outside closes the border
    layers, indices = np.divmod(flat, shape[1])
    inside[layers + 1, indices + 1] = True
    beside, above = np.nonzero(inside[:, 1:] != inside[:, :-1]), np.nonzero(inside[1:] != inside[:-1])
    gap = np.full(len(beside[0]) + len(above[0]), np.nan)
    x = np.stack([np.append(beside[1], above[1] - 1) - 0.5, np.append(beside[1], above[1]) - 0.5, gap], axis=1)
    y = np.stack([np.append(beside[0] - 1, above[0]) - 0.5, np.append(beside[0], above[0]) - 0.5, gap], axis=1)
    return go.Scattergl(x=x.ravel(), y=y.ravel(), mode="lines", line=_EDGE, hoverinfo="skip", name="drawn")


def box_neurons(boxes: Sequence[Mapping[str, Sequence[float]]], shape: tuple[int, int]) -> NeuronSet:
    """Return the units inside box selections on `saliency_map`; edges may be in any order and outside the map."""
    mask = np.zeros(shape, dtype=bool)
    for box in boxes:
        x0, x1 = sorted(box["x"][:2])
        y0, y1 = sorted(box["y"][:2])
        columns = slice(max(int(np.ceil(x0)), 0), max(int(np.floor(x1)) + 1, 0))
        rows = slice(max(int(np.ceil(y0)), 0), max(int(np.floor(y1)) + 1, 0))
        mask[rows, columns] = True
    return NeuronSet.from_mask(mask)


def lasso_neurons(lassos: Sequence[Mapping[str, Sequence[float]]], shape: tuple[int, int]) -> NeuronSet:
    """Return the units whose cell centres lie inside lasso selections on `saliency_map` (even-odd rule).

    The outline is closed by joining its ends; an outline of fewer than three corners encloses nothing.
    """
    mask = np.zeros(shape, dtype=bool)
    rows_L = np.arange(shape[0], dtype=np.float64)[:, None]
    columns_N = np.arange(shape[1], dtype=np.float64)[None, :]
    for lasso in lassos:
        x, y = np.asarray(lasso["x"], dtype=np.float64), np.asarray(lasso["y"], dtype=np.float64)
        inside = np.zeros(shape, dtype=bool)
        for x0, y0, x1, y1 in zip(x, y, np.roll(x, -1), np.roll(y, -1)):
            if y0 == y1:
                continue
            crosses_L = (rows_L < y0) != (rows_L < y1)
            at_L = x0 + (rows_L - y0) * (x1 - x0) / (y1 - y0)
            inside ^= crosses_L & (columns_N < at_L)
        mask |= inside
    return NeuronSet.from_mask(mask)
