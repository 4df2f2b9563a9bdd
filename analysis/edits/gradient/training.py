"""Trains the weights of a gradient edit with AdamW; `Training` is the change that a ledger applies.

A stop, an error or a diverging loss raises an exception, and the ledger restores every weight. If a checkpoint folder is
given, the training can be resumed and ends with the same weights as an uninterrupted one, bit for bit.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from analysis.components.circuit import Circuit, Shape
from analysis.concepts import Fact
from analysis.edits.deltas import digest
from analysis.edits.edit import Change, Materials
from analysis.edits.gradient.edit import GradientEdit
from analysis.edits.gradient.examples import FactChoice, Row, choose_facts, digest_rows, rows_by_kind
from analysis.edits.gradient.objectives.rmu import Rmu
from analysis.edits.gradient.terms import Losses
from analysis.errors import ConfigError, EditError, StoppedError
from analysis.models import LanguageModel, memory
from analysis.training.checkpoint import load_state, save_state
from analysis.training.lora import LowRank, linear_slices, stored_slices
from analysis.training.masks import WeightMask
from analysis.training.schedule import check_loss, learning_share, reproducible
from analysis.training.slices import Slice, check_shape, circuit_slices

__all__ = ["Training", "plan_gradient"]

_TOKENS_PER_TEXT = 32
_RMU_LAYERS = 3


@dataclass(kw_only=True)
class Training(Change[GradientEdit]):
    """A gradient edit with its texts. The fields from `on_step` on may be set before it is written."""

    edit: GradientEdit
    shape: Shape
    """Shape of the model it was planned for."""
    facts: FactChoice
    """The facts it removes, updates and keeps."""
    rows: Mapping[str, Sequence[Row]]
    """Tokenised texts by kind."""
    n_weights: int
    """Number of single weights that may change."""
    n_parameters: int
    """Number of single weights of the model."""
    on_step: Callable[[int, float, Mapping[str, float]], None] | None = None
    """Called after every step with its number, from 1, the loss, and every term's unweighted loss."""
    should_stop: Callable[[], bool] | None = None
    """Called after every step but the last: True ends the training with a `StoppedError`."""
    checkpoint_folder: Path | None = None
    """Folder in which the training state is saved, and from which a saved state is resumed."""
    checkpoint_every: int = 10
    """Steps between saved states; a stop saves one, too."""
    hold: Sequence[Slice] = ()
    """Weights that must not change: those of a ledger's held edits."""

    @property
    def injected(self) -> tuple[Fact, ...]:
        return self.facts.injected

    @property
    def removed(self) -> tuple[Fact, ...] | None:
        return self.facts.removed

    def extent(self) -> str:
        """How much of the model the training may change: `5,308,416 of 134,515,008 weights`."""
        rank = f", by factors of rank {self.edit.lora_rank}" if self.edit.lora_rank else ""
        return f"{self.n_weights:,} of {self.n_parameters:,} weights{rank}"

    def slices(self, model: LanguageModel) -> list[Slice]:
        check_shape(model, self.shape)
        return stored_slices(model, _slices(self.edit, model))

    def write(self, model: LanguageModel) -> None:
        """Train the model's weights in place.

        Raises:
            StoppedError: `should_stop` returned True.
            ConfigError: the loss is not finite, or nothing is left to train.
            EditError: the state cannot be written, or the saved state belongs to another training.
            MemoryShortError: there is too little memory.
        """
        check_shape(model, self.shape)
        edit, pieces = self.edit, _slices(self.edit, model)
        self._check_memory(model)
        with reproducible(edit.seed, model.device), torch.enable_grad():
            losses = Losses(model, edit, self.rows)
            identity = self._identity(model) if self.checkpoint_folder else {}
            with self._trainable(model, pieces) as trainable:
                optimiser = torch.optim.AdamW(
                    trainable.parameters,
                    lr=edit.learning_rate,
                    betas=edit.betas,
                    weight_decay=edit.weight_decay,
                    fused=model.device.type in ("cpu", "cuda"),
                )
                state = (trainable.parameters, optimiser, losses.decks, identity)
                found = load_state(self.checkpoint_folder, *state) if self.checkpoint_folder else None
                trainable.mask_update()
                for step in range(found.step + 1 if found else 1, edit.steps + 1):
                    self._step(step, losses, trainable, optimiser)
                    stopping = step < edit.steps and self.should_stop is not None and self.should_stop()
                    if self.checkpoint_folder and (stopping or step % self.checkpoint_every == 0):
                        self._keep(self.checkpoint_folder, step, state)
                    if stopping:
                        raise StoppedError(self._stopped(step))
                if isinstance(trainable, LowRank):
                    trainable.merge()

    def _step(
        self, step: int, losses: Losses, trainable: WeightMask | LowRank, optimiser: torch.optim.Optimizer
    ) -> None:
        edit = self.edit
        for group in optimiser.param_groups:
            group["lr"] = edit.learning_rate * learning_share(edit.schedule, step, edit.steps)
        optimiser.zero_grad(set_to_none=True)
        terms = losses.backward()
        loss = losses.total(terms)
        check_loss(loss, edit.learning_rate)
        trainable.mask_gradients()
        norm = torch.nn.utils.clip_grad_norm_(trainable.parameters, edit.clip)
        check_loss(float(norm), edit.learning_rate)
        optimiser.step()
        trainable.mask_update()
        if self.on_step is not None:
            self.on_step(step, loss, terms)

    def _keep(self, folder: Path, step: int, state: tuple[Any, ...]) -> None:
        try:
            save_state(folder, step, *state)
        except OSError as error:
            raise EditError(
                f"The training's state cannot be written to {folder} ({error}). Free some space or train without keeping "
                "the state; the weights are unchanged."
            ) from error

    def _trainable(self, model: LanguageModel, pieces: Sequence[Slice]) -> WeightMask | LowRank:
        edit = self.edit
        if edit.lora_rank:
            if any(len(piece.without(self.hold).indices) < len(piece.indices) for piece in pieces):
                raise ConfigError(
                    "Factors are merged into whole layers, and an earlier edit holds weights there. Set lora_rank to 0, "
                    "or undo that edit."
                )
            return LowRank(model, pieces, rank=edit.lora_rank, alpha=edit.lora_alpha, seed=edit.seed)
        confined = bool(edit.only) or isinstance(edit, Rmu)
        return WeightMask(model, self.hold, pieces if confined else None)

    def _identity(self, model: LanguageModel) -> dict[str, object]:
        return {
            "edit": self.edit.to_dict(),
            "text": digest_rows(self.rows),
            "model or model state": digest(self.slices(model)),  # alone what is trained: all that older states have
            "base model": model.weights_hash(),
        }

    def _stopped(self, step: int) -> str:
        kept = (
            f" Start the same edit with the state in {self.checkpoint_folder} to go on."
            if self.checkpoint_folder
            else ""
        )
        return f"Stopped after step {step} of {self.edit.steps}. The weights are as they were before the edit.{kept}"

    def _check_memory(self, model: LanguageModel) -> None:
        kl = any(term.kind == "kl" for term in self.edit.terms())
        # the estimate counts three numbers per token and vocabulary entry; a stored reference takes one
        stored = sum(len(row.counted) for row in self.rows.get("retain", ())) // 3 if kl else 0
        memory.training_estimate(
            0 if self.edit.lora_rank else self.n_weights,
            str(model.device),
            tokens_per_batch=self.edit.batch_size * _TOKENS_PER_TEXT + stored,
            vocabulary=model.vocabulary_size,
            loaded=True,
        ).check()


def plan_gradient(edit: GradientEdit, model: LanguageModel, materials: Materials) -> Training:
    """Choose the facts of `edit` and tokenise its texts.

    Raises:
        ConceptError: the concept has too few known facts, a named one is not known, or there is nothing to keep.
        ConfigError: a setting does not fit the model.
        EditError: `only` names components that the model does not have.
    """
    edit = edit.settled(model.device)
    choice = choose_facts(edit, materials)
    return Training(
        edit=edit,
        shape=model.component_shape,
        facts=choice,
        rows=rows_by_kind(model, edit, choice, materials),
        n_weights=sum(piece.numel for piece in _slices(edit, model)),
        n_parameters=model.n_parameters,
    )


def _slices(edit: GradientEdit, model: LanguageModel) -> list[Slice]:
    """The weights that the edit may change."""
    if edit.only:
        circuit = Circuit.parse(edit.only, model.component_shape)
        if isinstance(edit, Rmu) and min(part.layer for part in circuit.components) > edit.layer_in(model.n_layers):
            raise ConfigError(
                f"RMU steers the residual stream after layer {edit.layer_in(model.n_layers)}, which later layers do not "
                "reach. Name components of earlier layers, or set layer."
            )
        pieces = circuit_slices(model, circuit)
    elif isinstance(edit, Rmu):
        last = edit.layer_in(model.n_layers)
        pieces = [
            _whole(model.blocks[one].mlp_output.weight) for one in range(max(0, last - _RMU_LAYERS + 1), last + 1)
        ]
    elif edit.lora_rank:
        return linear_slices(model)
    else:
        return [_whole(parameter) for parameter in model.weights.values() if parameter.requires_grad]
    return linear_slices(model, pieces) if edit.lora_rank else pieces


def _whole(parameter: Any) -> Slice:
    return Slice(parameter, 0, torch.arange(len(parameter), device=parameter.device))
