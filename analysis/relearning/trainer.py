"""Takes optimiser steps on a seeded mixture of a task's training texts."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from analysis.edits import WeightMask
from analysis.models import LanguageModel
from analysis.relearning.config import RelearnConfig
from analysis.relearning.mixture import Mixture
from analysis.relearning.tasks.base import Task
from analysis.relearning.tracking.device_copies import ScalarCopies
from analysis.training.checkpoint import State, load_state, save_state
from analysis.training.lora import LowRank
from analysis.training.schedule import check_loss, learning_share

__all__ = ["Trainer"]

_DETERMINING = (
    "task",
    "fine_tune_steps",
    "origin",
    "train_only",
    "lora_rank",
    "lora_alpha",
    "batch_size",
    "accumulate",
    "neutral_share",
    "sentence_share",
    "text_share",
    "max_length",
    "optimiser",
    "momentum",
    "learning_rate",
    "schedule",
    "warmup",
    "weight_decay",
    "clip",
    "precision",
    "seed",
)
"""The settings that determine a step, besides the edit and the texts; a resumed training must match them."""


class Trainer:
    """AdamW or SGD on batches of a task.

    A step does not wait for a CUDA device: a loss is reported once it has been copied to the CPU.
    """

    def __init__(
        self,
        model: LanguageModel,
        config: RelearnConfig,
        task: Task,
        trained: WeightMask | LowRank,
        *,
        edit: Mapping[str, Any] | None = None,
        weights: str = "",
    ):
        """Start from the model's current weights.

        Args:
            model: Its weights change.
            config: Configuration of the run.
            task: The task to train.
            trained: The weights of the model to train.
            edit: JSON that identifies the edit made before training; `resume` refuses the state of another edit.
            weights: Digest of the unedited model's weights, if known; `resume` refuses the state of another model.
        """
        self.model, self.config, self.task, self.trained = model, config, task, trained
        self.mixture: Mixture[Any] = Mixture(config, task.rows)
        self.parameters = [*trained.parameters, *task.parameters]
        """The parameters that the optimiser steps."""
        self.optimiser = _optimiser(config, self.parameters, model.device)
        self.done = 0
        """Steps taken."""
        self._edit = dict(edit or {})
        self._weights = {"unedited model": weights} if weights else {}
        self._losses = ScalarCopies(model.device)

    def step(self) -> list[tuple[int, float]]:
        """Take one optimiser step; returns (step, loss) for every loss that has arrived since the last call.

        Losses are in nats per token. On CUDA they may be those of a few steps ago, elsewhere they are those of this step.

        Raises:
            ConfigError: a loss that has arrived is not finite; except on CUDA, the weights are as they were before the step.
        """
        config, self.done = self.config, self.done + 1
        rows = self.mixture.draw()
        n_counted = self.task.n_counted(rows)
        self.optimiser.zero_grad(set_to_none=True)
        loss = torch.zeros((), device=self.model.device)
        # rows come grouped by kind, so a stride gives every part its share of each kind
        for part in (rows[i :: config.accumulate] for i in range(config.accumulate)):
            part_loss = self.task.loss(part) / n_counted
            part_loss.backward()
            loss += part_loss.detach()
        self._losses.put(self.done, loss)
        arrived = self.arrived()
        self.trained.mask_gradients()
        torch.nn.utils.clip_grad_norm_(self.parameters, config.clip)
        share = learning_share(config.schedule, self.done, config.steps, config.warmup)
        for group in self.optimiser.param_groups:
            group["lr"] = config.learning_rate * share
        self.optimiser.step()
        self.trained.mask_update()
        return arrived

    def arrived(self, *, wait: bool = False) -> list[tuple[int, float]]:
        """(step, loss) for every loss that has arrived since the last call; with `wait`, for all steps taken since.

        Raises:
            ConfigError: a loss is not finite.
        """
        arrived = self._losses.take(wait=wait)
        for _, loss in arrived:
            check_loss(loss, self.config.learning_rate)
        return arrived

    def save(self, folder: Path, details: Mapping[str, Any] | None = None, *, keep: bool = False) -> None:
        """Write the state after the steps taken to `folder`; see `checkpoint.save_state`.

        Raises:
            OSError: the state cannot be written.
        """
        save_state(folder, self.done, *self._state(), details=details, keep=keep)

    def resume(self, folder: Path) -> State | None:
        """Load the newest state in `folder`; None if there is none.

        Raises:
            EditError: the state is damaged, or belongs to another edit, other texts, weights or settings.
        """
        state = load_state(folder, *self._state())
        if state is not None:
            self.trained.mask_update()
            self.done = state.step
        return state

    def _state(self) -> tuple:
        return self.parameters, self.optimiser, self.mixture.decks, self._identity()

    def _identity(self) -> dict[str, Any]:
        """What a resumed training must have in common with the saved one; the number of steps may change."""
        config = asdict(self.config)
        settings = {name: config[name] for name in _DETERMINING}
        return {"text": self.mixture.digest, "edit": self._edit, **self._weights, **settings}


def _optimiser(
    config: RelearnConfig, parameters: Sequence[nn.Parameter], device: torch.device
) -> torch.optim.Optimizer:
    fused = device.type in ("cpu", "cuda")
    if config.optimiser == "sgd":
        return torch.optim.SGD(
            parameters,
            lr=config.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            fused=fused,
        )
    return torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=fused)
