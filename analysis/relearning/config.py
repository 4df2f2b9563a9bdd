"""Everything that determines a relearning run, and what each setting must be."""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from analysis.components.neurons import NeuronSet
from analysis.edits import ComponentEdit, Edit, from_dict, named_components, short_list
from analysis.errors import ConfigError, EditError
from analysis.relearning.tracking.cadence import planned_steps
from analysis.saliency import MOMENT_METHODS, SAMPLE_METHODS
from analysis.scoring import factual_recall
from analysis.training.precision import PRECISIONS, Precision
from analysis.training.schedule import SCHEDULES

__all__ = ["Kind", "Origin", "RelearnConfig", "check_kind", "kind_of"]

Kind = Literal["whole number", "number", "switch", "list", "text"]
"""Type of a setting's value."""
_MOST_STEPS = 1_000_000
_MOST = 10**9
"""Larger than any sensible setting, and small enough to compute with."""
_WHOLE = {
    "steps": 1,
    "fine_tune_steps": 0,
    "batch_size": 1,
    "accumulate": 1,
    "max_length": 2,
    "lora_rank": 0,
    "warmup": 0,
    "snapshot_every": 1,
    "follow_top": 0,
    "checkpoint_every": 0,
    "seed": 0,
}
"""Settings that are whole numbers, and the least each may be."""
_NUMBERS = (
    "learning_rate",
    "lora_alpha",
    "clip",
    "snapshot_density",
    "tracking_share",
    "known_threshold",
    "neutral_share",
    "sentence_share",
    "text_share",
    "weight_decay",
    "momentum",
)
_OPTIONAL = ("tracking_share",)
"""Numbers that may be None."""
_SWITCHES = ("keep_checkpoints", "control")
_LISTS = ("methods", "track")
_SHARES = ("neutral_share", "sentence_share", "text_share", "weight_decay", "momentum")
"""Numbers that must be at least 0 and below 1."""
_CHOICES = {
    "task": ("facts", "tagging"),
    "optimiser": ("adamw", "sgd"),
    "schedule": SCHEDULES,
    "precision": PRECISIONS,
    "cadence": ("adaptive", "steps", "log"),
}
_REST = {"fact": "facts", "tagged": "labelled sentences"}
"""Kind of text that fills the rest of a batch, in words."""
_ANY_SHAPE = (10_000, 10_000_000)
"""Larger than any model; whether pinned neurons exist is checked once the model is loaded."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The checkpoint that a branch begins from."""

    run: str
    """Name of the run."""
    step: int
    """Training steps done at the checkpoint."""


@dataclass(frozen=True, kw_only=True)
class RelearnConfig:
    """Everything that determines a run; serialises to JSON."""

    model: str
    """Model reference (catalog name, hub id, folder, GGUF file)."""
    concept: str
    """The concept that is removed and relearned."""
    task: Literal["facts", "tagging"] = "facts"
    """What is trained and scored. facts: to recall the concept's facts. tagging: to find the concept's words in its labelled
    sentences, by a head on the final residual stream (`tagging`)."""
    fine_tune_steps: int = 0
    """With “tagging”: steps for which the model and a new head are trained before anything is measured. The run begins with
    the fine-tuned model; `train_only` does not confine fine-tuning."""
    edit: Edit | None = field(default_factory=ComponentEdit)
    """The edit before training; None trains the unedited model."""
    origin: Origin | None = None
    """The checkpoint of another run whose weights this one begins from; None begins from the unedited model."""
    train_only: str = ""
    """Components whose weights may move, such as `L5.MLP, L7.H3`; all others stay as they are. Empty: the whole model."""
    lora_rank: int = 0
    """LoRA: train factors of this rank beside the linear layers and merge them at the end; 0 trains the weights themselves.
    Weights that the edit holds get no factors."""
    lora_alpha: float = 16.0
    """The factors' product is scaled by alpha / rank."""

    steps: int = 24
    batch_size: int = 16
    """Texts in a batch."""
    accumulate: int = 1
    """Gradient accumulation: equal parts a batch is run in to save memory; the step is the same up to rounding."""
    neutral_share: float = 0.375
    """Share of each batch that is neutral sentences (6 of 16); with “tagging” they have no labelled words."""
    sentence_share: float = 0.0
    """Share of each batch that is the concept's own sentences, on which saliency is measured."""
    text_share: float = 0.0
    """Share of each batch that is `text`. The rest of a batch is statements of the facts to retrain on, or with “tagging”
    the concept's labelled sentences."""
    text: str = ""
    """Another text to train on: a .txt or .jsonl file with one text a line, or a hub data set (`owner/name` or
    `owner/name:configuration`)."""
    max_length: int = 128
    """Most tokens of a sentence or text to train on; the rest is cut off. Statements of facts are never cut."""

    optimiser: Literal["adamw", "sgd"] = "adamw"
    momentum: float = 0.9
    """Momentum of SGD; not used by AdamW."""
    learning_rate: float = 5e-5
    """Peak learning rate, after the warm-up."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How the learning rate falls after the warm-up, over all the steps of the run."""
    warmup: int = 0
    """Steps over which the learning rate rises linearly."""
    weight_decay: float = 0.01
    clip: float = 1.0
    """Gradient norm above which gradients are scaled down to it."""
    precision: Precision = "auto"
    """Autocast type of training and snapshots: bf16, float32, or “auto”, the faster one on the device
    (`training.precision`), which the run then keeps. Weights and optimiser state stay in float32, and facts and neurons to edit
    are chosen in float32."""

    cadence: Literal["adaptive", "steps", "log"] = "adaptive"
    """When snapshots are taken. steps: every `snapshot_every`. log: two at each doubling of the step. adaptive: as often
    as `tracking_share` allows, and at least 8, evenly placed. The last step always gets one."""
    snapshot_every: int = 3
    """Steps between snapshots, with cadence “steps”."""
    tracking_share: float | None = None
    """Share of the training time that adaptive snapshots may take; None is 0.05 on CUDA and 0.10 elsewhere."""
    snapshot_density: float = 1.0
    """Multiplies the number of snapshots; the control has half the density of its run."""
    methods: tuple[str, ...] = MOMENT_METHODS
    """Saliency methods of every snapshot: `MOMENT_METHODS`, which are always included at no further cost, and any of
    `SAMPLE_METHODS`, which take a second pass."""
    pinned: str = ""
    """Neurons whose top words every snapshot records, such as `L5.N123, L7.N9`."""
    follow_top: int = 16
    """Number of further neurons to follow: the most salient for the concept in the unedited model that are not edited."""

    checkpoint_every: int = 50
    """Steps between checkpoints; 0: only at a stop and at the end. Writing all weights takes about as long as a few steps, so
    a checkpoint every 50 steps costs little, and a crash loses at most 50 steps."""
    keep_checkpoints: bool = False
    """Keep every checkpoint, to branch from any of them; otherwise only the newest is kept."""
    track: tuple[str, ...] = ()
    """Further concepts to track the saliency of; the concept itself is always tracked."""
    known_threshold: float = factual_recall.KNOWN_THRESHOLD
    """Facts below this mean P(answer) in the unedited model are set aside; unused with “tagging”."""
    seed: int = 0
    device: str = "auto"
    control: bool = True
    """Also run the control: the same training without the edit."""

    def __post_init__(self) -> None:
        _check(self)

    @property
    def counts(self) -> dict[str, int]:
        """Texts of each kind in a batch."""
        shares = {"sentence": self.sentence_share, "neutral": self.neutral_share, "text": self.text_share}
        counts = {kind: round(self.batch_size * share) for kind, share in shares.items()}
        return {"tagged" if self.task == "tagging" else "fact": self.batch_size - sum(counts.values()), **counts}

    @property
    def tracked(self) -> tuple[str, ...]:
        """Names of the tracked concepts, the concept itself first."""
        return (self.concept, *(name for name in self.track if name != self.concept))

    @property
    def tracked_methods(self) -> tuple[str, ...]:
        """Names of the saliency methods of every snapshot."""
        return tuple(dict.fromkeys((*MOMENT_METHODS, *self.methods)))

    @property
    def snapshot_steps(self) -> tuple[int, ...]:
        """The steps that are certain to get a snapshot; adaptive snapshots come on top."""
        return planned_steps(self.cadence, self.steps, self.snapshot_every, self.snapshot_density)

    @property
    def begins_changed(self) -> bool:
        """Whether training begins from other weights than those of the base snapshot: edited ones, or another run's. They get
        a snapshot in the phase “edited”, and changes are measured from it."""
        return self.edit is not None or self.origin is not None

    @property
    def n_snapshots(self) -> int | None:
        """Number of snapshots of the whole run: the base, the start of training (if it is not the base) and the training
        steps; None with the adaptive cadence, which decides during the run."""
        if self.cadence == "adaptive":
            return None
        return len(self.snapshot_steps) + 1 + self.begins_changed

    def describe(self) -> str:
        """One phrase for titles: `capitals: prune (zero, held): top 1.00% by probeless; training only L5.MLP`."""
        begun = ", token classification" if self.task == "tagging" else ""
        begun += f" from {self.origin.run} step {self.origin.step}" if self.origin else ""
        confined = f"; training only {short_list(self.train_only)}" if self.train_only else ""
        return f"{self.concept}{begun}: {self.edit.describe() if self.edit else 'no edit'}{confined}"

    def as_control(self) -> "RelearnConfig":
        """The same training without the edit, with half as many snapshots."""
        return replace(self, edit=None, control=False, snapshot_density=self.snapshot_density / 2)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "edit": self.edit.to_dict() if self.edit else None}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "RelearnConfig":
        """Rebuild from `to_dict`.

        Raises:
            ConfigError: a field is missing, unknown or out of range.
        """
        if not isinstance(data, Mapping):
            raise ConfigError("This is not a relearning configuration (not a JSON object).")
        # configurations from before `cadence` existed: snapshots every few steps, no followed neurons
        before = {} if "cadence" in data else {"cadence": "steps", "follow_top": 0}
        try:
            changed: dict[str, Any] = {
                "edit": from_dict(data["edit"]) if data.get("edit") is not None else None,
                "origin": Origin(**data["origin"]) if data.get("origin") is not None else None,
                "track": _texts(data, "track", ()),
                "methods": _texts(data, "methods", MOMENT_METHODS),
            }
            return cls(**{**before, **data, **changed})
        except (KeyError, TypeError) as error:
            raise ConfigError(f"This is not a relearning configuration ({error}).") from error


def _texts(data: Mapping[str, Any], name: str, default: tuple[str, ...]) -> tuple[str, ...]:
    """Read a setting that is a list of texts from JSON; a single text must not be taken for a list of its letters."""
    value = data.get(name, default)
    if not isinstance(value, (list, tuple)) or not all(isinstance(one, str) for one in value):
        shown = f'["{value}"]' if isinstance(value, str) else '["a", "b"]'
        raise ConfigError(f"{name} is {value!r}; it must be a list of texts, such as {shown}.")
    return tuple(value)


def _check(config: RelearnConfig) -> None:
    """Check every setting, and the settings that must fit together.

    Raises:
        ConfigError: a setting is out of range; the message says which one and what is allowed.
    """
    _check_kinds(config)
    for name, least in _WHOLE.items():
        value = getattr(config, name)
        _require(value >= least, f"{name} is {value}; it must be at least {least}")
        most = {"steps": _MOST_STEPS, "fine_tune_steps": _MOST_STEPS, "seed": 2**63 - 1}.get(name, _MOST)
        _require(value <= most, f"{name} is {value}; it must be at most {most}")
    for name in _SHARES:
        _require(0 <= getattr(config, name) < 1, f"{name} is {getattr(config, name)}; it must be in [0, 1)")
    for name, allowed in _CHOICES.items():
        value = getattr(config, name)
        _require(value in allowed, f"{name} is “{value}”; use {', '.join(allowed[:-1])} or {allowed[-1]}")
    _require(0 < config.learning_rate < 1, f"learning_rate is {config.learning_rate}; it must be in (0, 1)")
    for name in ("clip", "lora_alpha"):
        _require(getattr(config, name) > 0, f"{name} is {getattr(config, name)}; it must be above 0")
    density = config.snapshot_density
    _require(1e-100 < density <= 100, f"snapshot_density is {density}; it must be above 0 and at most 100")
    share = config.tracking_share
    _require(share is None or 0 < share < 1, f"tracking_share is {share}; it must be in (0, 1)")
    _require(0 <= config.known_threshold <= 1, f"known_threshold is {config.known_threshold}; it must be in [0, 1]")
    warmup, steps = config.warmup, config.steps
    _require(warmup < steps, f"warmup is {warmup}; it must be below the number of steps, {steps}")
    _check_task(config)
    for name in config.tracked:
        _require(bool(re.fullmatch(r"[\w-]+", name)), f"“{name}” is not the name of a concept; load the file first")
    allowed_methods = (*MOMENT_METHODS, *SAMPLE_METHODS)
    for method in config.methods:
        streams = method in allowed_methods
        _require(streams, f"“{method}” does not stream; snapshots can have {', '.join(allowed_methods)}")
    if config.train_only:
        named_components(config.train_only)
    _check_neurons(config.pinned)
    _check_batch(config)


def kind_of(name: str) -> Kind:
    """Type of the setting `name`; not for `edit` and `origin`, which are objects."""
    if name in _WHOLE:
        return "whole number"
    if name in _NUMBERS:
        return "number"
    if name in _SWITCHES:
        return "switch"
    return "list" if name in _LISTS else "text"


def check_kind(name: str, value: object) -> None:
    """Check that `value` has the type of the setting `name`.

    Raises:
        ConfigError: it does not; the message says which type it must have.
    """
    kind, shown = kind_of(name), f"{name} is {value!r}"
    if kind == "whole number":
        _require(type(value) is int, f"{shown}; it must be a whole number")
    elif kind == "number":
        if not (value is None and name in _OPTIONAL):
            _require(_is_number(value), f"{shown}; it must be a number")
    elif kind == "switch":
        _require(isinstance(value, bool), f"{shown}; it must be true or false")
    elif kind == "list":
        texts = isinstance(value, tuple) and all(isinstance(one, str) for one in value)
        _require(texts, f"{shown}; it must be a tuple of texts")
    else:
        _require(isinstance(value, str), f"{shown}; {name} must be a text")


def _is_number(value: object) -> bool:
    """Whether `value` is a finite number; True and False do not count as numbers."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number too large for a float
        return False


def _check_kinds(config: RelearnConfig) -> None:
    for name in vars(config):
        if name not in ("edit", "origin"):
            check_kind(name, getattr(config, name))
    is_edit = config.edit is None or isinstance(config.edit, Edit)
    _require(is_edit, f"edit is {config.edit!r}; it must be an edit or None")
    origin = config.origin
    if origin is not None:
        step, run = getattr(origin, "step", None), getattr(origin, "run", None)
        named = isinstance(run, str) and type(step) is int and step >= 0
        _require(named, f"origin is {origin!r}; it must name a run and a step, or be None")


def _check_task(config: RelearnConfig) -> None:
    steps = config.fine_tune_steps
    if config.task == "facts":
        _require(
            not steps, f"fine_tune_steps is {steps}, but only the task “tagging” begins with fine-tuning; set it to 0"
        )
        return
    _require(
        steps > 0,
        "fine_tune_steps is 0, so the new head could not tag anything; give at least 1, better several epochs",
    )
    _require(config.warmup < steps, f"warmup is {config.warmup}; it must be below fine_tune_steps, {steps}")
    for name in ("sentence_share", "text_share"):
        _require(
            not getattr(config, name),
            f"{name} is {getattr(config, name)}; the task “tagging” trains only on labelled and neutral sentences. Set it to 0",
        )


def _check_neurons(pinned: str) -> None:
    try:
        NeuronSet.parse(pinned, _ANY_SHAPE)
    except EditError as error:
        raise ConfigError(f"pinned: {error}") from error


def _check_batch(config: RelearnConfig) -> None:
    kind, left = next(iter(config.counts.items()))
    if left < 1:
        named = {"neutral": config.neutral_share, "sentence": config.sentence_share, "text": config.text_share}
        taken = " and ".join(f"the {name} share ({share:g})" for name, share in named.items() if share)
        raise ConfigError(
            f"In a batch of {config.batch_size}, {taken} leave no room for {_REST[kind]}. Lower the shares, or take a larger batch."
        )
    _require(
        config.batch_size % config.accumulate == 0,
        f"accumulate is {config.accumulate}; it must divide the batch size, {config.batch_size}, into equal parts",
    )
    _require(bool(config.text) == (config.text_share > 0), "text and text_share belong together; give both, or neither")
    _require(
        config.counts["text"] > 0 or not config.text,
        f"text_share is {config.text_share}, less than one of {config.batch_size} texts; raise it, or take a larger batch",
    )


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(f"{message}.")
