"""Relearning after an edit of heads and MLP layers, and training confined to a circuit."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from analysis import relearning, runs
from analysis.components.circuit import Circuit
from analysis.concepts import Concept, Sentence
from analysis.edits import ComponentEdit, Selection, circuit_slices
from analysis.errors import ConfigError, EditError
from analysis.models import LanguageModel
from analysis.relearning import RelearnConfig, RunFacts, Snapshot
from analysis.runs import execution
from analysis.runs.summary import summarise
from tests.raw_model import raw

MIXTURE = "L0.H1, L1.H3, L0.N5, L1.MLP"
CONFIG = RelearnConfig(
    model="unused: the tests hand over a model",
    concept="tiny-capitals",
    edit=ComponentEdit(selection=Selection(rule="explicit", components=MIXTURE)),
    steps=4,
    batch_size=6,
    neutral_share=0.34,
    learning_rate=3e-3,
    weight_decay=0.5,
    precision="float32",
    cadence="steps",
    snapshot_every=2,
    known_threshold=0.0,
    device="cpu",
)


@pytest.fixture
def execute(tiny_concept: Concept, tiny_neutral: tuple[Sentence, ...]):
    def run(config: RelearnConfig, model: LanguageModel, **arguments) -> list[Snapshot]:
        concepts = {tiny_concept.name: tiny_concept}
        return list(relearning.run(config, model=model, concepts=concepts, neutral=tiny_neutral, **arguments))

    return run


def differing(model: LanguageModel, before: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Where each parameter's bits changed."""
    return {
        name: parameter.detach().view(torch.int32) != before[name].view(torch.int32)
        for name, parameter in raw(model).named_parameters()
    }


def copied(model: LanguageModel) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in raw(model).named_parameters()}


def belonging(model: LanguageModel, text: str) -> dict[str, torch.Tensor]:
    """Which weights belong to the components, by parameter."""
    masks = {name: torch.zeros_like(p, dtype=torch.bool) for name, p in raw(model).named_parameters()}
    names = {id(parameter): name for name, parameter in raw(model).named_parameters()}
    for piece in circuit_slices(model, Circuit.parse(text, model.component_shape)):
        masks[names[id(piece.parameter)]].index_fill_(piece.axis, piece.indices, True)
    return masks


def test_pruned_components_stay_pruned(execute, either_model: LanguageModel):
    chosen: list[RunFacts] = []
    before = copied(either_model)
    _, edited, *training = execute(CONFIG, either_model, on_facts=chosen.append)
    pieces = circuit_slices(either_model, Circuit.parse(MIXTURE, either_model.component_shape))
    outputs = [either_model.blocks[layer].mlp_output.bias for layer in range(either_model.n_layers)]
    assert not any(piece.read().any() for piece in pieces if all(piece.parameter is not bias for bias in outputs))
    assert training[-1].loss < training[0].loss
    assert chosen[0].edited_heads == ((0, 1), (1, 3))
    assert chosen[0].edited.counts().tolist()[:2] == [1, either_model.n_neurons]
    assert edited.p_retrained_F.tolist() != training[-1].p_retrained_F.tolist()
    assert all(changed.any() for changed in differing(either_model, before).values())


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("text", ["L0.H1, L1.N3, L1.N40", "L1.MLP, L0.H0"])
def test_confined_training_changes_the_circuit_alone(execute, either_model: LanguageModel, text: str, precision: str):
    before, config = copied(either_model), replace(CONFIG, edit=None, train_only=text, precision=precision)
    base, *_, last = execute(config, either_model)
    mine = belonging(either_model, text)
    for name, changed in differing(either_model, before).items():
        assert not changed[~mine[name]].any()
        assert changed[mine[name]].any() == mine[name].any()
    assert last.p_retrained_F.tolist() != base.p_retrained_F.tolist()
    assert all(p.requires_grad and p.grad is None for p in raw(either_model).parameters())


def test_an_edit_is_held_while_training_is_confined(execute, either_model: LanguageModel):
    """The edit touches more than the circuit, the circuit more than the edit: only what is in it and free moves."""
    edit = ComponentEdit(selection=Selection(rule="explicit", components="L0.H1, L1.N3, L1.N9"))
    before = copied(either_model)
    execute(replace(CONFIG, edit=edit, train_only="L0.H1, L0.H2, L1.N3, L1.N4"), either_model)
    pruned, moving = (belonging(either_model, text) for text in ("L0.H1, L1.N3, L1.N9", "L0.H2, L1.N4"))
    for name, parameter in raw(either_model).named_parameters():
        assert not parameter[pruned[name]].any()
        rest = ~(pruned[name] | moving[name])
        assert torch.equal(parameter[rest].view(torch.int32), before[name][rest].view(torch.int32))
        assert (parameter[moving[name]] != before[name][moving[name]]).all()


def test_a_weight_that_may_regrow_does_so_inside_the_circuit_only(execute, tiny_model: LanguageModel):
    edit = ComponentEdit(hold=False, selection=Selection(rule="explicit", components="L1.N3, L1.N9"))
    execute(replace(CONFIG, edit=edit, train_only="L1.N3"), tiny_model)
    out = tiny_model.neuron_weights(1)[-1].parameter
    assert out[:, 3].all()
    assert not out[:, 9].any()


def test_the_control_is_confined_too(execute, tiny_folder: Path, tiny_model: LanguageModel):
    config = replace(CONFIG, train_only="L2.MLP")
    assert config.as_control().train_only == "L2.MLP"
    before = copied(tiny_model)
    execute(config.as_control(), tiny_model)
    mine = belonging(tiny_model, "L2.MLP")
    assert all(torch.equal(changed, mine[name]) for name, changed in differing(tiny_model, before).items())


def test_the_same_seed_gives_the_same_confined_run(execute, tiny_folder: Path):
    from analysis.models import load

    losses: list[list[float]] = []
    for _ in range(2):
        model = load(str(tiny_folder), device="cpu")
        losses.append([s.loss for s in execute(replace(CONFIG, train_only="L0.H3, L2.MLP"), model)])
    assert losses[0] == losses[1]


def test_a_stored_run_tells_its_heads_and_its_confinement(tiny_folder: Path, tiny_concept: Concept, tmp_path: Path):
    config = replace(CONFIG, model=str(tiny_folder), train_only="L2.MLP, L2.H0", steps=1)
    run = runs.create(config, tmp_path / "run", concepts={tiny_concept.name: tiny_concept})
    title = "tiny-capitals: prune (zero, held): L0.H1, L1.H3, L0.N5, L1.MLP; training only L2.MLP, L2.H0"
    assert run.record["title"] == title
    execution.execute(run)
    facts, control = run.facts(), run.control
    assert facts.edited_heads == ((0, 1), (1, 3))
    assert facts.edited.counts().tolist() == [1, 48, 0]
    assert control.facts().edited_heads == ()
    assert control.config == config.as_control()
    summary = summarise(run)
    assert (summary["edited_neurons"], summary["edited_heads"]) == (49, 2)
    assert summary["train_only"] == "L2.MLP, L2.H0"
    # as written before heads could be edited
    stored = json.loads((run.path / "facts.json").read_text())
    del stored["edited_heads"]
    (run.path / "facts.json").write_text(json.dumps(stored))
    assert run.facts() == replace(facts, edited_heads=())


@pytest.mark.parametrize(
    ("edit", "train_only", "error", "message"),
    [
        (None, "L0.H4", EditError, "outside the model"),
        (None, "L3.MLP", EditError, "outside the model"),
        (CONFIG.edit, "L1.N7, L0.H1", ConfigError, "Nothing is left to train"),
    ],
)
def test_a_circuit_that_cannot_be_trained(
    execute, tiny_model: LanguageModel, edit: ComponentEdit | None, train_only: str, error: type, message: str
):
    """Told before anything is measured for long, and before the first snapshot."""
    with pytest.raises(error, match=message):
        execute(replace(CONFIG, edit=edit, train_only=train_only), tiny_model)
    assert all(parameter.requires_grad for parameter in raw(tiny_model).parameters())
