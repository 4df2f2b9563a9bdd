"""The one call behind pages and the command line."""

import json

import numpy as np
import pytest
import typer.testing

from analysis import localization as package
from analysis.cli import app
from analysis.components.circuit import Circuit
from analysis.concepts import Concept, Fact, dump_jsonl
from analysis.edits import n_parameters
from analysis.errors import ConceptError, ConfigError, EditError, PalimpsestError
from analysis.localization import CONTROLS, METHODS, Localization, localize, probing
from analysis.localization.forward import Run
from analysis.models import LanguageModel
from analysis.scoring.contrast_pairs import pair_prompts

NAMES = ("France", "Italy", "Japan", "Norway", "Spain", "Greece", "rain", "river", "old", "train", "dinner", "sea")


@pytest.fixture(scope="session")
def classes() -> Concept:
    """Twelve subjects of two classes, so that every method has enough facts."""
    facts = tuple(Fact(name, "Paris" if i % 2 else "Oslo") for i, name in enumerate(NAMES))
    return Concept(name="classes", title="Classes", templates=("The capital of {subject} is",), facts=facts)


def run(model: LanguageModel, concept: Concept, method: str, **options) -> Localization:
    """With settings under which even a random model yields a circuit."""
    options.setdefault("facts", concept.facts)
    if method == "fact_lookup_paths":
        options = {"threshold": 0.0, "top": 6, **options}
    return localize(model, concept, method, **options)


def seed_with_a_gap(model: LanguageModel, concept: Concept) -> int:
    """A seed whose random subjects lower the mean score, which a random model does not always grant."""
    for seed in range(50):
        (batch,) = pair_prompts(model, concept, corruption="random", seed=seed).batches
        clean, corrupted = (Run(model, batch, "logit_difference", corrupted=c).score_B.mean() for c in (False, True))
        if clean > corrupted + 1e-3:
            return seed
    raise AssertionError("no seed gives a gap")


@pytest.mark.parametrize("method", [name for name in METHODS if name != "fact_lookup_probe"])
def test_every_method_gives_a_circuit(
    tiny_model: LanguageModel, tiny_gpt2: LanguageModel, classes: Concept, method: str
):
    for model in (tiny_model, tiny_gpt2):
        match = Circuit.parse("L0.MLP, L1.H1, L1.H2", model.component_shape)
        options = {"match": match, "seed": seed_with_a_gap(model, classes)}
        found = run(model, classes, method, **options)
        again = run(model, classes, method, **options)
        assert found.circuit == again.circuit
        assert found.method == method
        assert found.circuit.shape == model.component_shape
        assert len(found.circuit)
        assert Circuit.from_json(found.circuit.to_json()) == found.circuit
        assert (found.effects is None) == (method in CONTROLS)
        if method in ("activation_patching", "attribution_patching", "causal_tracing", "random_components"):
            target = n_parameters(model, match)
            assert n_parameters(model, found.circuit) == found.circuit.provenance["parameters"]
            assert abs(found.circuit.provenance["parameters"] - target) < target


def test_the_probe_gives_mlp_layers(tiny_model: LanguageModel, classes: Concept, monkeypatch: pytest.MonkeyPatch):
    """On planted activations; the random model's own say nothing."""
    random = np.random.default_rng(0)
    original = probing.probe_curve

    def plant(states, rows, subjects, answers, **named):
        planted = random.normal(size=states.shape)
        planted[2:] += np.array([3 if answers[row] == "Paris" else -3 for row in rows])[:, None]
        return original(planted, rows, subjects, answers, **named)

    monkeypatch.setattr(probing, "probe_curve", plant)
    found = run(tiny_model, classes, "fact_lookup_probe")
    assert found.effects is None
    assert found.probe is not None
    assert found.probe.kind == "class"
    assert found.circuit.mlp_layers == (1, 2)  # row 2 is the stream after layer 1; one layer beyond


def test_mlp_only_variants(tiny_model: LanguageModel, classes: Concept):
    for method in ("activation_patching", "attribution_patching", "causal_tracing"):
        found = run(tiny_model, classes, method, kinds=("mlp",), top=2)
        assert {part.kind for part in found.circuit.components} == {"mlp"}
        assert len(found.circuit) == 2
        assert np.isnan(found.effects.heads_LH).all() == (method != "attribution_patching")


def test_top_and_threshold_choose(tiny_model: LanguageModel, classes: Concept):
    effects = run(tiny_model, classes, "activation_patching", top=1).effects
    ranked = list(effects.ranked().values())
    assert len(run(tiny_model, classes, "activation_patching", top=4).circuit) == 4
    bar = (abs(ranked[2]) + abs(ranked[3])) / 2
    assert len(run(tiny_model, classes, "activation_patching", threshold=bar).circuit) == 3
    assert len(run(tiny_model, classes, "activation_patching").circuit) == min(package.DEFAULT_TOP, 15)
    with pytest.raises(EditError, match="reaches"):
        run(tiny_model, classes, "activation_patching", threshold=1e6)


def test_seeds_and_prompts(tiny_model: LanguageModel, classes: Concept):
    first, other = (run(tiny_model, classes, "causal_tracing", seed=seed).effects for seed in (0, 1))
    assert not np.array_equal(first.mlps_L, other.mlps_L)
    assert run(tiny_model, classes, "causal_tracing", max_prompts=5).effects.n_prompts == 5
    assert first.n_prompts == 12
    assert first.provenance["seed"] == 0


def test_wrong_settings_are_refused(tiny_model: LanguageModel, classes: Concept, tiny_shapes: Concept, unchecked_types):
    for options, message in (
        ({"method": "magic"}, "is not a localization method"),
        ({"method": "activation_patching", "metric": "accuracy"}, "metric is 'accuracy'"),
        ({"method": "activation_patching", "corruption": "shuffle"}, "corruption is 'shuffle'"),
        ({"method": "activation_patching", "kinds": ("neuron",)}, "attribution patching"),
        ({"method": "activation_patching", "kinds": ("layer",)}, "kinds is"),
        ({"method": "direct_effects", "kinds": ("mlp",)}, "measures head"),
        ({"method": "causal_tracing", "corruption": "swap"}, "with noise"),
        ({"method": "activation_patching", "max_prompts": 0}, "at least 1"),
        ({"method": "random_mlps"}, "takes its size"),
    ):
        with pytest.raises(ConfigError, match=message):
            run(tiny_model, classes, **options)
    with pytest.raises(ConceptError, match="no facts"):
        localize(tiny_model, tiny_shapes, "activation_patching")
    with pytest.raises(ConceptError, match="knows none of the 12 facts"):
        localize(tiny_model, classes, "activation_patching")
    foreign = Circuit.parse("L0.MLP", type(tiny_model.component_shape)(7, 4, 48))
    with pytest.raises(EditError, match="Choose them anew"):
        run(tiny_model, classes, "random_mlps", match=foreign)


runner = typer.testing.CliRunner()


def test_the_command_prints_and_writes_the_circuit(tiny_folder, classes: Concept, tmp_path):
    concept = tmp_path / "classes.jsonl"
    concept.write_text(dump_jsonl(classes))
    out = tmp_path / "circuit.json"
    arguments = [
        "localize", "--model", str(tiny_folder), "--concept", str(concept), "--method", "activation_patching",
        "--top", "3", "--known", "0", "--max-prompts", "6", "--device", "cpu", "--out", str(out),
    ]  # fmt: skip
    result = runner.invoke(app, [*arguments, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout.strip().splitlines()[-1])
    circuit = Circuit.from_json(out.read_text())
    assert [row["component"] for row in printed["components"]] == [str(part) for part in circuit.components]
    assert (len(circuit), printed["facts"], printed["provenance"]["n_prompts"]) == (3, 12, 6)
    assert printed["parameters"] > 0
    text = runner.invoke(app, arguments, catch_exceptions=False).stdout
    assert str(circuit.components[0]) in text
    control = [*arguments[:6], "random_mlps", "--match", str(out), "--device", "cpu", "--json"]
    control[5] = "--method"
    found = json.loads(runner.invoke(app, control, catch_exceptions=False).stdout.strip().splitlines()[-1])
    assert found["provenance"]["parameters_wanted"] == printed["parameters"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["--method", "magic"], "is not a localization method"),
        (["--corruption", "shuffle", "--known", "0"], "corruption is 'shuffle'"),
        (["--known", "0.99"], "Lower --known"),
        (["--out", "/nonexistent/circuit.json"], "does not exist"),
        (["--match", "/nonexistent/circuit.json"], "cannot be read"),
    ],
)
def test_the_command_refuses_in_one_line(tiny_folder, classes, tmp_path, changed, message, unchecked_types):
    concept = tmp_path / "classes.jsonl"
    concept.write_text(dump_jsonl(classes))
    arguments = ["localize", "--model", str(tiny_folder), "--concept", str(concept), "--method", "activation_patching"]
    with pytest.raises(PalimpsestError, match=message):
        runner.invoke(app, [*arguments, "--device", "cpu", *changed], catch_exceptions=False)
