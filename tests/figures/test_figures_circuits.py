"""Figures of circuits: each component's effect is in its own cell, and what is chosen is what is marked."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from analysis.components.circuit import Circuit, EffectMap, Shape
from analysis.figures.circuits import circuit_map, circuit_overlap, probe_accuracy, short_unit
from analysis.localization import ProbeCurve, overlap_table

SHAPE = Shape(n_layers=4, n_heads=3, n_neurons=10)


def effect_map(**changes) -> EffectMap:
    """Every component has another effect; L3.H2 was not measured."""
    heads_LH = np.arange(12.0).reshape(4, 3) / 100 - 0.05
    heads_LH[3, 2] = np.nan
    fields = {
        "shape": SHAPE,
        "mlps_L": np.array([0.5, -0.4, 0.3, 0.2]),
        "heads_LH": heads_LH,
        "method": "patching",
        "concept": "capitals",
        "unit": "nats: log P(answer), summed",
        "n_prompts": 7,
    }
    return EffectMap(**{**fields, **changes})


def circuit(names: str, **details) -> Circuit:
    parts = Circuit.parse(names, SHAPE).components
    return Circuit(shape=SHAPE, components=parts, **details)


def cell(figure: go.Figure, x: float, layer: int) -> tuple[float, str]:
    """What is drawn at a place of the map, found by the edges of its columns and rows."""
    heatmap = figure.data[0]
    column = int(np.searchsorted(heatmap.x, x)) - 1
    row = int(np.searchsorted(heatmap.y, layer)) - 1
    return heatmap.z[row][column], heatmap.text[row][column]


def boxes(figure: go.Figure) -> set[tuple[float, float, float, float]]:
    """(left, right, low, high) of every outline."""
    lines = next(trace for trace in figure.data if trace.name == "circuit")
    found, corners = set(), []
    for x, y in zip(lines.x, lines.y):
        if x is None:
            xs, ys = zip(*corners)
            found.add((min(xs), max(xs), min(ys), max(ys)))
            corners = []
        else:
            corners.append((x, y))
    return found


def mlp_place(figure: go.Figure) -> float:
    axis = figure.layout.xaxis
    return axis.tickvals[axis.ticktext.index("MLP")]


def test_every_effect_is_at_its_components_tick():
    effects = effect_map()
    figure = circuit_map(effects.circuit(top=2), effects)
    for layer in range(4):
        for head in range(3):
            value, said = cell(figure, head, layer)
            assert value == pytest.approx(effects.heads_LH[layer, head], nan_ok=True)
            assert said.startswith(f"L{layer}.H{head}<br>")
        value, said = cell(figure, mlp_place(figure), layer)
        assert value == effects.mlps_L[layer]
        assert said.startswith(f"L{layer}.MLP<br>{effects.mlps_L[layer]:+.3g} nats")


def test_colours_are_centred_on_zero_and_differ_in_hue():
    figure = circuit_map(effect_map().circuit(top=1), effect_map())
    heatmap = figure.data[0]
    assert heatmap.zmin == -heatmap.zmax < 0
    scale = dict(heatmap.colorscale)
    assert scale[0.5].startswith("rgba(128,128,128")
    assert scale[0.0].startswith("rgba(213,94,0")
    assert scale[1.0].startswith("rgba(0,114,178")
    assert [place for place, _ in heatmap.colorscale] == sorted(scale)
    assert heatmap.colorbar.title.text == "effect (nats)"


def test_outlines_are_the_circuit():
    effects = effect_map()
    chosen = effects.circuit(top=3)
    assert chosen.format() == "L0.MLP, L1.MLP, L2.MLP"
    figure = circuit_map(chosen, effects)
    left, right = figure.data[0].x[-2:]
    assert left < mlp_place(figure) < right
    assert boxes(figure) == {(left, right, layer - 0.5, layer + 0.5) for layer in (0, 1, 2)}
    head = circuit_map(circuit("L3.H1"), effects)
    assert boxes(head) == {(0.5, 1.5, 2.5, 3.5)}
    assert "no. 1 of 1 in the circuit" in cell(head, 1, 3)[1]
    assert "in the circuit" not in cell(head, 0, 3)[1]


def test_neurons_are_dots_in_the_mlp_column():
    figure = circuit_map(circuit("L2.N0, L2.N9", effects=(0.3, -0.2), unit="nats"))
    dots = next(trace for trace in figure.data if trace.name == "neurons")
    left, right = figure.data[0].x[-2:]
    assert list(dots.y) == [2, 2]
    assert left < dots.x[0] < left + 0.15 * (right - left)
    assert right - 0.15 * (right - left) < dots.x[1] < right
    assert dots.text[1].startswith("L2.N9<br>-0.2 nats<br>no. 2 of 2")
    assert boxes(figure) == set()


def test_a_control_has_no_colours_and_a_probe_its_own():
    control = circuit_map(circuit("L0.H0, L1.MLP"))
    assert not control.data[0].showscale
    assert np.nanmax(np.abs(control.data[0].z)) == 0
    assert len(boxes(control)) == 2
    probed = circuit_map(circuit("L1.MLP, L2.MLP", effects=(0.4, 0.1), unit="accuracy added by the layer"))
    assert probed.data[0].showscale
    assert [cell(probed, mlp_place(probed), layer)[0] for layer in range(4)] == [0, 0.4, 0.1, 0]


def test_each_stretch_of_lookup_layers_has_a_bracket():
    figure = circuit_map(circuit("L0.MLP"), effect_map(), lookup=(2, 0, 1, 3))
    assert [(min(t.y), max(t.y)) for t in figure.data if t.name == "fact lookup"] == [(-0.45, 3.45)]
    figure = circuit_map(circuit("L0.MLP"), effect_map(), lookup=(0, 2, 3))
    assert [(min(t.y), max(t.y)) for t in figure.data if t.name == "fact lookup"] == [(-0.45, 0.45), (1.55, 3.45)]
    assert not [t for t in circuit_map(circuit("L0.MLP")).data if t.name == "fact lookup"]


def test_a_map_of_zeros_can_be_drawn():
    zeros = effect_map(mlps_L=np.zeros(4), heads_LH=np.zeros((4, 3)))
    heatmap = circuit_map(circuit("L0.MLP"), zeros).data[0]
    assert heatmap.zmin < heatmap.zmax


def curve() -> ProbeCurve:
    accuracy_R = np.array([0.2, 0.3, 0.7, 0.9, 0.9])
    return ProbeCurve(
        concept="capitals",
        kind="answer",
        accuracy_R=accuracy_R,
        low_R=accuracy_R - 0.1,
        high_R=accuracy_R + 0.05,
        control_R=np.full(5, 0.25),
        chance=0.2,
        n_subjects=24,
        n_prompts=48,
        answers=("Paris", "Rome"),
    )


def test_the_probe_curve_is_over_layers_with_interval_control_and_chance():
    figure = probe_accuracy(curve(), layers=(1, 2))
    lines = {trace.name: trace for trace in figure.data}
    assert list(lines["accuracy"].x) == [-1, 0, 1, 2, 3]
    assert list(lines["accuracy"].y) == pytest.approx([0.2, 0.3, 0.7, 0.9, 0.9])
    assert list(lines["answers shuffled"].y) == pytest.approx([0.25] * 5)
    assert list(lines["chance"].y) == pytest.approx([0.2] * 5)
    band = lines["95% interval"]
    assert dict(zip(band.x[5:], band.y[5:]))[1] == pytest.approx(0.6)
    assert dict(zip(band.x[:5], band.y[:5]))[1] == pytest.approx(0.75)
    assert [(shape.x0, shape.x1) for shape in figure.layout.shapes] == [(0.5, 2.5)]
    assert "24 held-out subjects" in figure.layout.yaxis.title.text


def test_the_overlap_matrix_is_symmetric_and_says_what_chance_gives():
    table = overlap_table(
        {"a": circuit("L0.MLP, L1.MLP"), "b": circuit("L1.MLP, L2.MLP, L0.H0"), "c": circuit("L3.H1")}
    )
    heatmap = circuit_overlap(table).data[0]
    z = pd.DataFrame(np.asarray(heatmap.z, dtype=float), index=list(heatmap.y), columns=list(heatmap.x))
    assert z.loc["a", "b"] == z.loc["b", "a"] == pytest.approx(1 / 4)
    assert z.loc["a", "c"] == 0
    assert np.isnan(np.diag(z)).all()
    said = heatmap.text[list(heatmap.y).index("a")][list(heatmap.x).index("b")]
    assert f"by chance {table['mlp_layers_by_chance'][0]:.2f}" in said
    mlps = circuit_overlap(table, column="mlp_layers").data[0]
    assert np.asarray(mlps.z, dtype=float)[0, 1] == pytest.approx(1 / 3)


def test_every_axis_of_the_map_and_the_curve_is_labelled():
    for figure in (circuit_map(circuit("L0.MLP"), effect_map()), probe_accuracy(curve())):
        assert figure.layout.xaxis.title.text
        assert figure.layout.yaxis.title.text


@pytest.mark.parametrize(
    ("unit", "expected"),
    [("nats: log P(answer)", "nats"), ("share of the gap (heads: straight)", "share of the gap"), ("", "")],
)
def test_short_unit(unit: str, expected: str):
    assert short_unit(unit) == expected
