"""Draws figures by layer: the distribution of scores, each layer's share of the top units, and a probe's accuracy.

Axes: `L` layer, `N` unit in a layer.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from analysis.figures.style import HUES, LEGEND, faded
from analysis.saliency.by_layer import LayerFigures, layer_means, layer_shares

__all__ = ["layer_mean_curve", "layer_profile", "layer_share_curve", "probe_skill"]


def layer_profile(series: Mapping[str, np.ndarray], unit: str) -> go.Figure:
    """Median, quartiles and 99th percentile of each layer's scores for one or more concepts."""
    figure = go.Figure()
    for i, (name, scores_LN) in enumerate(series.items()):
        layers = np.arange(scores_LN.shape[0])
        low, median, high, top = np.nanquantile(scores_LN, [0.25, 0.5, 0.75, 0.99], axis=1)
        hue = HUES[i % len(HUES)]
        figure.add_trace(_band(layers, low, high, hue))
        figure.add_trace(go.Scatter(x=layers, y=median, name=f"{name}: median", line={"color": hue, "width": 2}))
        dashed = {"color": hue, "width": 1.5, "dash": "dot"}
        figure.add_trace(go.Scatter(x=layers, y=top, name=f"{name}: 99th percentile", line=dashed))
    return _by_layer(figure, unit, _n_layers(series))


def layer_mean_curve(series: Mapping[str, np.ndarray], unit: str) -> go.Figure:
    """Mean score of each layer with its 95% interval over units, for one or more concepts (scores [L, N])."""
    figure = go.Figure()
    for i, (name, scores_LN) in enumerate(series.items()):
        _add_curve(figure, name, layer_means(scores_LN), HUES[i % len(HUES)], ".4g")
    return _by_layer(figure, f"mean score ({unit})", _n_layers(series))


def layer_share_curve(series: Mapping[str, np.ndarray], threshold: float) -> go.Figure:
    """Share in each layer of the units above a rank saliency, with 95% intervals (rank saliency [L, N]).

    The dotted line is the share of each layer if all were equal.
    """
    figure = go.Figure()
    for i, (name, ranks_LN) in enumerate(series.items()):
        figures = layer_shares(ranks_LN, threshold)
        percent = LayerFigures(
            values_L=100 * figures.values_L,
            low_L=100 * figures.low_L,
            high_L=100 * figures.high_L,
            n_L=figures.n_L,
        )
        _add_curve(figure, name, percent, HUES[i % len(HUES)], ".2f")
    figure.add_hline(y=100 / _n_layers(series), line={"dash": "dot", "width": 1, "color": "gray"})
    return _by_layer(figure, f"% of units with s > {threshold:g}", _n_layers(series))


def probe_skill(layers: Mapping[str, Sequence[float] | np.ndarray], majority: float | None = None) -> go.Figure:
    """Held-out accuracy of a probe, of its control task, and selectivity (their difference), by layer.

    `majority` is the accuracy of always predicting the more frequent label, drawn as a dotted line.
    """
    figure = go.Figure()
    named = (
        ("held_out_accuracy", "held out", 0),
        ("control_accuracy", "control task", 4),
        ("selectivity", "selectivity", 2),
    )
    for key, name, hue in named:
        values = np.asarray(layers[key])
        line = {"color": HUES[hue], "width": 2, "dash": "dash" if key == "selectivity" else "solid"}
        figure.add_trace(go.Scatter(x=np.arange(len(values)), y=values, name=name, line=line))
    if majority is not None:
        figure.add_hline(y=majority, line={"dash": "dot", "width": 1, "color": "gray"})
    figure = _by_layer(figure, "accuracy, share of tokens", len(layers["held_out_accuracy"]))
    figure.update_layout(height=310)
    return figure


def _add_curve(figure: go.Figure, name: str, figures: LayerFigures, hue: str, form: str) -> None:
    layers = np.arange(len(figures.values_L))
    figure.add_trace(_band(layers, figures.low_L, figures.high_L, hue))
    figure.add_trace(
        go.Scatter(
            x=layers,
            y=figures.values_L,
            name=name,
            mode="lines+markers",
            marker={"size": 5},
            line={"color": hue, "width": 2},
            customdata=np.stack([figures.low_L, figures.high_L, figures.n_L], axis=1),
            hovertemplate=(
                f"layer %{{x}}: %{{y:{form}}} (95%: %{{customdata[0]:{form}}} to %{{customdata[1]:{form}}}, "
                "n = %{customdata[2]})"
            ),
        )
    )


def _band(layers: np.ndarray, low: np.ndarray, high: np.ndarray, hue: str) -> go.Scatter:
    return go.Scatter(
        x=[*layers, *layers[::-1]],
        y=[*high, *low[::-1]],
        fill="toself",
        fillcolor=faded(hue),
        line={"width": 0},
        hoverinfo="skip",
        showlegend=False,
    )


def _by_layer(figure: go.Figure, unit: str, n_layers: int) -> go.Figure:
    figure.update_layout(height=370, uirevision="layers", **LEGEND)
    figure.update_xaxes(title="layer", range=[-0.5, n_layers - 0.5], zeroline=False)
    figure.update_yaxes(title=unit, rangemode="tozero")
    return figure


def _n_layers(series: Mapping[str, np.ndarray]) -> int:
    return len(next(iter(series.values())))
