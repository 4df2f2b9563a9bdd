"""Two models with planted concept neurons: the construction keeps its promises, and each method finds what it should.

The whole table, over more seeds, is in docs/planted.md.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch

from analysis import saliency
from analysis.components.sites import MLP
from analysis.saliency import causal
from analysis.scoring.factual_recall import prepare_facts, score_facts
from tests.planted_model import LAYERS, NEURONS, PER_LAYER, Planted, plant, precision, score
from tests.raw_model import raw

SEEDS = (0, 1)


_made = cache(plant)


@pytest.fixture
def models() -> list[Planted]:
    """Made once, though not before the first test: a fixture of the module would come before the one for threads."""
    return [_made(seed) for seed in SEEDS]


def test_a_seed_fixes_the_model(models: list[Planted]):
    again = plant(0)
    for one, other in zip(raw(again.model).parameters(), raw(models[0].model).parameters()):
        assert torch.equal(one, other)
    assert again.concept == models[0].concept


def test_families_do_not_overlap_and_are_in_every_layer(models: list[Planted]):
    for planted in models:
        assert np.sum(list(planted.families.values()), axis=0).max() == 1
        for name, mask in planted.families.items():
            assert mask.shape == (LAYERS, NEURONS)
            assert mask.sum(1).tolist() == [PER_LAYER[name]] * LAYERS


def silenced(mask_N: np.ndarray) -> Callable:
    mask = torch.tensor(mask_N)
    return lambda activation, hook: activation.masked_fill(mask, 0.0)


def test_the_model_knows_its_facts_through_the_planted_neurons(models: list[Planted]):
    """Without the neurons that cause the answers it does not know them; without the others it knows them as before."""
    for planted in models:
        probe = prepare_facts(planted.model, planted.concept)
        before = score_facts(planted.model, probe).mean()
        assert before == pytest.approx(0.6, abs=0.01)
        without = {}
        for name in ("causal", "reader", "booster", "loud"):
            hooks = [(MLP.hook(layer), silenced(mask_N)) for layer, mask_N in enumerate(planted.families[name])]
            with planted.model.hooks(hooks):
                without[name] = score_facts(planted.model, probe).mean()
        assert without["causal"] < 0.3  # the boosters still favour the three answers, each as much as the others
        assert without["booster"] < before - 0.1
        assert without["reader"] == pytest.approx(before, abs=0.05)
        assert without["loud"] == pytest.approx(before, abs=0.05)


def test_single_neurons_cause_what_they_should(models: list[Planted]):
    """By exact ablation: causal and booster neurons far above readers and ordinary ones."""
    planted = models[0]
    random = np.random.default_rng(0)
    ordinary = ~np.any(list(planted.families.values()), axis=0)
    chosen = {name: np.argwhere(mask) for name, mask in planted.families.items()}
    chosen["ordinary"] = random.permutation(np.argwhere(ordinary))[:30]
    units = [(int(l), int(n)) for places in chosen.values() for l, n in places]
    found = causal.ablation(planted.model, planted.concept, units)
    median = {name: np.median([found.scores_LN[l, n] for l, n in places]) for name, places in chosen.items()}
    assert min(median["causal"], median["booster"]) > 5 * median["reader"]
    assert min(median["causal"], median["booster"]) > 5 * median["ordinary"]
    assert median["loud"] < 5 * median["ordinary"]


def test_loud_neurons_are_loud_and_blind(models: list[Planted]):
    for planted in models:
        one_pass = saliency.scan(planted.model, [planted.concept], sampled=False)
        deviation = np.sqrt(one_pass.moments.variances_GLN[1])
        loud, ordinary = (
            np.median(deviation[mask])
            for mask in (planted.families["loud"], ~np.any(list(planted.families.values()), axis=0))
        )
        assert loud > 8 * ordinary
        standardised = one_pass.score("planted", "standardised").scores_LN
        readers = np.median(standardised[planted.families["reader"]])
        assert readers > 5 * np.median(standardised[planted.families["loud"]])


def mean_precision(models: list[Planted], method: str, truth: str, **options: object) -> float:
    return float(np.mean([precision(score(one, method, **options), one.truths[truth]) for one in models]))


@pytest.mark.parametrize(("method", "least"), [("standardised", 0.85), ("average_precision", 0.9), ("probe", 0.6)])
def test_forward_methods_find_what_reads_the_concept(models: list[Planted], method: str, least: float):
    assert mean_precision(models, method, "reads") >= least
    assert mean_precision(models, method, "causes") <= 0.5


def test_probeless_follows_scale(models: list[Planted]):
    """Loud neurons take places of quiet ones that do read the concept."""
    assert 0.3 <= mean_precision(models, "probeless", "reads") <= 0.75
    for planted in models:
        found = score(planted, "probeless")
        top = found.order[: planted.truths["reads"].sum()]
        assert planted.families["loud"].ravel()[top].sum() >= 3


@pytest.mark.parametrize(
    ("method", "options"),
    [("gradient_x_activation", {}), ("integrated_gradients", {"max_examples": 6, "steps": 4})],
)
def test_gradient_methods_find_what_causes_the_answers(models: list[Planted], method: str, options: dict):
    assert mean_precision(models, method, "causes", **options) >= 0.75
    assert mean_precision(models, method, "reads", **options) <= 0.75


def test_patching_finds_what_the_corruption_changes(models: list[Planted]):
    """Another subject of the same concept leaves boosters and readers as they are; noise does not."""
    assert mean_precision(models, "attribution_patching", "both", corruption="swap") >= 0.9
    assert mean_precision(models, "attribution_patching", "causes", corruption="swap") <= 0.75
    assert mean_precision(models, "attribution_patching", "causes", corruption="noise") >= 0.8


def test_a_random_ranking_finds_nothing(models: list[Planted]):
    random = np.random.default_rng(0)
    found = score(models[0], "standardised")
    for truth_LN in models[0].truths.values():
        shuffled = [precision(found, random.permutation(truth_LN.ravel()).reshape(truth_LN.shape)) for _ in range(200)]
        assert np.mean(shuffled) == pytest.approx(truth_LN.mean(), abs=0.02)
