"""Draws circuits: the effect of every component, the circuit's outline, overlap of circuits, and a probe's accuracy.

The maps have a transparent background (weak effects are nearly transparent), so they suit light and dark pages.

Axes: `L` layer, `H` attention head, `R` depth row (row 0 the embedding, row l + 1 the residual stream after layer l).
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.components.circuit import Circuit, Component, EffectMap, Shape
from analysis.figures.style import HUES, LEGEND, MARGINS, faded
from analysis.localization.probing import ProbeCurve

__all__ = ["circuit_map", "circuit_overlap", "probe_accuracy", "short_unit"]

_MLP_GAP, _MLP_WIDTH = 0.5, 2.0
"""Widths of the gap and of the MLP's column, in head columns."""
_GROUND = "rgba(128,128,128,0.14)"
_STRENGTHS = ((0.0, 1.0), (0.3, 0.72), (0.45, 0.36))
"""(Place in the lower half of the colour scale, opacity there): weak effects stay visible beside one strong one."""
_DIVERGING = (
    *((place, faded(HUES[1], opacity)) for place, opacity in _STRENGTHS),
    (0.5, _GROUND),
    *((1 - place, faded(HUES[0], opacity)) for place, opacity in reversed(_STRENGTHS)),
)
_LOOKUP = HUES[2]


def circuit_map(circuit: Circuit, effects: EffectMap | None = None, *, lookup: Sequence[int] = ()) -> go.Figure:
    """Draw layers as rows, attention heads and the MLP as columns; components of `circuit` are outlined.

    A cell has the colour of its effect: blue supports the answer, orange works against it, grey is no effect; empty = not
    measured. Colours end at the 98th percentile. Single neurons are dots in the MLP's column, from neuron 0 at its left
    to the last at its right. Without `effects` the circuit's own effects are shown, if it has any.

    Args:
        circuit: The circuit to outline; it has the model's shape.
        effects: The measured effects; None for methods that only choose components.
        lookup: Layers to bracket at the side: those over which a probe's accuracy rises.
    """
    n_layers, n_heads = circuit.shape.n_layers, circuit.shape.n_heads
    values = _grid(circuit, effects)
    is_measured = effects is not None or bool(circuit.effects)
    unit = short_unit(circuit.unit if effects is None else effects.unit)
    full = _full_colour(values) if is_measured else 1.0
    heatmap = go.Heatmap(
        z=values,
        x=_edges(n_heads),
        y=np.arange(n_layers + 1) - 0.5,
        zmin=-full,
        zmax=full,
        colorscale=_DIVERGING,
        showscale=is_measured,
        colorbar={"title": {"text": f"effect ({unit})", "side": "right"}, "thickness": 12},
        xgap=1,
        ygap=1,
        hoverongaps=False,
        text=_hovers(values, circuit, unit),
        hovertemplate="%{text}<extra></extra>",
    )
    figure = go.Figure(heatmap)
    _outline(figure, circuit)
    _dots(figure, circuit, unit)
    if lookup:
        _bracket(figure, circuit.shape, lookup)
    edges = _edges(n_heads)
    heads = range(0, n_heads, max(n_heads // 12, 1))
    figure.update_layout(
        height=int(np.clip(19 * n_layers + 90, 300, 900)),
        margin=MARGINS,
        showlegend=False,
        dragmode=False,
        plot_bgcolor="rgba(0,0,0,0)",
        uirevision="circuit",
    )
    figure.update_xaxes(
        title="attention heads and MLP of each layer",
        tickvals=[*heads, edges[-2:].mean()],
        ticktext=[*(f"H{head}" for head in heads), "MLP"],
        range=[-0.7, edges[-1] + (1.2 if lookup else 0.2)],
        showgrid=False,
        zeroline=False,
    )
    figure.update_yaxes(
        title="layer",
        range=[-0.7, n_layers - 0.3],
        dtick=max(round(n_layers / 15), 1),
        tick0=0,
        showgrid=False,
        zeroline=False,
    )
    return figure


def probe_accuracy(curve: ProbeCurve, layers: Sequence[int] = ()) -> go.Figure:
    """Held-out accuracy by depth with its 95% interval, the control with shuffled answers, and chance.

    `layers`, those that the lookup rule selects, are shaded. Layer -1 is the embedding.
    """
    x_R = np.arange(len(curve.accuracy_R)) - 1
    figure = go.Figure()
    for first, last in _stretches(layers):
        figure.add_vrect(x0=first - 0.5, x1=last + 0.5, fillcolor=_LOOKUP, opacity=0.16, line_width=0, layer="below")
    figure.add_trace(
        go.Scatter(
            x=[*x_R, *x_R[::-1]],
            y=[*curve.high_R, *curve.low_R[::-1]],
            fill="toself",
            fillcolor=faded(HUES[0]),
            line={"width": 0},
            hoverinfo="skip",
            name="95% interval",
        )
    )
    chance_R = np.full(len(x_R), curve.chance)
    for name, values_R, hue, dash, width in (
        ("accuracy", curve.accuracy_R, HUES[0], "solid", 2.5),
        ("answers shuffled", curve.control_R, HUES[1], "dash", 1.5),
        ("chance", chance_R, "#808080", "dot", 1.5),
    ):
        line = {"color": hue, "dash": dash, "width": width}
        said = f"layer %{{x}}: %{{y:.2f}}<extra>{name}</extra>"
        figure.add_trace(go.Scatter(x=x_R, y=values_R, name=name, mode="lines", line=line, hovertemplate=said))
    figure.update_layout(height=370, uirevision="probe", **LEGEND)
    figure.update_xaxes(title="layer (-1: embedding)", range=[-1.5, x_R[-1] + 0.5], showgrid=False)
    figure.update_yaxes(title=f"accuracy (share of {curve.n_subjects} held-out subjects)", range=[-0.03, 1.03])
    return figure


def circuit_overlap(pairs: pd.DataFrame, *, column: str = "components") -> go.Figure:
    """Jaccard index of every two circuits, from `localization.overlap_table`; hovering shows the value expected by chance.

    Args:
        pairs: One row per pair: a, b, components, mlp_layers, mlp_layers_by_chance.
        column: The index to draw: “components” or “mlp_layers”.
    """
    names = list(dict.fromkeys([*pairs["a"], *pairs["b"]]))
    shared = pd.DataFrame(np.nan, index=names, columns=names)
    hover = pd.DataFrame("", index=names, columns=names)
    for row in pairs.to_dict("records"):
        said = f"{row['a']}<br>{row['b']}<br>components: {row['components']:.2f}<br>MLP layers: {row['mlp_layers']:.2f}"
        if np.isfinite(row["mlp_layers_by_chance"]):
            said += f" (by chance {row['mlp_layers_by_chance']:.2f})"
        for one, other in ((row["a"], row["b"]), (row["b"], row["a"])):
            shared.loc[one, other] = row[column]
            hover.loc[one, other] = said
    cells = go.Heatmap(
        z=shared.to_numpy(),
        x=names,
        y=names,
        zmin=0,
        zmax=1,
        colorscale=((0.0, _GROUND), (1.0, faded(HUES[0], 0.8))),
        colorbar={"title": {"text": "Jaccard index", "side": "right"}, "thickness": 12},
        text=hover.to_numpy(),
        hovertemplate="%{text}<extra></extra>",
        hoverongaps=False,
        xgap=2,
        ygap=2,
    )
    # as a separate trace, numbers have the colour of the page's text
    numbers = shared.stack().dropna()
    x, y = numbers.index.get_level_values(1), numbers.index.get_level_values(0)
    figure = go.Figure([cells, go.Scatter(x=x, y=y, text=[f"{n:.2f}" for n in numbers], mode="text", hoverinfo="skip")])
    figure.update_layout(
        height=int(np.clip(44 * len(names) + 150, 240, 700)),
        margin={**MARGINS, "l": 20, "b": 20},
        plot_bgcolor="rgba(0,0,0,0)",
    )
    figure.update_xaxes(showgrid=False, automargin=True, tickangle=30)
    figure.update_yaxes(showgrid=False, automargin=True, autorange="reversed")
    return figure


def short_unit(unit: str) -> str:
    """The unit without its explanation: `nats` of `nats: log P(answer), …`."""
    return unit.split(":")[0].split("(")[0].strip()


def _grid(circuit: Circuit, effects: EffectMap | None) -> np.ndarray:
    """The effect shown in each cell, [L, H + 2]."""
    n_layers, n_heads = circuit.shape.n_layers, circuit.shape.n_heads
    if effects is not None:
        heads_LH, mlps_L = effects.heads_LH, effects.mlps_L
    else:
        heads_LH, mlps_L = np.zeros((n_layers, n_heads)), np.zeros(n_layers)
        for part, effect in zip(circuit.components, circuit.effects):
            if part.kind == "head":
                heads_LH[part.layer, part.index] = effect
            elif part.kind == "mlp":
                mlps_L[part.layer] = effect
    return np.hstack([heads_LH, np.full((n_layers, 1), np.nan), mlps_L[:, None]])


def _hovers(values: np.ndarray, circuit: Circuit, unit: str) -> list[list[str]]:
    """Hover text of each cell of `_grid`."""
    n_layers, n_heads = circuit.shape.n_layers, circuit.shape.n_heads
    places = {part: place for place, part in enumerate(circuit.components, 1)}
    rows = []
    for layer in range(n_layers):
        parts = [*(Component(layer, "head", head) for head in range(n_heads)), Component(layer, "mlp")]
        effects = [*values[layer, :n_heads], values[layer, -1]]
        said = [_said(part, effect, unit, places.get(part), len(circuit)) for part, effect in zip(parts, effects)]
        rows.append([*said[:-1], "", said[-1]])
    return rows


def _said(part: Component, effect: float, unit: str, place: int | None, of: int) -> str:
    said = f"{part}<br>{effect:+.3g} {unit}" if unit else str(part)
    return said if place is None else f"{said}<br>no. {place} of {of} in the circuit"


def _full_colour(values: np.ndarray) -> float:
    """End of the colour scale: the 98th percentile of |effect|, so that one component does not pale all others."""
    return float(np.nanquantile(np.abs(values), 0.98)) or float(np.nanmax(np.abs(values))) or 1.0


def _outline(figure: go.Figure, circuit: Circuit) -> None:
    """Boxes around the circuit's heads and MLP layers, black on white so that they show on any colour."""
    edges = _edges(circuit.shape.n_heads)
    x: list[float | None] = []
    y: list[float | None] = []
    for part in circuit.only("head", "mlp").components:
        column = part.index if part.kind == "head" else len(edges) - 2
        left, right, low, high = edges[column], edges[column + 1], part.layer - 0.5, part.layer + 0.5
        x += [left, right, right, left, left, None]
        y += [low, low, high, high, low, None]
    for color, width in (("#FFFFFF", 4), ("#000000", 1.8)):
        figure.add_trace(
            go.Scatter(x=x, y=y, mode="lines", line={"color": color, "width": width}, hoverinfo="skip", name="circuit")
        )


def _dots(figure: go.Figure, circuit: Circuit, unit: str) -> None:
    """Draw the circuit's single neurons as dots at their place in the MLP's column."""
    left, right = _edges(circuit.shape.n_heads)[-2:]
    effects = circuit.effects or (float("nan"),) * len(circuit)
    found = [(i, part, effect) for i, (part, effect) in enumerate(zip(circuit.components, effects), 1)]
    found = [row for row in found if row[1].kind == "neuron"]
    figure.add_trace(
        go.Scatter(
            x=[left + (right - left) * (part.index + 0.5) / circuit.shape.n_neurons for _, part, _ in found],
            y=[part.layer for _, part, _ in found],
            mode="markers",
            marker={"size": 7, "color": HUES[4], "line": {"color": "#000000", "width": 1}},
            text=[_said(part, effect, unit, place, len(circuit)) for place, part, effect in found],
            hovertemplate="%{text}<extra></extra>",
            name="neurons",
        )
    )


def _bracket(figure: go.Figure, shape: Shape, layers: Sequence[int]) -> None:
    """Draw a bracket at the right of the map around each run of layers."""
    left = float(_edges(shape.n_heads)[-1]) + 0.2
    for first, last in _stretches(layers):
        x, y = [left, left + 0.3, left + 0.3, left], [first - 0.45, first - 0.45, last + 0.45, last + 0.45]
        line = {"color": _LOOKUP, "width": 3}
        figure.add_trace(go.Scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", name="fact lookup"))
        centre = float(np.clip((first + last) / 2, 1.5, max(shape.n_layers - 2.5, 1.5)))  # its text must not be cut off
        font = {"color": _LOOKUP}
        figure.add_annotation(x=left + 0.7, y=centre, text="fact lookup", textangle=90, showarrow=False, font=font)


def _edges(n_heads: int) -> np.ndarray:
    """Left and right edges of the columns: heads, a gap, the MLP."""
    heads = np.arange(n_heads + 1) - 0.5
    left = heads[-1] + _MLP_GAP
    return np.array([*heads, left, left + _MLP_WIDTH])


def _stretches(layers: Sequence[int]) -> list[tuple[int, int]]:
    """First and last of each run of consecutive layers."""
    runs: list[tuple[int, int]] = []
    for layer in sorted(set(layers)):
        if runs and layer == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], layer)
        else:
            runs.append((layer, layer))
    return runs
