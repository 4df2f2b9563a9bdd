"""Figures: what an outline on the saliency map selects, that axes have units, and what points stand for."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from analysis import figures
from analysis.components.neurons import NeuronSet
from analysis.components.sites import HEADS
from analysis.saliency import Saliency
from analysis.saliency.agreement import agreement


def result(scores_LN: Sequence[Sequence[float]] | np.ndarray, **changes: Any) -> Saliency:
    given = {"concept": "a", "method": "probeless", "n_concept_tokens": 3, "n_other_tokens": 9} | changes
    return Saliency(scores_LN=np.array(scores_LN, dtype=np.float64), **given)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ({"x": [1.6, 3.2], "y": [0.5, 1.4]}, "L1.N2, L1.N3"),
        ({"x": [3.2, 1.6], "y": [1.4, 0.5]}, "L1.N2, L1.N3"),  # drawn from right to left
        ({"x": [-9.0, 0.4], "y": [-5.0, 0.2]}, "L0.N0"),
        ({"x": [98.6, 500.0], "y": [1.6, 99.0]}, "L2.N99"),
        ({"x": [-9.0, -2.0], "y": [0.0, 2.0]}, ""),
        ({"x": [1.2, 1.8], "y": [0.0, 2.0]}, ""),  # between two columns
    ],
)
def test_box_neurons(box, expected):
    assert figures.box_neurons([box], (3, 100)).format() == expected


def test_several_boxes_are_joined():
    boxes = [{"x": [0, 1], "y": [0, 0]}, {"x": [1, 2], "y": [0, 0]}]
    assert len(figures.box_neurons(boxes, (1, 5))) == 3


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        ([0.5, 2.5, 2.5, 0.5], [-0.5, -0.5, 1.5, 1.5], "L0.N1, L0.N2, L1.N1, L1.N2"),
        ([-9, 2.5, -9], [-9, 0.6, 9], "L0.N0, L0.N1, L1.N0, L1.N1, L2.N0"),
        ([1.5, 99], [0, 1], ""),  # two corners enclose nothing
        ([-5, -4, -4, -5], [0, 0, 1, 1], ""),
    ],
)
def test_lasso_neurons(x, y, expected):
    assert figures.lasso_neurons([{"x": x, "y": y}], (3, 4)).format() == expected


def test_a_lasso_agrees_with_the_winding_of_angles():
    """A star-shaped outline: a point is inside if the angles under which it sees the corners add up to a full turn."""
    random = np.random.default_rng(3)
    angles = np.sort(random.uniform(0, 2 * np.pi, 25))
    radius = random.uniform(4, 11, 25)
    x, y = 14.3 + 1.6 * radius * np.cos(angles), 9.7 + 0.8 * radius * np.sin(angles)
    expected = []
    for layer in range(20):
        for unit in range(30):
            seen = np.unwrap(np.arctan2(np.append(y, y[0]) - layer, np.append(x, x[0]) - unit))
            if abs(seen[-1] - seen[0]) > np.pi:
                expected.append(layer * 30 + unit)
    found = figures.lasso_neurons([{"x": x.tolist(), "y": y.tolist()}], (20, 30))
    assert found.flat.tolist() == expected
    assert 50 < len(found) < 500


def test_marks_on_the_map_carry_names():
    figure = figures.saliency_map(np.ones((3, 5)), "unit", selected=NeuronSet([1, 14], (3, 5)), site=HEADS)
    marks = figure.data[1]
    assert [(x, y, name[0]) for x, y, name in zip(marks.x, marks.y, marks.customdata)] == [
        (1, 0, "L0.H1"),
        (4, 2, "L2.H4"),
    ]


def test_the_strongest_are_marked_where_too_many_are_selected(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(figures.saliency, "MOST_MARKED", 2)
    scores = np.array([[1.0, 9.0, 3.0], [np.nan, 5.0, 2.0]])
    marks = figures.saliency_map(scores, "unit", selected=NeuronSet([0, 2, 3, 4], (2, 3))).data[1]
    assert [name[0] for name in marks.customdata] == ["L1.N1", "L0.N2"]


def test_a_drawn_selection_is_outlined():
    """Walking along the outline's pieces, every edge of the area is met once, and nothing else."""
    inside = {(0, 0), (0, 1), (1, 1), (2, 3)}
    shape = (3, 4)
    drawn = NeuronSet([layer * 4 + unit for layer, unit in inside], shape)
    outline, marks = figures.saliency_map(np.ones(shape), "unit", selected=drawn, drawing=True).data[1:]
    assert len(marks.x) == 0
    x, y = (np.reshape(values, (-1, 3)) for values in (outline.x, outline.y))
    assert np.isnan(x[:, 2]).all()
    pieces = [frozenset([(a, b), (c, d)]) for a, b, c, d in zip(x[:, 0], y[:, 0], x[:, 1], y[:, 1])]
    expected = []
    for layer, unit in inside:
        left, right, low, high = unit - 0.5, unit + 0.5, layer - 0.5, layer + 0.5
        for beside, edge in {
            (layer, unit - 1): [(left, low), (left, high)],
            (layer, unit + 1): [(right, low), (right, high)],
            (layer - 1, unit): [(left, low), (right, low)],
            (layer + 1, unit): [(left, high), (right, high)],
        }.items():
            if beside not in inside:
                expected.append(frozenset(edge))
    assert sorted(map(sorted, pieces)) == sorted(map(sorted, expected))


@pytest.mark.parametrize(("n", "expected"), [(46_080, 461), (270, 10), (5, 5)])
def test_the_top_is_one_percent_but_at_least_ten(n: int, expected: int):
    assert figures.top_count(n) == expected


def test_a_sparse_map_has_a_scale():
    scores = np.zeros((3, 50))
    scores[1, 7] = 4
    assert figures.saliency_map(scores, "unit").data[0].zmax > 0


def test_every_axis_is_labelled():
    scores = np.random.default_rng(0).random((3, 40))
    shift = {"A": (scores, scores + 1)}
    skill = {"held_out_accuracy": [0.5, 0.9], "control_accuracy": [0.5, 0.6], "selectivity": [0.0, 0.3]}
    pair = agreement([result(scores), result(scores**2, method="standardised")], k=5)
    for figure in (
        figures.saliency_map(scores, "unit"),
        figures.layer_profile({"a": scores}, "unit"),
        figures.layer_mean_curve({"a": scores}, "unit"),
        figures.layer_share_curve({"a": scores}, 0.5),
        figures.layer_shift(shift, "unit"),
        figures.probe_skill(skill, majority=0.5),
        figures.agreement_matrix(pair),
        figures.concept_pair(result(scores), result(scores, concept="b"), titles=("A", "B")),
        figures.concept_pair(result(scores), result(scores, concept="b"), titles=("A", "B"), scale="score"),
        figures.activation_histogram(scores[0], scores[1], "A"),
    ):
        assert figure.layout.xaxis.title.text
        assert figure.layout.yaxis.title.text
    assert figures.layer_shift(shift, "unit").data[0].y == pytest.approx([40, 40, 40])


def test_agreement_below_and_above_the_diagonal():
    a = result([[5, 4, 3, 2, 1, 0.5]])
    b = result([[5, 1, 3, 2, 4, 0.5]], method="standardised")
    found = agreement([a, b], k=2)
    z = np.array(figures.agreement_matrix(found).data[0].z, dtype=float)
    assert z[1, 0] == pytest.approx(1 - 6 * (9 + 9) / (6 * 35))  # Spearman from squared differences of ranks
    assert z[0, 1] == pytest.approx(0.5)  # the first is in both tops
    assert np.isnan(np.diag(z)).all()


def test_points_of_two_concepts_are_the_tops_and_the_rest_is_mass():
    random = np.random.default_rng(1)
    first, second = result(random.random((4, 100))), result(random.random((4, 100)), concept="b")
    figure = figures.concept_pair(first, second, titles=("A", "B"), top_share=0.05)
    mass, only_a, only_b, both, _ = figure.data
    names = {key: {row[0] for row in trace.customdata} for key, trace in (("a", only_a), ("b", only_b), ("both", both))}
    top_a = {f"L{flat // 100}.N{flat % 100}" for flat in first.order[:20]}
    top_b = {f"L{flat // 100}.N{flat % 100}" for flat in second.order[:20]}
    assert names == {"a": top_a - top_b, "b": top_b - top_a, "both": top_a & top_b}
    assert np.nansum(mass.customdata) == 400 - len(top_a | top_b)
    name, place, other = only_a.customdata[0]
    layer, unit = (int(part) for part in name[1:].split(".N"))
    assert (place, other) == (first.ranks_LN[layer, unit] + 1, second.ranks_LN[layer, unit] + 1)
    assert only_a.x[0] == pytest.approx(np.log10(place))
    scores = figures.concept_pair(first, second, titles=("A", "B"), top_share=0.05, scale="score").data[1]
    assert scores.x[0] == pytest.approx(first.scores_LN[layer, unit])


def test_a_score_of_zero_is_in_no_top():
    sparse = np.zeros((2, 10))
    sparse[1, 4] = 1
    first, second = result(sparse), result(np.arange(20.0).reshape(2, 10), concept="b")
    one, other, both = figures.top_units(first, second, 5)
    assert (np.flatnonzero(one).tolist(), np.flatnonzero(both).tolist()) == ([14], [])
    assert np.flatnonzero(other).tolist() == [15, 16, 17, 18, 19]


def test_a_histogram_shows_shares_of_each_group():
    own, other = np.array([0.0, 0.0, 1.0]), np.array([1.0] * 7)
    bars = figures.activation_histogram(own, other, "A").data
    assert [sum(bar.y) for bar in bars] == pytest.approx([100, 100])
    assert max(bars[1].y) == pytest.approx(200 / 3)


def test_a_silent_neuron_has_a_histogram():
    assert figures.activation_histogram(np.zeros(3), np.zeros(4), "A").data[0].y.max() == 100
