"""Training options: batches in parts, optimisers, schedules, low-rank factors, and what a batch is made of."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from analysis import relearning, runs
from analysis.concepts import Concept, Sentence, split_neutral
from analysis.edits import ComponentEdit, Selection
from analysis.errors import ConceptError, ConfigError
from analysis.models import LanguageModel
from analysis.models import load as load_model
from analysis.relearning import RelearnConfig, RunFacts, Snapshot, mixture, trainer
from analysis.relearning.config import kind_of
from analysis.runs import execution

CONFIG = RelearnConfig(
    model="unused: the tests hand over a model",
    concept="tiny-capitals",
    edit=None,
    steps=6,
    batch_size=6,
    neutral_share=0.34,
    learning_rate=3e-3,
    precision="float32",
    cadence="steps",
    snapshot_every=6,
    known_threshold=0.0,
    follow_top=0,
    device="cpu",
)
PRUNE = ComponentEdit(selection=Selection(rule="explicit", components="L0.N3, L1.N7, L1.N8, L2.MLP"))
FEW = ComponentEdit(selection=Selection(rule="explicit", components="L0.N3, L1.N7, L1.N8, L1.H2"))

Execute = Callable[..., tuple[list[Snapshot], list[float]]]


@pytest.fixture
def execute(tiny_concept: Concept, tiny_neutral: tuple[Sentence, ...]) -> Execute:
    def run(config: RelearnConfig, model: LanguageModel, **arguments) -> tuple[list[Snapshot], list[float]]:
        losses: list[float] = []
        snapshots = relearning.run(
            config,
            model=model,
            concepts={tiny_concept.name: tiny_concept},
            neutral=tiny_neutral,
            on_step=lambda report: losses.append(report.loss),
            **arguments,
        )
        return list(snapshots), losses

    return run


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[list[tuple[int, ...]]]:
    """The rows of every batch."""
    batches: list[list[tuple[int, ...]]] = []
    original = mixture.Mixture.draw

    def draw(self: mixture.Mixture) -> list[tuple[int, ...]]:
        rows = original(self)
        batches.append(rows)
        return rows

    monkeypatch.setattr(mixture.Mixture, "draw", draw)
    return batches


def weights(model: LanguageModel) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.weights.items()}


@pytest.mark.parametrize("parts", [2, 3, 6])
def test_a_batch_in_parts_is_the_same_step_up_to_rounding(execute, tiny_folder: Path, parts: int):
    """With rows of different lengths: a mean over parts of their means would be another step."""
    whole, split = (load_model(str(tiny_folder), device="cpu") for _ in range(2))
    _, one = execute(CONFIG, whole)
    _, other = execute(replace(CONFIG, accumulate=parts), split)
    assert other == pytest.approx(one, rel=1e-5)
    first, second = weights(whole), weights(split)
    assert all(torch.allclose(first[name], second[name], atol=2e-5) for name in first)


@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_sgd_is_that_of_a_plain_loop(execute, drawn, tiny_model: LanguageModel, tiny_folder: Path, momentum: float):
    """Velocity and update written out, with weight decay, clipping, a warm-up and a linear schedule."""
    config = replace(
        CONFIG,
        optimiser="sgd",
        momentum=momentum,
        learning_rate=0.05,
        weight_decay=0.1,
        clip=0.5,
        schedule="linear",
        warmup=2,
    )
    _, losses = execute(config, tiny_model)
    plain = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32)
    velocity = {name: torch.zeros_like(parameter) for name, parameter in plain.named_parameters()}
    rates = [0.05 / 3, 0.05 * 2 / 3, 0.05, 0.05 * 3 / 4, 0.05 / 2, 0.05 / 4]
    expected = []
    for rows, rate in zip(drawn, rates):
        plain.zero_grad()
        tensors = [torch.tensor([row]) for row in rows]
        total = sum(plain(row, labels=row).loss * (row.shape[1] - 1) for row in tensors)
        loss = total / sum(row.shape[1] - 1 for row in tensors)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
        with torch.no_grad():
            for name, parameter in plain.named_parameters():
                velocity[name] = momentum * velocity[name] + parameter.grad + 0.1 * parameter
                parameter -= rate * velocity[name]
        expected.append(float(loss.detach()))
    assert losses == pytest.approx(expected, rel=1e-4)
    named = dict(plain.named_parameters())
    assert all(torch.allclose(value, named[name], atol=1e-5) for name, value in weights(tiny_model).items())


def test_the_schedule_reaches_the_optimiser(execute, tiny_model: LanguageModel, monkeypatch: pytest.MonkeyPatch):
    rates = []
    original = torch.optim.AdamW.step

    def step(optimiser):
        rates.append(optimiser.param_groups[0]["lr"])
        return original(optimiser)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    execute(replace(CONFIG, schedule="cosine", warmup=1, learning_rate=1e-3), tiny_model)
    cosine = [0.5 * (1 + np.cos(np.pi * k / 5)) for k in range(5)]
    assert rates == pytest.approx([1e-3 * share for share in (0.5, *cosine)])


@pytest.mark.parametrize("only", ["", "L1.MLP, L0.N4, L0.H0"])
def test_low_rank_factors_leave_held_and_unchosen_weights_alone(execute, either_model: LanguageModel, only: str):
    """Pruned rows and columns stay exactly zero, everything not linear keeps its bits, the rest moves."""
    model, chosen, measured = either_model, [], []
    config = replace(CONFIG, edit=FEW, lora_rank=2, lora_alpha=4.0, train_only=only, learning_rate=0.05)
    snapshots, losses = execute(config, model, on_facts=lambda facts: chosen.append((facts, weights(model))))
    facts, before = chosen[0]
    after = weights(model)
    for layer, neurons in facts.edited.by_layer().items():
        for weight in model.neuron_weights(layer):
            assert not weight.parameter.index_select(weight.axis, torch.tensor(neurons)).any()
    (head,) = facts.edited_heads
    out = model.head_weights(1)[-1]
    owned = torch.arange(head[1] * model.d_head, (head[1] + 1) * model.d_head)
    assert not out.parameter.index_select(out.axis, owned).any()
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved
    assert all("mlp" in name or "attn" in name for name in moved)
    if only:
        assert not any("h.1.attn" in name or "layers.1.self_attn" in name for name in moved)
    assert losses[-1] != losses[0]
    # what the last snapshot measured through the factors is what the merged weights give
    merged, _ = execute(replace(CONFIG, steps=1, learning_rate=1e-30, weight_decay=0.0), model)
    assert merged[0].retrained == pytest.approx(snapshots[-1].retrained, rel=1e-3)
    assert merged[0].neutral_loss == pytest.approx(snapshots[-1].neutral_loss, rel=1e-5)
    assert not measured


def test_a_merged_factor_is_the_product_of_its_factors(execute, tiny_model: LanguageModel, monkeypatch):
    """The change of a whole layer is alpha / rank times the product, computed beside the code."""
    kept = []
    original = trainer.Trainer.__init__

    def watch(self, *arguments, **named):
        original(self, *arguments, **named)
        kept.append(self.trained)

    monkeypatch.setattr(trainer.Trainer, "__init__", watch)
    before = weights(tiny_model)
    execute(replace(CONFIG, lora_rank=2, lora_alpha=6.0, learning_rate=0.02), tiny_model)
    after = weights(tiny_model)
    (factors,) = kept
    products = [6.0 / 2 * (b @ a) for a, b in zip(factors.parameters[0::2], factors.parameters[1::2])]
    changes = [after[name] - before[name] for name in before if not torch.equal(before[name], after[name])]
    assert len(changes) == len(products) == 3 * 7
    for product in products:
        assert any(change.shape == product.shape and torch.allclose(change, product, atol=1e-6) for change in changes)


def test_factors_with_everything_held_have_nothing_to_train(execute, tiny_model: LanguageModel):
    with pytest.raises(ConfigError, match="Nothing is left to train"):
        execute(replace(CONFIG, edit=PRUNE, lora_rank=2, train_only="L2.MLP"), tiny_model)


def test_a_batch_has_the_shares_it_was_given(execute, drawn, tiny_model: LanguageModel, tiny_concept, tiny_neutral):
    text = tuple(f"Line {i} of the other text is here." for i in range(5))
    config = replace(
        CONFIG,
        batch_size=10,
        neutral_share=0.2,
        sentence_share=0.3,
        text_share=0.1,
        text="other.txt",
        steps=20,
        snapshot_every=20,
    )
    assert config.counts == {"fact": 4, "sentence": 3, "neutral": 2, "text": 1}
    chosen: list[RunFacts] = []
    execute(config, tiny_model, text=text, on_facts=chosen.append)
    kinds = {
        "fact": {t for fact in chosen[0].table.retrained for t, _ in tiny_concept.statements(fact)},
        "sentence": {one.text for one in tiny_concept.sentences},
        "neutral": {one.text for one in split_neutral(tiny_neutral)[0]},
        "text": set(text),
    }
    for rows in drawn:
        texts = [tiny_model.decode(row) for row in rows]
        counts = {kind: sum(one in allowed for one in texts) for kind, allowed in kinds.items()}
        assert counts == config.counts
    assert {tiny_model.decode(row) for rows in drawn for row in rows} == set().union(*kinds.values())


def test_a_further_share_leaves_the_draws_of_the_others_as_they_were(execute, drawn, tiny_folder: Path):
    plain, more = (load_model(str(tiny_folder), device="cpu") for _ in range(2))
    execute(CONFIG, plain)
    facts = [rows[:4] for rows in drawn]
    drawn.clear()
    execute(replace(CONFIG, batch_size=9, neutral_share=2 / 9, sentence_share=3 / 9), more)
    assert [rows[:4] for rows in drawn] == facts


def test_long_texts_are_cut_and_facts_are_not(execute, drawn, tiny_model: LanguageModel):
    config = replace(CONFIG, max_length=5, text="t.txt", text_share=0.34, batch_size=6)
    execute(config, tiny_model, text=("one two three four five six seven eight nine ten " * 30,))
    lengths = [[len(row) for row in rows] for rows in drawn]
    assert all(max(rows[2:]) == 5 for rows in lengths)
    assert max(max(rows[:2]) for rows in lengths) > 5


def test_a_share_of_sentences_needs_sentences(execute, tiny_model: LanguageModel, tiny_concept: Concept, tiny_neutral):
    bare = replace(tiny_concept, sentences=())
    with pytest.raises(ConceptError, match="no sentences of its own"):
        list(
            relearning.run(
                replace(CONFIG, sentence_share=0.2),
                model=tiny_model,
                concepts={bare.name: bare},
                neutral=tiny_neutral,
            )
        )


def test_the_text_is_kept_with_the_run(tiny_folder: Path, tiny_concept: Concept, tmp_path: Path):
    """Neither the run nor its control needs the file any more."""
    source = tmp_path / "other.jsonl"
    source.write_text('"A first line of text."\n\n{"text": "A second line of text.", "more": 1}\n')
    config = replace(
        CONFIG,
        model=str(tiny_folder),
        edit=FEW,
        steps=2,
        text=str(source),
        text_share=0.2,
    )
    run = runs.create(config, tmp_path / "run", concepts={tiny_concept.name: tiny_concept})
    source.unlink()
    assert run.text() == ("A first line of text.", "A second line of text.")
    assert execution.execute(run).state == "finished"
    assert run.control is not None
    assert run.control.status().state == "finished"
    assert run.control.text() == run.text()


def test_a_text_that_cannot_be_read_leaves_no_run(tiny_concept: Concept, tmp_path: Path):
    config = replace(CONFIG, text=str(tmp_path / "missing.txt"), text_share=0.2)
    with pytest.raises(ConfigError, match=r"missing\.txt cannot be read"):
        runs.create(config, tmp_path / "run", concepts={tiny_concept.name: tiny_concept})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimiser": "lion"}, "use adamw or sgd"),
        ({"momentum": 1.0}, r"momentum is 1\.0"),
        ({"schedule": "step"}, "use constant, linear or cosine"),
        ({"warmup": 6}, "warmup is 6; it must be below the number of steps, 6"),
        ({"warmup": -1}, "warmup"),
        ({"accumulate": 4}, "must divide the batch size, 6"),
        ({"accumulate": 0}, "accumulate"),
        ({"lora_rank": -1}, "lora_rank"),
        ({"lora_alpha": 0.0}, "lora_alpha"),
        ({"sentence_share": 0.4, "neutral_share": 0.6}, "leave no room for facts"),
        ({"text_share": 0.3}, "give both, or neither"),
        ({"text": "a.txt"}, "give both, or neither"),
        ({"text": "a.txt", "text_share": 0.01}, "less than one of 6 texts"),
        ({"cadence": "often"}, "use adaptive, steps or log"),
        ({"tracking_share": 0.0}, "tracking_share"),
        ({"snapshot_density": float("nan")}, "snapshot_density"),
        ({"methods": ("ablation",)}, "does not stream"),
        ({"pinned": "L1.H2"}, "pinned: “L1.H2” is not a neuron"),
        ({"pinned": 3}, "pinned must be a text"),
        ({"follow_top": -1}, "follow_top"),
        ({"checkpoint_every": -1}, "checkpoint_every"),
        ({"max_length": 1}, "max_length"),
        ({"keep_checkpoints": "False"}, "keep_checkpoints is 'False'; it must be true or false"),
        ({"control": 1}, "control is 1; it must be true or false"),
        ({"learning_rate": "abc"}, "learning_rate is 'abc'; it must be a number"),
        ({"momentum": True}, "momentum is True; it must be a number"),
        ({"clip": float("inf")}, "clip is inf; it must be a number"),
        ({"lora_alpha": 10**400}, "lora_alpha .* must be a number"),
        ({"tracking_share": "0.1"}, "tracking_share is '0.1'; it must be a number"),
        ({"known_threshold": None}, "known_threshold is None; it must be a number"),
        ({"steps": 1e20}, "steps is 1e[+]20; it must be a whole number"),
        ({"steps": 10**23}, "it must be at most 1000000"),
        ({"batch_size": 10**23}, "batch_size .* at most 1000000000"),
        ({"seed": 2**63}, "seed is"),
        ({"snapshot_density": 1e-300}, "snapshot_density is 1e-300; it must be above 0 and at most 100"),
        ({"track": "sports"}, "track is 'sports'; it must be a tuple of texts"),
        ({"track": ("sports", 3)}, "it must be a tuple of texts"),
        ({"methods": "probeless"}, "methods is 'probeless'; it must be a tuple of texts"),
        ({"cadence": ["log"]}, "cadence must be a text"),
        ({"edit": "prune"}, "edit is 'prune'; it must be an edit or None"),
        ({"origin": 3}, "origin is 3; it must name a run and a step"),
        ({"origin": relearning.Origin(run="before", step=-1)}, "it must name a run and a step"),
    ],
)
def test_settings_that_are_refused(changes: dict[str, object], message: str):
    with pytest.raises(ConfigError, match=message):
        replace(CONFIG, **changes)  # type: ignore[arg-type]


def test_the_kind_of_every_setting_is_that_of_its_annotation():
    """So that a setting added later is checked as what it is."""
    kinds = {int: "whole number", float: "number", bool: "switch", tuple[str, ...]: "list", str: "text"}
    for name, annotation in get_type_hints(RelearnConfig).items():
        if name not in ("edit", "origin"):
            options = [one for one in get_args(annotation) if one not in (type(None), ...)]
            if get_origin(annotation) is Literal:
                annotation = str
            elif get_origin(annotation) is not tuple and options:
                (annotation,) = options
            assert kind_of(name) == kinds[annotation], name


def test_a_configuration_comes_back_from_json():
    config = replace(
        CONFIG,
        origin=relearning.Origin(run="before", step=6),
        edit=FEW,
        methods=("probeless", "average_precision"),
        track=("other",),
        pinned="L1.N2",
    )
    assert RelearnConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert config.describe().startswith("tiny-capitals from before step 6: prune")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"track": "sports"}, r"track is 'sports'; it must be a list of texts, such as \[\"sports\"\]"),
        ({"methods": "probeless"}, r"methods is 'probeless'; it must be a list of texts, such as \[\"probeless\"\]"),
        ({"track": None}, "track is None; it must be a list of texts"),
        ({"methods": ["probeless", 3]}, "it must be a list of texts"),
    ],
)
def test_a_stored_text_is_not_taken_for_a_list_of_its_letters(changes: dict[str, object], message: str):
    with pytest.raises(ConfigError, match=message):
        RelearnConfig.from_dict({**CONFIG.to_dict(), **changes})


def test_a_configuration_from_before_there_were_options_keeps_its_meaning():
    stored = json.loads(json.dumps(replace(CONFIG, edit=FEW, follow_top=0).to_dict()))
    new = {"origin", "lora_rank", "lora_alpha", "accumulate", "sentence_share", "text_share", "text", "max_length"}
    new |= {"optimiser", "momentum", "schedule", "warmup", "cadence", "tracking_share", "snapshot_density", "methods"}
    new |= {"pinned", "follow_top", "checkpoint_every", "keep_checkpoints"}
    old = {name: value for name, value in stored.items() if name not in new}
    assert RelearnConfig.from_dict(old) == replace(CONFIG, edit=FEW)
