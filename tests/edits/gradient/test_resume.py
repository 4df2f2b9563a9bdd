"""A training that is stopped, killed, or given a damaged state: the very weights of an uninterrupted one, or those before."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from analysis.edits import Ledger, Materials, plan
from analysis.edits.gradient.edit import GradientEdit
from analysis.edits.gradient.training import Training
from analysis.errors import EditError, StoppedError
from analysis.models import LanguageModel
from tests.edits.gradient.gradient_edits import EDITS, UNLEARN
from tests.shared_models import same_bits, state


def test_two_trainings_give_the_same_bits_and_another_seed_others(tiny_folder: Path, training):
    from analysis.models import load

    results = []
    for seed in (0, 0, 1):
        model = load(str(tiny_folder), device="cpu")
        torch.manual_seed(seed + 77)  # what the surrounding program drew before must not matter
        Ledger(model).apply(training(model, replace(UNLEARN, seed=seed)))
        results.append(state(model))
    assert same_bits(results[0], results[1])
    assert not same_bits(results[0], results[2])


@pytest.mark.parametrize(
    "edit",
    [
        replace(UNLEARN, steps=7, only="L0.N3, L1.MLP, L2.H0"),
        replace(EDITS["npo"], steps=7, precision="bf16"),
        replace(EDITS["llm_surgery"], steps=7, lora_rank=2),
        replace(EDITS["rmu"], steps=7, schedule="constant"),
    ],
    ids=["confined", "whole", "low rank", "rmu"],
)
def test_a_resumed_training_gives_the_very_weights_of_an_uninterrupted_one(
    tiny_model: LanguageModel, training, tmp_path: Path, edit: GradientEdit
):
    before, losses = state(tiny_model), []
    whole = Ledger(tiny_model)
    whole.apply(training(tiny_model, edit, on_step=lambda step, loss, _: losses.append(loss)))
    expected = state(tiny_model)
    whole.undo()
    assert same_bits(before, state(tiny_model))

    asked, ledger, resumed = [], Ledger(tiny_model), []
    stop_after_5 = {"checkpoint_folder": tmp_path / "state", "checkpoint_every": 2}
    with pytest.raises(StoppedError, match="step 5 of 7"):
        ledger.apply(
            training(
                tiny_model, edit, should_stop=lambda: asked.append(0) or len(asked) == 5, on_step=None, **stop_after_5
            )
        )
    assert same_bits(before, state(tiny_model))
    assert ledger.entries == ()
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["step-000005.safetensors"]
    ledger.apply(training(tiny_model, edit, on_step=lambda step, loss, _: resumed.append((step, loss)), **stop_after_5))
    assert resumed == list(enumerate(losses, 1))[5:]
    assert same_bits(expected, state(tiny_model))


def test_a_crash_loses_the_steps_since_the_last_state_only(tiny_model: LanguageModel, training, tmp_path: Path):
    before, steps = state(tiny_model), []

    def crash(step: int, loss: float, terms: object) -> None:
        if step == 4:
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        Ledger(tiny_model).apply(
            training(tiny_model, UNLEARN, on_step=crash, checkpoint_folder=tmp_path, checkpoint_every=3)
        )
    assert same_bits(before, state(tiny_model))
    Ledger(tiny_model).apply(
        training(tiny_model, UNLEARN, on_step=lambda step, *_: steps.append(step), checkpoint_folder=tmp_path)
    )
    assert steps == [4]


def test_a_state_of_another_training_or_a_damaged_one_is_refused(
    tiny_model: LanguageModel, materials: Materials, training, tmp_path: Path
):
    ledger = Ledger(tiny_model)
    ledger.apply(training(tiny_model, UNLEARN, checkpoint_folder=tmp_path, checkpoint_every=2))
    ledger.undo()
    before = state(tiny_model)

    def refused(change: Training, message: str) -> None:
        change.checkpoint_folder = tmp_path
        with pytest.raises(EditError, match=message):
            ledger.apply(change)
        assert same_bits(before, state(tiny_model))

    refused(training(tiny_model, replace(UNLEARN, learning_rate=2e-3)), "another edit")
    refused(plan(UNLEARN, tiny_model, replace(materials, neutral=materials.neutral[:3])), "another text")
    with torch.no_grad():
        tiny_model.blocks[0].mlp_output.weight[0, 0] += 1
    before = state(tiny_model)
    refused(training(tiny_model, UNLEARN), "another model")
    with torch.no_grad():
        tiny_model.blocks[0].mlp_output.weight[0, 0] -= 1
    before = state(tiny_model)
    (tensors,) = tmp_path.glob("*.safetensors")
    tensors.write_bytes(tensors.read_bytes()[:-40])
    refused(training(tiny_model, UNLEARN), "damaged")
    save_file({"0.value": torch.zeros(1)}, tensors, metadata={"state": "[]"})
    refused(training(tiny_model, UNLEARN), "damaged")


def test_a_state_that_cannot_be_written_leaves_the_weights(tiny_model: LanguageModel, training, tmp_path: Path):
    before = state(tiny_model)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(EditError, match="cannot be written"):
        Ledger(tiny_model).apply(
            training(tiny_model, UNLEARN, checkpoint_folder=tmp_path / "file" / "state", checkpoint_every=1)
        )
    assert same_bits(before, state(tiny_model))
