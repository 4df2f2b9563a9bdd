"""A short run of the tagging task, and how two of them are compared."""

from collections.abc import Callable

import torch
from safetensors.torch import load_file

from analysis.edits import ComponentEdit, Selection
from analysis.relearning import RelearnConfig, Snapshot
from analysis.relearning.trainer import Trainer
from analysis.runs.directory import RunDirectory

CONFIG = RelearnConfig(
    model="unused: most tests hand over a model",
    concept="tiny-capitals",
    task="tagging",
    fine_tune_steps=5,
    edit=ComponentEdit(selection=Selection(rule="top_k", value=5)),
    steps=5,
    batch_size=4,
    neutral_share=0.25,
    learning_rate=3e-3,
    precision="float32",
    cadence="steps",
    snapshot_every=2,
    checkpoint_every=2,
    follow_top=3,
    device="cpu",
    control=False,
)

Execute = Callable[..., list[Snapshot]]


def losses(run: RunDirectory, kind: str = "step") -> list[tuple[int, float]]:
    return [(event["step"], event["loss"]) for event in run.events() if event["kind"] == kind]


def told(one: Snapshot) -> tuple:
    """Everything but the time it took."""
    scores = {(c, m): values.tobytes() for c, methods in one.saliency.items() for m, values in methods.items()}
    probabilities = one.p_retrained_F.tobytes(), one.p_held_out_F.tobytes()
    numbers = one.index, one.phase, one.step, one.loss, one.neutral_loss, one.words, one.similarity, one.metrics
    return *numbers, probabilities, scores


def state(trainer: Trainer) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """The model's weights and the head's as they are now."""
    return {name: one.detach().clone() for name, one in trainer.model.weights.items()}, trainer.parameters[-2].detach()


def newest(run: RunDirectory) -> dict[str, torch.Tensor]:
    return load_file(run.path / "checkpoints" / f"step-{run.checkpoints()[-1]:06d}.safetensors")
