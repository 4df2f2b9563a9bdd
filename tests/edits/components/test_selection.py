"""Which neurons a rule selects, from scores small enough to check by eye."""

import numpy as np
import pytest

from analysis.components.circuit import Circuit, Shape
from analysis.edits import Selection
from analysis.errors import ConfigError, EditError
from analysis.saliency import Saliency

SCORES = np.array([[0.1, 0.9, 0.3, 0.4], [0.8, 0.2, 0.7, 0.6]])
SALIENCY = Saliency(concept="c", method="probeless", scores_LN=SCORES, n_concept_tokens=1, n_other_tokens=1)


SHAPE = Shape(n_layers=2, n_heads=3, n_neurons=4)


def chosen(**settings) -> list[int]:
    neurons, heads = Selection(**settings).select(SALIENCY, SHAPE)
    assert heads == ()
    return neurons.flat.tolist()


@pytest.mark.parametrize(
    ("settings", "flat"),
    [
        ({"rule": "top_k", "value": 3}, [1, 4, 6]),
        ({"rule": "top_k", "value": 8}, list(range(8))),
        ({"rule": "top_fraction", "value": 0.25}, [1, 4]),
        ({"rule": "top_fraction", "value": 1e-6}, [1]),
        ({"rule": "top_fraction", "value": 1}, list(range(8))),
        ({"rule": "threshold", "value": 0.7}, [1, 4, 6]),
        ({"rule": "explicit", "components": "L1.N3, L0.N0"}, [0, 7]),
    ],
)
def test_rules(settings: dict, flat: list[int]):
    assert chosen(**settings) == flat


def test_an_explicit_list_needs_no_scores():
    selection = Selection(rule="explicit", components="blocks.1.mlp.hook_post[2]")
    assert selection.select(None, SHAPE)[0].flat.tolist() == [6]


def test_the_others_do_need_scores():
    with pytest.raises(EditError, match="needs saliency"):
        Selection().select(None, SHAPE)


def test_a_list_of_every_kind():
    selection = Selection(rule="explicit", components="L1.H2, l0.h0; L1.H2 L1.MLP, L0.N3, L1.N0")
    neurons, heads = selection.select(None, SHAPE)
    assert neurons.flat.tolist() == [3, 4, 5, 6, 7]
    assert heads == ((0, 0), (1, 2))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rule": "top_k", "value": 9}, "only 8 neurons"),
        ({"rule": "threshold", "value": 5.0}, r"empty.*0\.9"),
        ({"rule": "explicit", "components": "L2.N0"}, "outside the model"),
        ({"rule": "explicit", "components": "L1.H3"}, "outside the model"),
        ({"rule": "explicit", "components": "L2.MLP"}, "outside the model"),
        ({"rule": "top_k", "value": 5, "control": "random"}, "too few others"),
        ({"rule": "explicit", "components": "L0.N0 L0.N1 L0.N2", "control": "layer_matched"}, "too few others"),
        (
            {"rule": "explicit", "components": "L0.H0 L0.H1", "control": "layer_matched"},
            "2 other heads.*too few others",
        ),
        ({"rule": "explicit", "components": "L0.MLP", "control": "layer_matched"}, "no other MLP in its layer"),
        ({"rule": "explicit", "components": "L0.MLP L1.MLP", "control": "random"}, "2 other MLP layers.*too few"),
        ({"rule": "explicit", "components": "L0.MLP L1.N2", "control": "random"}, "1 other MLP layers.*too few"),
    ],
)
def test_what_does_not_fit_the_model(settings: dict, message: str):
    with pytest.raises(EditError, match=message):
        chosen(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rule": "bottom"}, "bottom"),
        ({"control": "placebo"}, "placebo"),
        ({"method": "astrology"}, "astrology"),
        ({"rule": "top_fraction", "value": 0}, "share"),
        ({"rule": "top_fraction", "value": 1.01}, "share"),
        ({"rule": "top_fraction", "value": float("nan")}, "value is nan"),
        ({"rule": "top_k", "value": 0}, "k is 0"),
        ({"rule": "top_k", "value": 2.5}, "k is 2.5"),
        ({"rule": "top_k", "value": float("nan")}, "value is nan"),
        ({"rule": "top_k", "value": float("inf")}, "value is inf"),
        ({"rule": "threshold", "value": float("inf")}, "finite"),
        ({"rule": "explicit", "components": "  "}, "empty"),
        ({"rule": "explicit", "components": ", ;"}, "empty"),
        ({"rule": "explicit", "components": "L0.N1, everything"}, "“everything” is no component"),
        ({"control": "random", "seed": -1}, "seed"),
    ],
)
@pytest.mark.usefixtures("unchecked_types")
def test_nonsense(settings: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        Selection(**settings)


@pytest.mark.parametrize("control", ["random", "layer_matched"])
def test_a_control_draws_as_many_others(control: str):
    scores = np.random.default_rng(0).random((4, 50))
    saliency = Saliency(concept="c", method="probeless", scores_LN=scores, n_concept_tokens=1, n_other_tokens=1)
    shape = Shape(4, 2, 50)
    top, _ = Selection(value=0.1).select(saliency, shape)
    drawn, _ = Selection(value=0.1, control=control, seed=3).select(saliency, shape)
    assert len(drawn) == len(top) == 20
    assert not set(drawn.flat.tolist()) & set(top.flat.tolist())
    if control == "layer_matched":
        assert drawn.counts().tolist() == top.counts().tolist()
    again, other = (Selection(value=0.1, control=control, seed=seed).select(saliency, shape)[0] for seed in (3, 4))
    assert again == drawn
    assert other != drawn


def test_a_random_control_of_every_kind():
    """As many of each kind; none of them is chosen, holds a chosen neuron, or lies in a drawn MLP layer."""
    shape = Shape(n_layers=6, n_heads=3, n_neurons=4)
    listed = Circuit.parse("L5.MLP, L5.N1, L4.N0, L4.N3, L0.H0, L0.H1, L2.H2", shape)
    selections = [Selection(rule="explicit", components=listed.format(), control="random", seed=s) for s in range(60)]
    drawn_layers, drawn_heads = set(), set()
    for selection in selections:
        neurons, heads = selection.select(None, shape)
        counts = neurons.counts().tolist()
        assert len(neurons) == 4 + 2
        assert not set(neurons.flat.tolist()) & set(listed.neurons.flat.tolist())
        (layer,) = [layer for layer, count in enumerate(counts) if count == 4]
        assert layer < 4
        assert len(set(heads)) == 3
        assert not set(heads) & set(listed.heads)
        drawn_layers.add(layer)
        drawn_heads |= set(heads)
        assert selection.select(None, shape) == (neurons, heads)
    assert drawn_layers == {0, 1, 2, 3}
    assert len(drawn_heads) == 18 - 3


def test_a_layer_matched_control_of_heads():
    shape = Shape(n_layers=3, n_heads=4, n_neurons=4)
    for seed in range(10):
        selection = Selection(
            rule="explicit", components="L0.H1, L2.H0, L2.H3, L1.N2", control="layer_matched", seed=seed
        )
        neurons, heads = selection.select(None, shape)
        assert [layer for layer, _ in heads] == [0, 2, 2]
        assert not set(heads) & {(0, 1), (2, 0), (2, 3)}
        assert neurons.counts().tolist() == [0, 1, 0]
        assert neurons.flat.tolist() != [6]


def test_a_random_control_reaches_every_layer_uniformly():
    scores = np.zeros((4, 50))
    scores[3, :10] = 1
    saliency = Saliency(concept="c", method="probeless", scores_LN=scores, n_concept_tokens=1, n_other_tokens=1)
    total = sum(
        Selection(rule="top_k", value=10, control="random", seed=seed).select(saliency, Shape(4, 2, 50))[0].counts()
        for seed in range(200)
    )
    expected = 2000 * np.array([50, 50, 50, 40]) / 190
    np.testing.assert_allclose(total, expected, rtol=0.15)


@pytest.mark.parametrize(
    ("settings", "phrase"),
    [
        ({}, "top 1.00% by probeless"),
        ({"rule": "top_k", "value": 7, "control": "random"}, "top 7 by probeless, random control"),
        ({"rule": "threshold", "value": 0.5, "method": "standardised"}, "standardised of at least 0.5"),
        ({"rule": "explicit", "components": "L0.N0 l1.h2, L3.mlp"}, "L0.N0, L1.H2, L3.MLP"),
        (
            {"rule": "explicit", "components": "L0.N0 L0.N1 L0.N2 L0.N3 L0.N4", "control": "random"},
            "5 listed components, random control",
        ),
    ],
)
def test_describe(settings: dict, phrase: str):
    assert Selection(**settings).describe() == phrase
