"""Data classes of what the canvas draws: the scene (fixed for a view), a frame for each snapshot, the control's curves.

Axis legend: C concept, L layer, N neuron, F followed neuron.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

__all__ = [
    "MAX_CONCEPTS",
    "CanvasConcept",
    "CanvasCurve",
    "CanvasFrame",
    "CanvasScene",
    "CanvasTask",
    "Marks",
    "Ribbons",
    "require_flat_indices",
]

PHASES = ("base", "edited", "training")
MAX_CONCEPTS = 3
"""Each gets a hue; a fourth could not be told from a mixture of the others."""

Ribbons = Sequence[tuple[int, int, float]]
"""(from layer, to layer, share of all mass) of one concept's flow."""


@dataclass(frozen=True, kw_only=True)
class CanvasTask:
    """The on-screen names of the task that measures recovery."""

    question: str = "Does it know the answers?"
    measure: str = "P(answer)"
    trained: str = "retrained facts"
    held_out: str = "facts never retrained"


@dataclass(frozen=True, kw_only=True)
class CanvasConcept:
    """A concept and its on-screen name."""

    name: str
    """Identifier of the concept."""
    title: str
    """Its name in the legend and the tooltips."""
    place: int = 0
    """Its index among all tracked concepts, which decides its hue."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CanvasScene:
    """The scene: everything that stays the same while snapshots arrive."""

    epoch: str
    """Identifies the view (run, concepts, mode, scale); when it changes, the browser drops everything and starts over."""
    n_layers: int
    """L."""
    n_neurons: int
    """N, MLP neurons in each layer."""
    concepts: tuple[CanvasConcept, ...]
    """One to three, in the order of axis C."""
    signed: bool
    """True: values are changes (128 none, 255 strongest gain, 0 strongest loss); False: levels."""
    unit: str
    """What a value measures, such as "change of probeless saliency since the edit"."""
    full_scale: float
    """The value that byte 255 stands for, in that unit."""
    order_LN: np.ndarray
    """uint16: drawing position -> neuron index, strongest before the edit first (or plain index)."""
    pruned: np.ndarray
    """uint32 flat indices ``layer * N + neuron`` of the edited neurons."""
    edit_label: str
    """What the edit did to them: "pruned" or "reversed"."""
    total_steps: int
    """Planned training steps, the length of the time axis."""
    since: str = "the edit"
    """Where changes, flow and distance are counted from: "the edit" or "the base"."""
    tracked: tuple[str, ...] = ()
    """Titles of all tracked concepts, drawn or not: a mark can name any of them as one that the neuron carries too."""
    task: CanvasTask = field(default_factory=CanvasTask)
    """Names of the two curves of recovery."""
    followed: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint32))
    """uint32 flat indices of the neurons whose words are tracked over time, axis F."""

    def __post_init__(self) -> None:
        if not 1 <= len(self.concepts) <= MAX_CONCEPTS:
            raise ValueError(f"1 to {MAX_CONCEPTS} concepts can be drawn, not {len(self.concepts)}")
        if self.order_LN.shape != (self.n_layers, self.n_neurons):
            raise ValueError(f"order_LN has shape {self.order_LN.shape}, expected {(self.n_layers, self.n_neurons)}")
        if self.n_neurons > np.iinfo(np.uint16).max + 1:
            raise ValueError(f"{self.n_neurons} neurons a layer do not fit into uint16 positions")
        if not (np.sort(self.order_LN, axis=1) == np.arange(self.n_neurons)).all():
            raise ValueError("every row of order_LN must hold each neuron of its layer exactly once")
        if not (self.full_scale > 0 and math.isfinite(self.full_scale)):
            raise ValueError(f"full_scale must be positive and finite, not {self.full_scale}")
        if self.total_steps < 1:
            raise ValueError(f"total_steps must be at least 1, not {self.total_steps}")
        require_flat_indices("pruned", self.pruned, self.n_layers * self.n_neurons)
        require_flat_indices("followed", self.followed, self.n_layers * self.n_neurons)

    @property
    def frame_bytes(self) -> int:
        """Bytes of one snapshot's values."""
        return len(self.concepts) * self.n_layers * self.n_neurons


@dataclass(frozen=True, kw_only=True, eq=False)
class Marks:
    """Neurons that are marked for a concept at one snapshot, and another concept that each of them carries."""

    cells: np.ndarray
    """uint32 flat indices."""
    also: np.ndarray
    """uint8, as many: place of the strongest other tracked concept that the neuron carries, 255 for none."""

    def __post_init__(self) -> None:
        if self.cells.shape != self.also.shape:
            raise ValueError(f"{len(self.cells)} marks cannot carry {len(self.also)} others")


@dataclass(frozen=True, kw_only=True)
class CanvasCurve:
    """What the panels over time draw for one snapshot of a run or of its control."""

    phase: str
    """"base" (before the edit), "edited" (just after it) or "training"."""
    step: int | float
    """Training steps taken."""
    layer_change_CL: Sequence[Sequence[float]]
    """Signed change of each layer's mass since the edit (or the base); for a control since its start."""
    centre_C: Sequence[float]
    """Centre of mass, in layers."""
    distance_C: Sequence[float]
    """Wasserstein distance of the layer distribution to the one that changes are counted from, in layers."""
    retrained: float
    """The task's measure on the data that is retrained, 0 to 1."""
    held_out: float
    """The same on data that is never retrained."""
    neutral_loss: float
    """Loss on neutral text, nats per token."""

    def __post_init__(self) -> None:
        if self.phase not in PHASES:
            raise ValueError(f"phase must be one of {', '.join(PHASES)}, not {self.phase!r}")


@dataclass(frozen=True, kw_only=True, eq=False)
class CanvasFrame(CanvasCurve):
    """One snapshot of the edited run without the values of its neurons, which are large and travel separately."""

    index: int
    """Index of the snapshot in its run."""
    recruits: tuple[Marks, ...]
    """For each concept: neurons that carry it at this snapshot and did not before."""
    survivors: tuple[Marks, ...]
    """For each concept: unedited neurons that carried it before, still do, and gained."""
    flow_C: Sequence[Ribbons]
    """For each concept: the mass that moved between layers since the edit (or the base)."""
    followed_CF: Sequence[Sequence[float]] = ()
    """Scores of the followed neurons, in multiples of the threshold for a carrier."""
    words_F: Sequence[Sequence[str] | None] = ()
    """Words of the followed neurons, strongest first; None if they are the same as at the snapshot before."""
    similarity_F: Sequence[float | None] = ()
    """Cosine between a followed neuron's words now and before the edit; None if the set is the same."""


def require_flat_indices(name: str, cells: np.ndarray, n_cells: int) -> None:
    """Raises ValueError unless all of `cells` lie in the model."""
    if len(cells) and not (int(cells.min()) >= 0 and int(cells.max()) < n_cells):
        raise ValueError(f"{name} must hold flat indices below {n_cells}")
