"""Controls: what they are made of, and that their sizes match."""

import numpy as np
import pytest

from analysis.components.circuit import Circuit, Component, EffectMap
from analysis.edits import n_parameters
from analysis.errors import ConfigError
from analysis.localization import CONTROLS, all_components, control, matched, overlap_table
from analysis.models import LanguageModel


def circuit(model: LanguageModel, names: str) -> Circuit:
    return Circuit.parse(names, model.component_shape)


def test_random_components_match_the_number_of_parameters(either_model: LanguageModel):
    wanted = circuit(either_model, "L0.MLP, L1.H0, L1.H1")
    target = n_parameters(either_model, wanted)
    smallest = min(n_parameters(either_model, Circuit(shape=wanted.shape, components=(part,)))
                   for part in all_components(either_model))  # fmt: skip
    drawn = {}
    for seed in range(12):
        found = control(either_model, "random_components", match=wanted, seed=seed)
        reached = n_parameters(either_model, found)
        assert found.provenance["parameters"] == reached
        assert found.provenance["parameters_wanted"] == target
        assert abs(reached - target) <= max(smallest, 0.35 * target)
        drawn[seed] = found.components
    assert drawn[3] == control(either_model, "random_components", match=wanted, seed=3).components
    assert len(set(drawn.values())) > 3


def test_random_mlps_are_whole_layers(either_model: LanguageModel):
    wanted = circuit(either_model, "L0.MLP, L1.MLP")
    seen = set()
    for seed in range(12):
        found = control(either_model, "random_mlps", match=wanted, seed=seed)
        assert found.provenance["parameters"] == n_parameters(either_model, wanted)
        assert {part.kind for part in found.components} == {"mlp"}
        seen.add(found.mlp_layers)
    assert len(seen) == (3 if either_model.n_layers == 3 else 1)  # every pair of layers comes up


def test_all_of_them(either_model: LanguageModel):
    layers, heads = either_model.n_layers, either_model.n_heads
    assert control(either_model, "all_mlps").mlp_layers == tuple(range(layers))
    assert control(either_model, "all_mlps").heads == ()
    assert len(control(either_model, "everything")) == layers * (1 + heads)


def test_the_strongest_components_up_to_a_size(tiny_model: LanguageModel):
    head, mlp = 2 * 32 * 8, 3 * 32 * 48
    effects = EffectMap(
        shape=tiny_model.component_shape,
        mlps_L=np.array([0.5, 0.1, 0.4]),
        heads_LH=np.linspace(0.30, 0.41, 12).reshape(3, 4),
        method="planted",
        concept="c",
        unit="u",
        n_prompts=1,
    )
    for target, names in (
        (1, ["L0.MLP"]),
        (mlp + head, ["L0.MLP", "L2.H3"]),
        (2 * mlp + head + 10, ["L0.MLP", "L2.H3", "L2.MLP"]),
    ):
        found = matched(tiny_model, effects, target)
        assert [str(part) for part in found.components] == names
        assert found.provenance["parameters"] == n_parameters(tiny_model, found)
    only_mlps = matched(tiny_model, effects, 2 * mlp, kinds=("mlp",))
    assert only_mlps.mlp_layers == (0, 2)


def test_overlaps_and_what_chance_gives(tiny_model: LanguageModel):
    circuits = {
        "a": circuit(tiny_model, "L0.MLP, L1.MLP, L2.H0"),
        "b": circuit(tiny_model, "L1.MLP, L2.H0"),
        "c": circuit(tiny_model, "L0.H0"),
    }
    table = overlap_table(circuits).set_index(["a", "b"])
    assert table.loc[("a", "b"), "components"] == pytest.approx(2 / 3)
    assert table.loc[("a", "b"), "mlp_layers"] == pytest.approx(1 / 2)
    assert table.loc[("a", "c"), "mlp_layers"] == 0
    assert len(table) == 3
    random = np.random.default_rng(0)
    simulated = []
    for _ in range(4000):
        one, two = (set(random.choice(3, size=n, replace=False).tolist()) for n in (2, 1))
        simulated.append(len(one & two) / len(one | two))
    assert table.loc[("a", "b"), "mlp_layers_by_chance"] == pytest.approx(np.mean(simulated), abs=0.02)
    heads_only = overlap_table({"c": circuits["c"], "d": circuits["c"]})
    assert np.isnan(heads_only.loc[0, "mlp_layers"])
    assert heads_only.loc[0, "components"] == 1


def test_wrong_controls_are_refused(tiny_model: LanguageModel):
    with pytest.raises(ConfigError, match="no control"):
        control(tiny_model, "random")
    for name in ("random_components", "random_mlps"):
        assert name in CONTROLS
        with pytest.raises(ConfigError, match="takes its size"):
            control(tiny_model, name)
        with pytest.raises(ConfigError, match="takes its size"):
            control(tiny_model, name, match=Circuit(shape=tiny_model.component_shape, components=()))
    empty = EffectMap(
        shape=tiny_model.component_shape,
        mlps_L=np.full(3, np.nan),
        heads_LH=np.full((3, 4), np.nan),
        method="planted",
        concept="c",
        unit="u",
        n_prompts=1,
    )
    with pytest.raises(ConfigError, match="measured none"):
        matched(tiny_model, empty, 100)


def test_components_are_in_the_order_of_layers(tiny_model: LanguageModel):
    parts = all_components(tiny_model)
    assert len(parts) == len(set(parts)) == 15
    assert [part.layer for part in parts] == sorted(part.layer for part in parts)
    assert Component(2, "mlp") in parts
