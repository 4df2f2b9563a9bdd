"""Draws figures of a removal: the training loss, KL of the predictions, measures by layer, and a radar of methods."""

import math
from collections.abc import Mapping, Sequence, Set
from typing import Any

import plotly.graph_objects as go

from analysis.evaluation import Curve, Histogram
from analysis.figures.style import HUES, LEGEND, MARGINS, faded

__all__ = ["kl_histogram", "layer_curves", "method_radar", "training_loss"]


def training_loss(steps: Sequence[Mapping[str, Any]]) -> go.Figure:
    """The loss of a gradient edit and its unweighted terms over steps; a second training starts after a gap.

    Args:
        steps: A removal's events of kind `step`: step, loss, terms.
    """
    xs: list[int | None] = []
    rows: list[Mapping[str, Any] | None] = []
    for event in steps:
        if xs and xs[-1] is not None and event["step"] <= xs[-1]:
            xs.append(None)  # a gap
            rows.append(None)
        xs.append(event["step"])
        rows.append(event)
    names = list(dict.fromkeys(name for event in steps for name in event.get("terms", {})))
    figure = go.Figure()
    for i, name in enumerate(["loss", *(names if len(names) > 1 else [])]):
        values = [None if row is None else row["loss"] if i == 0 else row.get("terms", {}).get(name) for row in rows]
        line = {"color": HUES[i % len(HUES)], "width": 3 if i == 0 else 1.5, "dash": "solid" if i == 0 else "dot"}
        figure.add_trace(go.Scatter(x=xs, y=values, name=name, line=line, mode="lines+markers", marker={"size": 4}))
    figure.update_layout(height=280, uirevision="training_loss", **LEGEND)
    figure.update_xaxes(title="training step")
    figure.update_yaxes(title="loss, terms (nats or as defined)")
    return figure


def kl_histogram(histogram: Histogram, marks: Mapping[str, float]) -> go.Figure:
    """KL of single tokens between the unedited and the edited model: share of the tokens in logarithmic bins.

    Args:
        histogram: Counts in bins, nats, from `evaluation.kl`: all but the first are equally wide on a logarithmic scale.
        marks: Name -> KL to draw as a line, such as the median.
    """
    edges, total = histogram.edges, max(sum(histogram.counts), 1)
    logs = [math.log10(edge) if edge > 0 else math.nan for edge in edges]
    width = logs[-1] - logs[-2]
    figure = go.Figure(
        go.Bar(
            # not a logarithmic axis, on which a bar's width has no fixed meaning
            x=[high - width / 2 for high in logs[1:]],
            y=[100 * count / total for count in histogram.counts],
            width=width,
            customdata=[
                [f"{low:.2g} to {high:.2g}" if low > 0 else f"below {high:.2g}", count]
                for low, high, count in zip(edges, edges[1:], histogram.counts)
            ],
            marker={"color": HUES[0], "line": {"width": 0}},
            hovertemplate="%{customdata[0]} nats: %{y:.1f}% (%{customdata[1]:,} tokens)<extra></extra>",
        )
    )
    for i, (name, value) in enumerate(marks.items()):
        if value > 0:
            figure.add_vline(
                x=math.log10(value),
                line={"color": HUES[1], "dash": ("solid", "dot", "dash")[i % 3], "width": 2},
            )
            figure.add_trace(
                go.Scatter(
                    x=[None], y=[None], mode="lines", name=f"{name} {value:.2g}", hoverinfo="skip",
                    line={"color": HUES[1], "dash": ("solid", "dot", "dash")[i % 3], "width": 2},
                )
            )  # fmt: skip
    powers = list(range(math.ceil(logs[1]), math.floor(logs[-1]) + 1, 2))
    figure.data[0].showlegend = False  # type: ignore[attr-defined]
    figure.update_layout(height=320, bargap=0, uirevision="kl", **LEGEND)
    figure.update_xaxes(
        title="KL(before ‖ after) of a token, nats (log)",
        tickvals=powers,
        ticktext=[f"10<sup>{power}</sup>".replace("-", "−") for power in powers],
        zeroline=False,
    )
    figure.update_yaxes(title=f"% of {total:,} tokens")
    return figure


def layer_curves(before: Sequence[Curve], after: Sequence[Curve]) -> go.Figure:
    """Measures by layer after an edit with their 95% bands, and before the edit as dotted lines."""
    figure = go.Figure()
    hues = {name: HUES[i % len(HUES)] for i, name in enumerate(dict.fromkeys(one.name for one in (*after, *before)))}
    for curves, dash in ((after, "solid"), (before, "dot")):
        for one in curves:
            name, hue = one.name.replace("_", " "), hues[one.name]
            layers, values = list(one.layers), list(one.values)
            if dash == "solid":
                band = {"mode": "lines", "line": {"width": 0}, "showlegend": False, "hoverinfo": "skip"}
                figure.add_trace(go.Scatter(x=layers, y=list(one.low), **band))
                figure.add_trace(
                    go.Scatter(x=layers, y=list(one.high), fill="tonexty", fillcolor=faded(hue, 0.15), **band)
                )
            figure.add_trace(
                go.Scatter(
                    x=layers, y=values, mode="lines", name=name if dash == "solid" else f"{name}, before",
                    line={"color": hue, "dash": dash, "width": 2.5 if dash == "solid" else 1.5},
                    hovertemplate="layer %{x}: %{y:.3f}<extra>%{fullData.name}</extra>",
                )
            )  # fmt: skip
    figure.update_layout(height=320, uirevision="layer_curves", **LEGEND)
    figure.update_xaxes(title="layer (−1: the embedding)")
    figure.update_yaxes(title=(after or before)[0].unit, rangemode="tozero")
    return figure


def method_radar(scores: Mapping[str, Mapping[str, float | None]], *, collapsed: Set[str] = frozenset()) -> go.Figure:
    """Methods on axes from 0 (worst) to 1 (best); those that wrecked the model are dashed and not filled.

    An unmeasured axis leaves a gap.

    Args:
        scores: Name of the method -> axis -> score.
        collapsed: Names of methods that wrecked the model.
    """
    figure = go.Figure()
    for i, (name, by_axis) in enumerate(scores.items()):
        hue, wrecked = HUES[i % len(HUES)], name in collapsed
        axes = [*by_axis, *list(by_axis)[:1]]
        figure.add_trace(
            go.Scatterpolar(
                r=[by_axis[axis] for axis in axes],
                theta=axes,
                name=f"{name} (collapsed)" if wrecked else name,
                mode="lines+markers",
                line={"color": hue, "width": 2, "dash": "dash" if wrecked else "solid"},
                marker={"size": 6, "symbol": i % 6},
                fill="none" if wrecked else "toself",
                fillcolor=faded(hue, 0.06),
                hovertemplate="%{theta}: %{r:.3f}<extra>%{fullData.name}</extra>",
            )
        )
    grid = "rgba(128,128,128,0.35)"
    figure.update_layout(
        height=520,
        margin=MARGINS | {"l": 110, "r": 110, "t": 40},
        legend={"orientation": "h", "y": -0.12},
        uirevision="board",
        polar={
            "bgcolor": "rgba(0,0,0,0)",
            "radialaxis": {"range": [0, 1], "tickvals": [0, 0.25, 0.5, 0.75, 1], "gridcolor": grid, "angle": 90},
            "angularaxis": {"gridcolor": grid, "rotation": 90, "direction": "clockwise"},
        },
    )
    return figure
