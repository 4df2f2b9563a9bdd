"""Records that a run yields and reports: snapshots, and the facts and neurons chosen before the first.

Axes: `L` layer, `N` neuron in a layer, `F` fact or labelled word.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from analysis.components.neurons import NeuronSet
from analysis.concepts import Fact
from analysis.training.precision import ChosenPrecision
from analysis.training.slices import Head

__all__ = ["Beginning", "Earlier", "FactTable", "Phase", "RunFacts", "Snapshot", "StepReport"]

Phase = Literal["base", "edited", "training"]


@dataclass(frozen=True, kw_only=True)
class FactTable:
    """Which facts a run uses, decided on the unedited model."""

    retrained: tuple[Fact, ...]
    held_out: tuple[Fact, ...]
    n_set_aside: int
    """Facts the unedited model does not know."""
    threshold: float


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The state of the model at one moment of a run."""

    index: int
    phase: Phase
    """base: the unedited model. edited: the model that training begins from, right after the edit or, in a branch without
    an edit, at the checkpoint. training: after `step` steps."""
    step: int
    """Training steps done."""
    seconds: float
    """Since the start of the run."""
    loss: float | None
    """Mean training loss since the last snapshot, in nats per token."""
    p_retrained_F: np.ndarray
    """P(answer) of every fact that is retrained on; with the task “tagging”, P(tags) of every labelled word."""
    p_held_out_F: np.ndarray
    """The same for facts or words that are never trained on."""
    neutral_loss: float
    """Mean cross-entropy on neutral sentences that are never trained on, in nats per token."""
    saliency: dict[str, dict[str, np.ndarray]]
    """Concept -> method -> float32 scores [L, N]."""
    words: dict[int, tuple[str, ...]] = field(default_factory=dict)
    """Flat index of every followed neuron -> the words that activate it most, strongest first."""
    similarity: dict[int, float] = field(default_factory=dict)
    """Flat index of a followed neuron -> cosine of the mean embeddings of its words now and in the base snapshot; a neuron
    whose set of words did not change, or that has no words, is absent."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Further scores of the task; with “tagging” `f1`, `precision` and `recall` on held-out sentences, and `f1_trained` on
    those trained on. Undefined ones are absent."""

    @property
    def retrained(self) -> float:
        return float(self.p_retrained_F.mean())

    @property
    def held_out(self) -> float:
        return float(self.p_held_out_F.mean())


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """What a run shares with its control or a branch: all start from the same model."""

    table: FactTable
    base: Snapshot
    followed: NeuronSet | None = None
    """Neurons whose words are followed; None chooses them anew."""
    edited: NeuronSet | None = None
    """Neurons that earlier edits touched, if the run begins from another run's checkpoint."""
    edited_heads: tuple[Head, ...] = ()
    """(layer, head) of the attention heads that earlier edits touched."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """Digests of the inputs (`relearning.inputs`); a run that begins from here must have the same."""
    precision: ChosenPrecision | None = None
    """Autocast type of the base snapshot, which an “auto” run keeps; None in runs of older versions."""


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """What an interrupted run has left, for resuming it without repeating facts or snapshots."""

    beginning: Beginning
    n_snapshots: int
    """Number of stored snapshots."""
    steps: tuple[int, ...]
    """Training steps that have a stored snapshot."""
    seconds: float
    """Seconds that the run had taken at the last stored snapshot."""


@dataclass(frozen=True)
class StepReport:
    """Reported after every training step."""

    step: int
    loss: float
    """In nats per token."""
    seconds: float
    """Since the start of the run."""


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What a run has chosen once the model is loaded: facts, neurons, texts; reported and stored before the first snapshot."""

    shape: tuple[int, int]
    """Layers and neurons in a layer."""
    table: FactTable
    edited: NeuronSet
    """The neurons the edit touches, including those of whole MLP layers, and in a branch also those of earlier edits (none
    for the control of a run that is not a branch)."""
    n_neutral_train: int
    n_neutral_measured: int
    ledger: dict[str, str] | None
    """Digests of the touched weights “before” and “after” the edit; None without an edit."""
    edited_heads: tuple[Head, ...] = ()
    """(layer, head) of the attention heads the edits touch."""
    followed: NeuronSet = field(default_factory=lambda: NeuronSet([], (0, 0)))
    """Neurons whose words every snapshot has; none in runs of older versions."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Numbers of sentences and labelled words of a task without facts, by name."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """Digests of the run's inputs (`relearning.inputs`); empty if the run has no folder."""
    precision: ChosenPrecision | None = None
    """Autocast type of training and snapshots, and why; None in runs of older versions, whose configuration names it."""
