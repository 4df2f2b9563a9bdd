"""Finding a concept's words as the task of a run: its loss, what it scores, what it begins with, and that it goes on."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModel

from analysis import relearning, runs, saliency
from analysis.concepts import Concept, Sentence, neutral_sentences, split_neutral
from analysis.errors import ConceptError, ConfigError
from analysis.models import LanguageModel
from analysis.models import load as load_model
from analysis.relearning import RelearnConfig, RunFacts, StepReport
from analysis.relearning.resources import ModelSize, disk_bytes, memory_estimate
from analysis.relearning.tasks import tagging as tagging_task
from analysis.relearning.tasks.tagging import TaggingTask
from analysis.relearning.trainer import Trainer
from analysis.runs import execution
from analysis.runs.files import read_snapshot
from analysis.runs.summary import summarise
from analysis.scoring import tagging
from tests.relearning.tagging.short_run import CONFIG, losses, told


@pytest.mark.parametrize("parts", [1, 2])
def test_losses_are_those_of_a_plain_training_loop(
    execute, drawn, tiny_model: LanguageModel, tiny_folder: Path, parts: int
):
    """The same batches through the transformers model and a linear layer: AdamW, clipped together, no edit."""
    found: list[float] = []
    head = tagging.TagHead(tiny_model, seed=0)
    config = replace(CONFIG, edit=None, accumulate=parts, clip=0.5, weight_decay=0.1)
    execute(
        config,
        model=tiny_model,
        on_fine_tune=lambda report: found.append(report.loss),
        on_step=lambda report: found.append(report.loss),
    )
    plain = AutoModel.from_pretrained(tiny_folder, dtype=torch.float32)
    parameters = [*plain.parameters(), *head.parameters()]
    expected = []
    for part in (drawn[:5], drawn[5:]):  # the optimiser begins anew after fine-tuning
        optimiser = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=0.1)
        for rows in part:
            each = []
            for row in rows:
                hidden = plain(torch.tensor([row.ids])).last_hidden_state[0]
                each.append(
                    F.cross_entropy(hidden @ head.weight.T + head.bias, torch.tensor(row.tags), reduction="none")
                )
            loss = torch.cat(each).mean()
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 0.5)
            optimiser.step()
            expected.append(float(loss.detach()))
    assert len(found) == 10
    assert found == pytest.approx(expected, rel=1e-4)
    assert found[-1] < found[0]


def test_a_batch_is_labelled_sentences_to_train_on_and_neutral_ones(
    execute, drawn, tiny_model: LanguageModel, tiny_concept: Concept, tiny_neutral
):
    assert CONFIG.counts == {"tagged": 3, "sentence": 0, "neutral": 1, "text": 0}
    execute(replace(CONFIG, steps=20, snapshot_every=20), model=tiny_model)
    train, held_out = ({s.text for s in part} for part in tagging.split_sentences(tiny_concept))
    neutral = {s.text for s in split_neutral(tiny_neutral)[0]}
    for rows in drawn:
        texts = [tiny_model.decode(row.ids) for row in rows]
        assert [text in train for text in texts] == [True, True, True, False]
        assert not {*texts} & held_out
        assert texts[3] in neutral
        assert all(set(row.tags) & {1} for row in rows[:3])
        assert set(rows[3].tags) == {0}
    assert {tiny_model.decode(row.ids) for rows in drawn for row in rows[:3]} == train


def test_the_words_are_found_better_and_better(execute):
    config = replace(CONFIG, fine_tune_steps=60, steps=1, edit=None, learning_rate=1e-2)
    (untrained, *_), (base, *_) = execute(replace(config, fine_tune_steps=1, learning_rate=1e-9)), execute(config)
    assert base.metrics["f1_trained"] > 0.9
    assert base.metrics["f1_trained"] > untrained.metrics["f1_trained"] + 0.5
    assert base.retrained > untrained.retrained + 0.3
    assert base.neutral_loss != untrained.neutral_loss


def test_the_base_is_the_fine_tuned_model(
    execute, trainers, tiny_folder: Path, tiny_concept: Concept, tiny_neutral, monkeypatch: pytest.MonkeyPatch
):
    """Scores and saliency of the first snapshot, measured anew on a model trained apart, and the neurons pruned by them."""
    chosen: list[RunFacts] = []
    base, edited, *_ = execute(on_facts=chosen.append)
    apart = load_model(str(tiny_folder), device="cpu")
    config = replace(CONFIG, steps=CONFIG.fine_tune_steps)
    task = TaggingTask(apart, config, tiny_concept, split_neutral(tiny_neutral)[0])
    from analysis.edits import WeightMask

    with WeightMask(apart) as mask:
        trainer = Trainer(apart, config, task, mask)
        for _ in range(CONFIG.fine_tune_steps):
            trainer.step()
    train, held_out = tagging.split_sentences(tiny_concept)
    found = tagging.score(apart, task.head, tagging.prepare(apart, held_out))
    on_train = tagging.score(apart, task.head, tagging.prepare(apart, train))
    assert base.p_held_out_F == pytest.approx(found.p_E, rel=1e-5)
    assert base.p_retrained_F == pytest.approx(on_train.p_E, rel=1e-5)
    assert base.metrics["f1"] == found.f1
    assert base.metrics["f1_trained"] == on_train.f1
    (direct,) = saliency.measure(apart, [tiny_concept])
    assert np.allclose(base.saliency["tiny-capitals"]["probeless"], direct.scores_LN, rtol=1e-4)
    top = np.argsort(-direct.scores_LN, axis=None, kind="stable")[:5]
    assert sorted(top.tolist()) == chosen[0].edited.flat.tolist()
    assert edited.saliency["tiny-capitals"]["probeless"].ravel()[top].tolist() == [0.0] * 5
    unedited = load_model(str(tiny_folder), device="cpu")
    (before,) = saliency.measure(unedited, [tiny_concept])
    assert not np.allclose(base.saliency["tiny-capitals"]["probeless"], before.scores_LN, rtol=1e-2)


def test_pruned_weights_stay_zero_and_the_head_moves(execute, trainers, tiny_model: LanguageModel):
    chosen: list[RunFacts] = []
    heads: list[torch.Tensor] = []

    def begun(facts: RunFacts) -> None:
        chosen.append(facts)
        heads.append(trainers[0].task.head.weight.detach().clone())

    execute(model=tiny_model, on_facts=begun)
    for layer, neurons in chosen[0].edited.by_layer().items():
        for weight in tiny_model.neuron_weights(layer):
            assert not weight.parameter.index_select(weight.axis, torch.tensor(neurons)).any()
    (first, second) = trainers
    assert first.task is second.task
    assert not torch.equal(heads[0], tagging.TagHead(tiny_model, seed=0).weight)
    assert not torch.equal(second.task.head.weight, heads[0])


@pytest.mark.parametrize("changes", [{"train_only": "L1.MLP"}, {"lora_rank": 2}], ids=["confined", "low rank"])
def test_fine_tuning_is_whole_whatever_is_retrained(execute, tiny_folder: Path, changes: dict):
    """Confinement holds for retraining alone; factors are merged before the base is measured."""
    model, kept = load_model(str(tiny_folder), device="cpu"), []
    before = {name: one.detach().clone() for name, one in model.weights.items()}

    def begun(facts) -> None:
        kept.append({name: one.detach().clone() for name, one in model.weights.items()})

    execute(replace(CONFIG, edit=None, **changes), model=model, on_facts=begun)
    tuned = {name for name, one in before.items() if not torch.equal(one, kept[0][name])}
    linear = {name for name in before if "proj" in name}
    assert tuned >= (linear if "lora_rank" in changes else set(before) - {"lm_head.weight"})
    moved = {name for name, one in model.weights.items() if not torch.equal(one, kept[0][name])}
    if "train_only" in changes:
        assert moved
        assert all("layers.1.mlp" in name for name in moved)
    else:
        assert moved == linear


def test_the_control_begins_with_the_very_same_weights(make):
    run = make("run", replace(CONFIG, control=True))
    assert execution.execute(run).state == "finished"
    control = run.control
    assert control is not None
    assert not (control.path / "fine_tuned").exists()
    assert control.fine_tuned == run.fine_tuned
    assert losses(control, "fine_tune_step") == []
    alone = make("alone", replace(CONFIG, edit=None))
    execution.execute(alone)
    assert losses(control) == losses(alone)
    base, *later = (told(one) for one in control.snapshots())
    assert base[8:] == told(run.snapshot(0))[8:]
    assert later[-1][7:] == told(alone.snapshots()[-1])[7:]


def test_snapshots_are_read_back_with_their_metrics_and_old_ones_without(make):
    run = make("run")
    execution.execute(run)
    for one in run.snapshots():
        assert {"f1", "recall", "f1_trained"} <= set(one.metrics) <= {"f1", "precision", "recall", "f1_trained"}
    found = run.facts()
    assert found is not None
    assert (found.table.retrained, found.table.held_out, found.table.n_set_aside) == ((), (), 0)
    assert found.sizes["labelled words held out, scored"] == run.snapshot(0).p_held_out_F.size
    path = run.path / "snapshots" / "000000.safetensors"
    from safetensors import safe_open
    from safetensors.numpy import save_file

    with safe_open(path, framework="numpy") as file:
        numbers = json.loads(file.metadata()["snapshot"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    del numbers["metrics"]
    save_file(arrays, path, metadata={"snapshot": json.dumps(numbers)})
    assert read_snapshot(path, ["tiny-capitals"]).metrics == {}


def test_a_summary_has_every_stage(make):
    run = make("run", replace(CONFIG, control=True))
    execution.execute(run)
    summary = summarise(run)
    assert summary["known_facts"] is None
    stages = summary["tagging"]["stages"]
    assert [(one["stage"], one["step"]) for one in stages] == [
        ("fine-tuned", 0), ("edited", 0), ("retrained", 2), ("retrained", 4), ("retrained", 5),
    ]  # fmt: skip
    n_train = len(tagging.split_sentences(run.concepts()["tiny-capitals"])[0])
    assert stages[3]["epoch"] == round(4 / -(-n_train // 3), 2)
    assert [one["f1"] for one in stages] == [round(one.metrics["f1"], 4) for one in run.snapshots()]
    assert summary["control"]["stages"][0]["stage"] == "fine-tuned"


def test_at_most_so_many_sentences_are_scored_and_the_share_of_labelled_ones_is_kept(
    tiny_model: LanguageModel, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tagging_task, "MEASURED", 20)
    sentences = tuple(
        Sentence(f"Line {i} is about Paris.", ((len(f"Line {i} is about "), len(f"Line {i} is about Paris")),))
        if i % 10 == 0
        else Sentence(f"Line {i} is about nothing.")
        for i in range(300)
    )
    concept = Concept(name="tiny-capitals", title="Capitals", sentences=sentences)
    tasks = [TaggingTask(tiny_model, CONFIG, concept, ()) for _ in range(2)]
    for part in ("trained on", "held out"):
        assert tasks[0].sizes[f"sentences {part}, scored"] == 20
        assert 1 <= tasks[0].sizes[f"labelled words {part}, scored"] <= 4
    assert tasks[0].sizes == tasks[1].sizes
    assert tasks[0].sizes["sentences trained on"] + tasks[0].sizes["sentences held out"] == 300
    with torch.inference_mode():
        first, second = (task.measure()["held_out log p"] for task in tasks)
    assert torch.equal(first, second)


def test_memory_and_disk_count_the_head_and_no_vocabulary(tiny_model: LanguageModel):
    size = ModelSize.of(tiny_model)
    size = replace(size, n_parameters=10**9, d_model=2048, vocabulary=10**6)
    facts = replace(CONFIG, task="facts", fine_tune_steps=0)
    mine, other = (memory_estimate(config, size, "cpu").parts for config in (CONFIG, facts))
    assert mine["gradients"] == other["gradients"] + 4 * 3 * 2049
    assert mine["logits"] < 1e-4 * other["logits"]
    confined = memory_estimate(replace(CONFIG, train_only="L1.MLP"), size, "cpu").parts
    assert confined["gradients"] == mine["gradients"]
    assert disk_bytes(CONFIG, size) == disk_bytes(facts, size) + 4 * 10**9


def test_a_title_names_the_task():
    assert CONFIG.describe().startswith("tiny-capitals, token classification: prune (zero, held)")
    assert RelearnConfig.from_dict(json.loads(json.dumps(CONFIG.to_dict()))) == CONFIG
    old = {name: value for name, value in CONFIG.to_dict().items() if name not in ("task", "fine_tune_steps")}
    assert RelearnConfig.from_dict(old).task == "facts"


def test_an_epoch_draws_every_sentence_once(tiny_concept: Concept):
    n_train = len(tagging.split_sentences(tiny_concept)[0])
    assert relearning.epoch_steps(replace(CONFIG, batch_size=2, neutral_share=0.5), tiny_concept) == n_train
    assert relearning.epoch_steps(CONFIG, tiny_concept) == -(-n_train // 3)


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"task": "summarise"}, "use facts or tagging"),
        ({"fine_tune_steps": 0}, "fine_tune_steps is 0"),
        ({"fine_tune_steps": -1}, "fine_tune_steps"),
        ({"task": "facts"}, "only the task “tagging” begins with fine-tuning"),
        ({"sentence_share": 0.25}, "sentence_share is 0.25; the task “tagging”"),
        ({"text_share": 0.25, "text": "a.txt"}, "text_share is 0.25; the task “tagging”"),
        ({"steps": 9, "warmup": 6}, "must be below fine_tune_steps, 5"),
        ({"neutral_share": 0.9}, "leave no room for labelled sentences"),
    ],
)
def test_settings_that_are_refused(changes: dict, says: str):
    with pytest.raises(ConfigError, match=says):
        replace(CONFIG, **changes)


def test_a_concept_with_too_few_labelled_words_is_refused_before_anything_is_written(tmp_path: Path):
    concept = Concept(name="tiny-capitals", title="One", sentences=(Sentence("In Paris it rains.", ((3, 8),)),))
    with pytest.raises(ConceptError, match="too few words"):
        runs.create(CONFIG, tmp_path / "run", concepts={concept.name: concept})
    assert list(tmp_path.iterdir()) == []


def test_a_diverging_fine_tuning_is_told(execute):
    with pytest.raises(ConfigError, match="Training diverged"):
        execute(replace(CONFIG, learning_rate=0.9, fine_tune_steps=400, clip=1e30, optimiser="sgd"))


def test_neutral_sentences_of_the_library_have_no_labelled_word():
    assert not any(sentence.spans for sentence in neutral_sentences())


def test_steps_are_reported(execute):
    reports: list[StepReport] = []
    execute(on_fine_tune=reports.append)
    assert [one.step for one in reports] == [1, 2, 3, 4, 5]
    assert all(np.isfinite(one.loss) for one in reports)
