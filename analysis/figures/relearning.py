"""Draws figures of relearning runs: recovery over steps, change of each layer's mass, priming.

Axes: `L` layer, `K` neuron.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.figures.style import HUES, LEGEND, MARGINS
from analysis.migration import PrimedNeurons, layer_mass
from analysis.relearning import Snapshot

__all__ = ["f1_curve", "layer_shift", "priming_scatter", "recovery"]

_BINS = 64


def recovery(runs: Mapping[str, Sequence[Snapshot]]) -> go.Figure:
    """P(answer) on retrained (solid) and held-out (dashed) facts over training steps, one hue per run."""
    figure = go.Figure()
    for i, (name, snapshots) in enumerate(runs.items()):
        hue = HUES[i % len(HUES)]
        edited = any(snapshot.phase == "edited" for snapshot in snapshots)
        after = [snapshot for snapshot in snapshots if snapshot.phase != "base" or not edited]
        steps = [snapshot.step for snapshot in after]
        for attribute, label, dash in (("retrained", "retrained", "solid"), ("held_out", "held out", "dash")):
            values = [getattr(snapshot, attribute) for snapshot in after]
            line = {"color": hue, "width": 2, "dash": dash}
            figure.add_trace(go.Scatter(x=steps, y=values, name=f"{name}: {label}", line=line))
    figure.update_layout(height=380, margin=MARGINS, legend={"orientation": "h", "y": 1.2}, uirevision="recovery")
    figure.update_xaxes(title="training steps since the edit")
    figure.update_yaxes(title="mean P(answer)", range=[0, 1])
    return figure


def f1_curve(runs: Mapping[str, Sequence[Snapshot]]) -> go.Figure:
    """F1 on held-out (solid) and retrained (dashed) sentences over training steps, one hue per run.

    The dotted line is the first run's F1 before the edit.
    """
    figure = go.Figure()
    for i, (name, snapshots) in enumerate(runs.items()):
        hue = HUES[i % len(HUES)]
        after = [one for one in snapshots if one.phase != "base"] or list(snapshots)
        steps = [one.step for one in after]
        for metric, label, dash in (
            ("f1", "held-out sentences", "solid"),
            ("f1_trained", "retrained sentences", "dash"),
        ):
            values = [one.metrics.get(metric) for one in after]
            line = {"color": hue, "width": 2, "dash": dash}
            figure.add_trace(go.Scatter(x=steps, y=values, name=f"{name}: {label}", line=line, mode="lines+markers"))
        base = [one.metrics.get("f1") for one in snapshots if one.phase == "base"][:1]
        if i == 0 and base and base[0] is not None:
            figure.add_hline(y=base[0], line={"color": hue, "width": 1, "dash": "dot"})
    figure.update_layout(height=320, margin=MARGINS, legend={"orientation": "h", "y": 1.25}, uirevision="f1")
    figure.update_xaxes(title="training steps since the edit", rangemode="tozero")
    figure.update_yaxes(title="F1 of whole words", range=[-0.03, 1.03])
    return figure


def layer_shift(changes: Mapping[str, tuple[np.ndarray, np.ndarray]], unit: str) -> go.Figure:
    """Change of each layer's mass between two snapshots of each run, one hue per run."""
    figure = go.Figure()
    for i, (name, (before_LN, after_LN)) in enumerate(changes.items()):
        change_L = layer_mass(after_LN) - layer_mass(before_LN)
        figure.add_trace(go.Bar(x=np.arange(change_L.size), y=change_L, name=name, marker_color=HUES[i % len(HUES)]))
    figure.update_layout(height=340, margin=MARGINS, barmode="group", legend={"orientation": "h", "y": 1.15})
    figure.update_xaxes(title="layer")
    figure.update_yaxes(title=f"change of layer mass ({unit})")
    return figure


def priming_scatter(runs: Mapping[str, PrimedNeurons], *, recruits: np.ndarray, survivors: np.ndarray) -> go.Figure:
    """Rank before the edit against rank now, one panel per run; the shade shows how many neurons share a place.

    Args:
        runs: Runs by name; recruits and survivors are marked in the first.
        recruits: Flat indices of the first run's recruits.
        survivors: Flat indices of its survivors that gained.
    """
    figure = make_subplots(cols=len(runs), shared_yaxes=True, horizontal_spacing=0.04, subplot_titles=list(runs))
    edges = np.linspace(0, 1, _BINS + 1)
    middles = (edges[1:] + edges[:-1]) / 2
    densities = [np.histogram2d(one.now_K, one.before_K, bins=(edges, edges))[0] for one in runs.values()]
    most = max((np.log10(1 + counts.max()) for counts in densities), default=1.0)
    for column, (one, counts) in enumerate(zip(runs.values(), densities), start=1):
        figure.add_trace(
            go.Heatmap(
                x=middles,
                y=middles,
                z=np.where(counts > 0, np.log10(1 + counts), np.nan),
                customdata=counts,
                zmin=0,
                zmax=most,
                colorscale="Cividis",
                showscale=False,
                hovertemplate="rank before %{x:.2f}, now %{y:.2f}: %{customdata:.0f} neurons<extra></extra>",
            ),
            row=1,
            col=column,
        )
        marked = (("recruits", recruits, HUES[1]), ("survivors that gained", survivors, HUES[5])) if column == 1 else ()
        for name, flat, hue in marked:
            at_K = np.isin(one.neurons.flat, flat)
            marker = {"color": hue, "size": 6, "line": {"color": "white", "width": 0.8}}
            places = [str(neuron) for neuron, chosen in zip(one.neurons, at_K) if chosen] if at_K.any() else []
            figure.add_trace(
                go.Scatter(
                    x=one.before_K[at_K], y=one.now_K[at_K], text=places, mode="markers", name=name, marker=marker
                ),
                row=1,
                col=column,
            )
    figure.update_layout(height=420, **LEGEND, uirevision="priming")
    figure.update_layout(legend={"y": 1.12})
    figure.update_xaxes(title="rank before the edit (1 = the most salient)", range=[0, 1])
    figure.update_yaxes(title="rank now", range=[0, 1], col=1)
    return figure
