"""The rule that turns a probe curve into layers."""

import numpy as np
import pytest

from analysis.components.circuit import Shape
from analysis.errors import ConceptError, ConfigError, UnsupportedArchitectureError
from analysis.localization import ProbeCurve, lookup_by_probe, rise

PAPER = (0.44, 0.48, 0.63, 0.85, 0.97, 0.97, 1.0)
"""Gemma 7B, layers 0 to 6, on athletes' sports; the paper chooses MLPs 2 to 7."""


def curve(accuracies: tuple[float, ...], *, n: int = 100, chance: float = 0.35) -> ProbeCurve:
    """A curve whose first value is the embedding's."""
    values = np.array(accuracies)
    half = 1.96 * np.sqrt(values * (1 - values) / n)
    return ProbeCurve(
        concept="sports",
        kind="class",
        accuracy_R=values,
        low_R=values - half,
        high_R=values + half,
        control_R=np.full(len(values), chance),
        chance=chance,
        n_subjects=n,
        n_prompts=n,
        answers=("a", "b", "c"),
    )


def test_the_papers_numbers_give_the_papers_layers():
    assert rise(np.array((*PAPER, *[1.0] * 21))) == (2, 7)
    # the same with the embedding's row in front, as in a curve
    circuit = lookup_by_probe(curve((0.42, *PAPER, *[1.0] * 21)), Shape(28, 16, 8))
    assert circuit.mlp_layers == (2, 3, 4, 5, 6, 7)
    added = [0.63 - 0.48, 0.85 - 0.63, 0.97 - 0.85, 0.0, 1.0 - 0.97, 0.0]
    np.testing.assert_allclose(circuit.effects, added, atol=1e-9)


def test_the_rise_follows_a_shifted_curve():
    for shift in range(4):
        assert rise(np.array((*[0.44] * shift, *PAPER, *[1.0] * 10))) == (2 + shift, 7 + shift)


def test_a_step_is_one_layer():
    step = np.array([0.3] * 5 + [0.9] * 5)
    assert rise(step, beyond=0) == (5, 5)
    assert rise(step, beyond=2) == (5, 7)
    assert rise(np.array([0.3, 0.3, 0.9])) == (2, 2)  # not beyond the last row


def test_what_comes_before_the_trough_or_after_the_peak_does_not_count():
    assert rise(np.array([0.5, 0.2, 0.2, 0.8, 1.0, 0.3, 0.9]), beyond=0) == (3, 4)


def test_the_parameters_are_shares_of_the_climb():
    climb = np.linspace(0, 1, 11)
    assert rise(climb, start=0.5, end=0.8, beyond=0) == (5, 8)
    assert rise(climb, start=0.1, end=1.0, beyond=0) == (1, 10)


def test_the_embedding_is_no_layer():
    circuit = lookup_by_probe(curve((0.9, 0.2, 0.9, 0.95, 0.95)), Shape(4, 2, 8), start=0.1)
    assert circuit.mlp_layers == (1, 2, 3)
    flat_start = lookup_by_probe(curve((0.3, 0.9, 0.9)), Shape(2, 2, 8), beyond=0)
    assert flat_start.mlp_layers == (0,)


def test_curves_that_say_nothing_are_refused():
    with pytest.raises(ConceptError, match="does not rise"):
        rise(np.full(5, 0.4))
    with pytest.raises(ConceptError, match="does not rise"):
        rise(np.array([0.9, 0.5, 0.4]))
    with pytest.raises(ConceptError, match="at no layer better than chance"):
        lookup_by_probe(curve((0.30, 0.36, 0.40), n=40), Shape(2, 2, 8))
    with pytest.raises(UnsupportedArchitectureError, match="one layer"):
        lookup_by_probe(curve((0.3, 0.9)), Shape(1, 2, 8))


@pytest.mark.parametrize("wrong", [{"start": 0.0}, {"start": 0.9, "end": 0.5}, {"end": 1.5}, {"beyond": -1}])
def test_wrong_parameters_are_refused(wrong: dict):
    with pytest.raises(ConfigError, match="needed are"):
        rise(np.array(PAPER), **wrong)
