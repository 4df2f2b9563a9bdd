"""Draws comparisons: agreement of results, two concepts unit by unit, and a unit's activations by label.

Axes: `L` layer, `N` unit in a layer.
"""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from analysis.components.sites import site_named
from analysis.figures.style import HUES, LEGEND, MARGINS
from analysis.saliency import METHODS, Saliency
from analysis.saliency.agreement import Agreement
from analysis.saliency.carriers import CARRIER_SHARE, carrier_count

__all__ = ["activation_histogram", "agreement_matrix", "concept_pair", "top_count", "top_units"]

_DIVERGING = [[0, HUES[1]], [0.5, "rgba(128,128,128,0.08)"], [1, HUES[0]]]
_BINS = 60
_NAMED = 6
_LEAST_TOP = 10
"""Least number of top units: one percent of a few hundred attention heads would be only two or three."""


def agreement_matrix(found: Agreement) -> go.Figure:
    """Agreement of every pair of results: Spearman's correlation below the diagonal, overlap of the top units above it."""
    names = list(found.spearman.index)
    n = len(names)
    below, above = np.tri(n, k=-1, dtype=bool), ~np.tri(n, dtype=bool)
    values = np.full((n, n), np.nan)
    values[below] = found.spearman.to_numpy()[below]
    values[above] = found.overlap.to_numpy()[above]
    hovers = [
        [
            f"{names[i]}, {names[j]}<br>Spearman {found.spearman.iloc[i, j]:.3f}"
            f"<br>overlap of the top {found.k:,}: {found.overlap.iloc[i, j]:.1%} "
            f"(chance {found.chance.iloc[i, j]:.2%}, p = {found.p_value.iloc[i, j]:.2g})"
            for j in range(n)
        ]
        for i in range(n)
    ]
    figure = go.Figure(
        go.Heatmap(
            z=values,
            x=names,
            y=names,
            customdata=hovers,
            hovertemplate="%{customdata}<extra></extra>",
            zmin=-1,
            zmax=1,
            colorscale=_DIVERGING,
            xgap=2,
            ygap=2,
            showscale=False,  # every cell has its number, and the two halves have no common unit
        )
    )
    # not the heatmap's own text, whose colour is chosen without knowing the page's background
    for strong in (False, True):
        cells = [(i, j) for i in range(n) for j in range(n) if (abs(values[i, j]) >= 0.5) == strong]
        figure.add_trace(
            go.Scatter(
                x=[names[j] for _, j in cells],
                y=[names[i] for i, _ in cells],
                text=[_cell(values[i, j], i, j) for i, j in cells],
                mode="text",
                textfont={"size": 13, "color": "white"} if strong else {"size": 13},
                hoverinfo="skip",
                showlegend=False,
            )
        )
    figure.update_layout(height=120 + 56 * n, margin=MARGINS | {"l": 150, "b": 90}, uirevision="agreement")
    figure.update_xaxes(title="above the diagonal: overlap of the top", showgrid=False)
    figure.update_yaxes(title="below: Spearman", autorange="reversed", showgrid=False)
    return figure


def concept_pair(
    first: Saliency, second: Saliency, *, titles: Sequence[str], scale: str = "rank", top_share: float = CARRIER_SHARE
) -> go.Figure:
    """Two concepts against each other: units in the top of either as points, all others as a density.

    On the rank scale the axes are places (1 = most salient) on a logarithmic scale, so that the top is not squeezed into
    a corner; otherwise they are scores. A point's custom data is the unit's name and its two places.

    Args:
        first: Drawn along x.
        second: Drawn along y; the same method and site.
        titles: Names of the two concepts.
        scale: "rank" or "score".
        top_share: Share of all units that counts as the top, but at least ten units (`top_count`).
    """
    site = site_named(first.site)
    n = first.scores_LN.size
    k = top_count(n, top_share)
    tops = top_units(first, second, k)
    places = [result.ranks_LN.ravel() + 1 for result in (first, second)]
    ranked = scale == "rank"
    x, y = (np.log10(place) for place in places) if ranked else (r.scores_LN.ravel() for r in (first, second))
    mass = ~(tops[0] | tops[1] | tops[2])  # units drawn as points are not counted again
    counts, x_edges, y_edges = np.histogram2d(x[mass], y[mass], bins=_BINS)
    figure = go.Figure(
        go.Heatmap(
            x=(x_edges[1:] + x_edges[:-1]) / 2,
            y=(y_edges[1:] + y_edges[:-1]) / 2,
            z=np.where(counts.T > 0, np.log10(np.maximum(counts.T, 1)), np.nan),
            customdata=counts.T,
            colorscale=[[0, "rgba(128,128,128,0.10)"], [1, "rgba(128,128,128,0.85)"]],
            showscale=False,
            hovertemplate=f"%{{customdata:,}} {site.plural}<extra></extra>",
        )
    )
    names = (f"top of {titles[0]} only", f"top of {titles[1]} only", "top of both")
    for name, mask, hue, symbol in zip(names, tops, (HUES[0], HUES[1], HUES[2]), ("circle", "square", "diamond")):
        flat = np.flatnonzero(mask)
        labels = [site.label(*divmod(int(i), first.scores_LN.shape[1])) for i in flat]
        figure.add_trace(
            go.Scatter(
                x=x[flat],
                y=y[flat],
                mode="markers",
                name=f"{name} ({len(flat):,})",
                marker={"size": 9 if symbol == "diamond" else 6, "color": hue, "symbol": symbol, "opacity": 0.8},
                selected={"marker": {"opacity": 0.8}},
                unselected={"marker": {"opacity": 0.8}},
                customdata=[[label, int(places[0][i]), int(places[1][i])] for label, i in zip(labels, flat)],
                hovertemplate="%{customdata[0]}<br>place %{customdata[1]:,} and %{customdata[2]:,}<extra></extra>",
            )
        )
    strongest = np.flatnonzero(tops[2])
    strongest = strongest[np.argsort(places[0][strongest] * places[1][strongest], kind="stable")[:_NAMED]]
    figure.add_trace(
        go.Scatter(
            x=x[strongest],
            y=y[strongest],
            mode="text",
            # hard spaces keep the name off its mark
            text=[f"{site.label(*divmod(int(i), first.scores_LN.shape[1]))}\u00a0\u00a0" for i in strongest],
            textposition="middle left",
            textfont={"size": 11},
            hoverinfo="skip",
            showlegend=False,
        )
    )
    figure.update_layout(height=590, dragmode="zoom", uirevision=f"pair {scale}", **LEGEND)
    for update, title, values in ((figure.update_xaxes, titles[0], x), (figure.update_yaxes, titles[1], y)):
        if ranked:
            powers = np.arange(int(np.log10(n)) + 1)
            update(
                title=f"{title}: place (1 = most salient, log scale)",
                tickvals=powers,
                ticktext=[f"{10 ** int(power):,}" for power in powers],
                range=[float(values.max()) + 0.1, -0.15],
                zeroline=False,
            )
        else:
            update(title=f"{title}: {METHODS[first.method].short_unit}", zeroline=False)
    return figure


def top_count(n: int, share: float = CARRIER_SHARE) -> int:
    """Number of top units among `n`: the share, but at least ten, and at most all."""
    return min(max(carrier_count(n, share), _LEAST_TOP), n)


def top_units(first: Saliency, second: Saliency, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Flat masks of the units in the top `k` of the first only, of the second only, and of both.

    A unit with score 0 is in no top, even if fewer than `k` units have a score above 0.
    """
    one, other = ((r.ranks_LN.ravel() < k) & (r.scores_LN.ravel() > 0) for r in (first, second))
    return one & ~other, other & ~one, one & other


def activation_histogram(own: np.ndarray, other: np.ndarray, title: str) -> go.Figure:
    """Histogram of a unit's activations on the concept's tokens and on others: share of each group's tokens, log scale."""
    figure = go.Figure()
    low, high = float(min(own.min(), other.min())), float(max(own.max(), other.max()))
    edges = np.linspace(low, high if high > low else low + 1, _BINS + 1)
    for name, values, hue in (("other words", other, HUES[4]), (title, own, HUES[0])):
        counts, _ = np.histogram(values, edges)
        figure.add_trace(
            go.Bar(
                x=(edges[1:] + edges[:-1]) / 2,
                y=100 * counts / len(values),
                width=edges[1] - edges[0],
                customdata=counts,
                name=f"{name} (n = {len(values):,})",
                marker={"color": hue, "line": {"width": 0}},
                opacity=0.6,
                hovertemplate="%{x:.3g}: %{y:.2f}% (%{customdata} tokens)<extra></extra>",
            )
        )
    figure.update_layout(height=290, barmode="overlay", bargap=0, **LEGEND)
    figure.update_xaxes(title="activation")
    figure.update_yaxes(title="% of the tokens (log)", type="log", dtick=1, tickformat="~g")
    return figure


def _cell(value: float, i: int, j: int) -> str:
    if i == j:
        return ""
    if np.isnan(value):
        return "–"
    return f"{value:.2f}" if i > j else f"{value:.0%}"
