"""Relearning on the tiny model: the sequence of snapshots, reproducibility, the control, and what stays zero."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from analysis import relearning
from analysis.concepts import Concept, Fact, Sentence, split_neutral
from analysis.edits import ComponentEdit, Selection
from analysis.errors import ConceptError, MemoryShortError
from analysis.models import LanguageModel
from analysis.models import load as load_model
from analysis.relearning import Beginning, RelearnConfig, RunFacts, Snapshot, mixture
from analysis.saliency import MOMENT_METHODS
from analysis.scoring.factual_recall import known_facts
from tests.raw_model import raw

CONFIG = RelearnConfig(
    model="unused: the tests hand over a model",
    concept="tiny-capitals",
    edit=ComponentEdit(selection=Selection(rule="top_k", value=6)),
    steps=5,
    batch_size=6,
    neutral_share=0.34,
    learning_rate=3e-3,
    precision="float32",
    cadence="steps",
    snapshot_every=2,
    known_threshold=0.0,
    device="cpu",
)


@pytest.fixture
def execute(tiny_folder: Path, tiny_concept: Concept, tiny_shapes: Concept, tiny_neutral: tuple[Sentence, ...]):
    """Run a configuration on a fresh tiny model (or the one given) and return its snapshots."""

    def run(config: RelearnConfig = CONFIG, model: LanguageModel | None = None, **arguments) -> list[Snapshot]:
        arguments = {
            "concepts": {concept.name: concept for concept in (tiny_concept, tiny_shapes)},
            "neutral": tiny_neutral,
        } | arguments
        model = model or load_model(str(tiny_folder), device="cpu")
        return list(relearning.run(config, model=model, **arguments))

    return run


def p(snapshot: Snapshot) -> bytes:
    return snapshot.p_retrained_F.tobytes() + snapshot.p_held_out_F.tobytes()


def test_phases_steps_and_indices(execute):
    steps: list[int] = []
    snapshots = execute(on_step=lambda report: steps.append(report.step))
    assert [s.phase for s in snapshots] == ["base", "edited", "training", "training", "training"]
    assert [s.step for s in snapshots] == [0, 0, 2, 4, 5]
    assert [s.index for s in snapshots] == list(range(5)) == list(range(CONFIG.n_snapshots))
    assert steps == [1, 2, 3, 4, 5]
    assert [s.loss is None for s in snapshots] == [True, True, False, False, False]
    assert [s.seconds for s in snapshots] == sorted(s.seconds for s in snapshots)


def test_contents_of_a_snapshot(execute):
    for snapshot in execute(replace(CONFIG, track=("tiny-shapes",), steps=1)):
        assert (snapshot.p_retrained_F.shape, snapshot.p_held_out_F.shape) == ((4,), (2,))
        assert snapshot.retrained == snapshot.p_retrained_F.mean()
        assert snapshot.held_out == snapshot.p_held_out_F.mean()
        assert set(snapshot.saliency) == {"tiny-capitals", "tiny-shapes"}
        for methods in snapshot.saliency.values():
            assert set(methods) == set(MOMENT_METHODS)
            assert all(scores.shape == (3, 48) and np.isfinite(scores).all() for scores in methods.values())


def test_a_snapshots_loss_is_the_mean_since_the_last_one(execute):
    losses: list[float] = []
    snapshots = execute(on_step=lambda report: losses.append(report.loss))
    assert [s.loss for s in snapshots[2:]] == [np.mean(losses[:2]), np.mean(losses[2:4]), losses[4]]


def test_losses_are_those_of_a_plain_training_loop(execute, drawn, tiny_model: LanguageModel, tiny_folder: Path):
    """The same batches through the transformers model alone: AdamW, clipped, the mean over real tokens, no edit."""
    losses: list[float] = []
    config = replace(CONFIG.as_control(), weight_decay=0.1, clip=0.5)
    execute(config, model=tiny_model, on_step=lambda report: losses.append(report.loss))
    plain = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32)
    optimiser = torch.optim.AdamW(plain.parameters(), lr=config.learning_rate, weight_decay=0.1)
    expected = []
    for facts, neutral in zip(drawn[::2], drawn[1::2]):
        rows = [torch.tensor([row]) for row in (*facts, *neutral)]
        total = sum(plain(row, labels=row).loss * (row.shape[1] - 1) for row in rows)
        loss = total / sum(row.shape[1] - 1 for row in rows)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
        optimiser.step()
        expected.append(float(loss.detach()))
    assert losses == pytest.approx(expected, rel=1e-4)
    assert losses[-1] < losses[0] - 0.1


def test_training_learns_what_it_trains_on(execute):
    base, edited, *training = execute(replace(CONFIG, steps=60, snapshot_every=30, batch_size=8))
    assert training[-1].loss < training[0].loss
    assert training[-1].retrained > 10 * edited.retrained
    assert training[-1].retrained > base.retrained


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[int, ...], ...]]:
    """The token rows of every draw from a deck, in order."""
    draws: list[tuple[tuple[int, ...], ...]] = []

    class Watched(mixture.Deck):
        def draw(self, count: int) -> list[tuple[int, ...]]:
            rows = super().draw(count)
            draws.append(tuple(rows))
            return rows

    monkeypatch.setattr(mixture, "Deck", Watched)
    return draws


def test_neither_held_out_facts_nor_measured_text_are_trained_on(
    execute, drawn, tiny_model: LanguageModel, tiny_concept: Concept, tiny_neutral
):
    chosen: list[RunFacts] = []
    execute(replace(CONFIG, steps=12), model=tiny_model, on_facts=chosen.append)
    trained = [tiny_model.decode(row) for rows in drawn for row in rows]
    facts = chosen[0].table
    retrained = {text for fact in facts.retrained for text, _ in tiny_concept.statements(fact)}
    train, measured = split_neutral(tiny_neutral)
    neutral = {sentence.text for sentence in train}
    assert [len(rows) for rows in drawn] == [4, 2] * 12
    assert set(trained) == retrained | neutral
    assert {fact.subject for fact in facts.held_out} == {"Spain", "Greece"}
    assert (chosen[0].n_neutral_train, chosen[0].n_neutral_measured) == (len(train), len(measured))
    assert trained.count("The capital of France is Paris") == 12 * 4 / 8  # without replacement: each text as often


def test_the_reported_facts_name_the_edit(execute, tiny_model: LanguageModel):
    chosen: list[RunFacts] = []
    snapshots = execute(model=tiny_model, on_facts=chosen.append)
    (facts,) = chosen
    top = np.argsort(-snapshots[0].saliency["tiny-capitals"]["probeless"], axis=None, kind="stable")[:6]
    assert facts.shape == (3, 48)
    assert sorted(top.tolist()) == facts.edited.flat.tolist()
    assert facts.ledger is not None
    assert facts.ledger["before"] != facts.ledger["after"]
    assert facts.table.n_set_aside == 0


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_the_same_seed_gives_the_same_run(execute, precision: str):
    first, second, other = (
        execute(replace(CONFIG, seed=seed, precision=precision, track=("tiny-shapes",))) for seed in (5, 5, 6)
    )
    assert [s.loss for s in first] == [s.loss for s in second]
    assert [p(s) for s in first] == [p(s) for s in second]
    assert [s.neutral_loss for s in first] == [s.neutral_loss for s in second]
    for a, b in zip(first, second):
        for name, methods in a.saliency.items():
            assert all(np.array_equal(scores, b.saliency[name][method]) for method, scores in methods.items())
    assert [s.loss for s in first[2:]] != [s.loss for s in other[2:]]
    assert p(first[-1]) != p(other[-1])
    assert p(first[1]) == p(other[1])  # the seed has no part in the edit


def test_control_trains_on_the_same_batches_without_the_edit(execute, drawn):
    chosen: list[RunFacts] = []
    edited = execute(on_facts=chosen.append)
    with_edit = list(drawn)
    drawn.clear()
    control = execute(CONFIG.as_control(), on_facts=chosen.append)
    assert drawn == with_edit
    assert [s.phase for s in control] == ["base", "training", "training"]
    assert [s.step for s in control] == [0, 4, 5]
    assert p(control[0]) == p(edited[0])
    assert p(control[-1]) != p(edited[-1])
    assert (len(chosen[1].edited), chosen[1].ledger) == (0, None)


def test_a_shared_beginning_changes_nothing_but_the_work(execute):
    chosen: list[RunFacts] = []
    edited = execute(on_facts=chosen.append)
    beginning = Beginning(table=chosen[0].table, base=edited[0])
    stages: list[str] = []
    shared = execute(CONFIG.as_control(), beginning=beginning, on_progress=stages.append)
    alone = execute(CONFIG.as_control())
    assert [(s.index, s.phase, s.step, s.loss) for s in shared] == [(s.index, s.phase, s.step, s.loss) for s in alone]
    assert [p(s) for s in shared] == [p(s) for s in alone]
    assert "Finding the facts the model knows" not in stages


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_pruned_weights_are_exactly_zero_after_training(execute, tiny_model: LanguageModel, precision: str):
    chosen: list[RunFacts] = []
    before = {name: parameter.detach().clone() for name, parameter in raw(tiny_model).named_parameters()}
    execute(replace(CONFIG, weight_decay=0.5, precision=precision), model=tiny_model, on_facts=chosen.append)
    for layer, neurons in chosen[0].edited.by_layer().items():
        for weight in tiny_model.neuron_weights(layer):
            assert not weight.parameter.index_select(weight.axis, torch.tensor(neurons)).any()
    assert all(not torch.equal(parameter, before[name]) for name, parameter in raw(tiny_model).named_parameters())


def test_the_update_itself_is_masked(execute, tiny_model: LanguageModel, monkeypatch: pytest.MonkeyPatch):
    """A neuron of zeros gets no gradient anyway: only an optimiser that moves every weight tells whether it is held."""
    chosen: list[RunFacts] = []
    plain = torch.optim.AdamW.step

    def step(optimiser):
        plain(optimiser)
        with torch.no_grad():
            for parameter in optimiser.param_groups[0]["params"]:
                parameter.add_(1e-3)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    execute(model=tiny_model, on_facts=chosen.append)
    for layer, neurons in chosen[0].edited.by_layer().items():
        for weight in tiny_model.neuron_weights(layer):
            assert not weight.parameter.index_select(weight.axis, torch.tensor(neurons)).any()


def test_weights_that_are_not_held_grow_back(execute, tiny_model: LanguageModel):
    chosen: list[RunFacts] = []
    edit = replace(CONFIG.edit, hold=False)
    execute(replace(CONFIG, edit=edit), model=tiny_model, on_facts=chosen.append)
    for layer, neurons in chosen[0].edited.by_layer().items():
        out = tiny_model.neuron_weights(layer)[-1]
        assert out.parameter.index_select(out.axis, torch.tensor(neurons)).abs().max() > 1e-4


def test_a_pruned_neuron_has_no_saliency(execute):
    chosen: list[RunFacts] = []
    base, edited, *_, last = execute(on_facts=chosen.append)
    mask = chosen[0].edited.mask()
    for method in ("probeless", "standardised"):
        assert (base.saliency["tiny-capitals"][method][mask] > 0).all()
        assert not edited.saliency["tiny-capitals"][method][mask].any()
        assert not last.saliency["tiny-capitals"][method][mask].any()


@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_a_stop_request_ends_with_one_last_snapshot(execute, stop_after: int):
    steps: list[int] = []
    snapshots = execute(on_step=lambda report: steps.append(report.step), should_stop=lambda: len(steps) >= stop_after)
    assert steps == list(range(1, stop_after + 1))
    assert snapshots[-1].step == stop_after
    assert len({s.step for s in snapshots if s.phase == "training"}) == len(snapshots) - 2


def test_too_few_known_facts(execute):
    with pytest.raises(ConceptError, match=r"knows 0 of the 6 facts.*0\.9.*Lower the threshold"):
        execute(replace(CONFIG, known_threshold=0.9))


@pytest.mark.parametrize(("split", "purpose"), [("retrained", "hold out"), ("held_out", "retrain on")])
def test_an_empty_split_says_which(execute, tiny_concept: Concept, split: str, purpose: str):
    facts = tuple(Fact(fact.subject, fact.answer, fixed_split=split) for fact in tiny_concept.facts)
    concept = replace(tiny_concept, facts=facts)
    with pytest.raises(ConceptError, match=f"none to {purpose}"):
        execute(concepts={concept.name: concept})


def test_unknown_facts_are_set_aside(tiny_model: LanguageModel, tiny_concept: Concept):
    _, table = known_facts(tiny_model, tiny_concept, threshold=0.0)
    splits = table.groupby("split")["p"].max()
    threshold = float(splits.min())  # the split with less known facts keeps exactly one
    facts = relearning.choose_facts(tiny_model, tiny_concept, threshold)
    assert len(facts.retrained) + len(facts.held_out) == (table["p"] >= threshold).sum()
    assert facts.n_set_aside == (table["p"] < threshold).sum() > 0


def test_too_little_memory(execute, monkeypatch: pytest.MonkeyPatch, tiny_model: LanguageModel):
    monkeypatch.setattr("analysis.models.memory.free_bytes", lambda device: 2**20)
    with pytest.raises(MemoryShortError, match="Relearning with"):
        execute(model=tiny_model)


def test_an_unknown_concept(execute):
    with pytest.raises(ConceptError, match="no concept “absent”"):
        execute(replace(CONFIG, track=("absent",)))


def test_too_little_neutral_text(execute, tiny_neutral):
    with pytest.raises(ConceptError, match="neutral text"):
        execute(neutral=tiny_neutral[:1])


def test_neutral_text_of_single_tokens(execute):
    """A text of one token has nothing to predict; none must reach a batch, and none at all is an error."""
    with pytest.raises(ConceptError, match="neutral"):
        execute(neutral=(Sentence("The kettle was full."), Sentence("a"), Sentence("b")))


def test_no_neutral_share_trains_on_facts_alone(execute, drawn):
    execute(replace(CONFIG, neutral_share=0.0))
    assert [len(rows) for rows in drawn] == [6] * 5


@pytest.mark.parametrize("count", [2, 5, 9, 200])
def test_neutral_text_is_either_trained_on_or_measured(count: int):
    sentences = tuple(Sentence(f"Sentence {i}.") for i in range(count))
    train, measured = split_neutral(sentences)
    assert sorted((*train, *measured), key=sentences.index) == list(sentences)
    assert not set(train) & set(measured)
    assert len(train) >= len(measured) >= 1
    assert split_neutral((*sentences, Sentence("One more.")))[1][: len(measured)] == measured


def test_a_model_is_loaded_where_none_is_given(tiny_folder: Path, tiny_concept: Concept, tiny_neutral):
    stages: list[str] = []
    snapshots = relearning.run(
        replace(CONFIG, model=str(tiny_folder), steps=1),
        concepts={tiny_concept.name: tiny_concept},
        neutral=tiny_neutral,
        on_progress=stages.append,
    )
    assert len(list(snapshots)) == 3
    assert stages[0] == "Loading the model"
    assert stages[-1] == "Relearning"
