"""Records that a run yields and reports: snapshots, and the facts and neurons chosen before the first.

Axes: `L` layer, `N` neuron in a layer, `F` fact or labelled word.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from analysis.components.neurons import NeuronSet
from analysis.concepts import Fact
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
    """base: the unedited model; edited: what training begins from, right after the edit or, without one, at the checkpoint
    that a branch begins with; training: after `step` steps."""
    step: int
    """Training steps done."""
    seconds: float
    """Since the start of the run."""
    loss: float | None
    """Mean training loss since the last snapshot, in nats per token."""
    p_retrained_F: np.ndarray
    """P(answer) of every fact that is retrained on; with the task “tagging”, P(tags) of every labelled word."""
    p_held_out_F: np.ndarray
    """The same of what is never trained on."""
    neutral_loss: float
    """Mean cross-entropy on neutral sentences that are never trained on, in nats per token."""
    saliency: dict[str, dict[str, np.ndarray]]
    """Concept -> method -> float32 scores [L, N]."""
    words: dict[int, tuple[str, ...]] = field(default_factory=dict)
    """Flat index of every followed neuron -> the words that activate it most, strongest first."""
    similarity: dict[int, float] = field(default_factory=dict)
    """Flat index of a followed neuron -> cosine of the mean embeddings of its words now and in the base snapshot; a neuron
    whose set of words did not change, or that has none, is absent."""
    metrics: dict[str, float] = field(default_factory=dict)
    """What else the task is judged by; with “tagging” `f1`, `precision` and `recall` on held-out sentences, and `f1_trained`.
    What is not defined is absent."""

    @property
    def retrained(self) -> float:
        return float(self.p_retrained_F.mean())

    @property
    def held_out(self) -> float:
        return float(self.p_held_out_F.mean())


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """What a run and its control share: both start from the same model."""

    table: FactTable
    base: Snapshot
    followed: NeuronSet | None = None
    """Neurons whose words are followed; None chooses them anew."""
    edited: NeuronSet | None = None
    """What the edits before touched, where the run begins from another one's checkpoint."""
    edited_heads: tuple[Head, ...] = ()
    """(layer, head) of the attention heads among it."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """Of what was computed with (`relearning.inputs`): whatever goes on from here must have the same."""


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """What an interrupted run has left: it goes on from there, and nothing is done or told twice."""

    beginning: Beginning
    n_snapshots: int
    """Snapshots that are kept."""
    steps: tuple[int, ...]
    """Training steps that have one of them."""
    seconds: float
    """Time that the run had taken at the last of them."""


@dataclass(frozen=True)
class StepReport:
    """Reported after every training step."""

    step: int
    loss: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What a run has chosen once the model is loaded: facts, neurons, texts; reported and stored before the first snapshot."""

    shape: tuple[int, int]
    """Layers and neurons in a layer."""
    table: FactTable
    edited: NeuronSet
    """The neurons the edit touches, those of whole MLP layers among them, and in a branch those that edits before touched
    (none for the control of a run that is no branch)."""
    n_neutral_train: int
    n_neutral_measured: int
    ledger: dict[str, str] | None
    """Digests of the touched weights “before” and “after” the edit; None without one."""
    edited_heads: tuple[Head, ...] = ()
    """(layer, head) of the attention heads the edits touch."""
    followed: NeuronSet = field(default_factory=lambda: NeuronSet([], (0, 0)))
    """Neurons whose words every snapshot has; none in runs of older versions."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """How many sentences and labelled words a task without facts has, by name."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """Of what the run computes with (`relearning.inputs`); empty where nothing of it is kept in a folder."""
