"""Everything that determines a relearning run."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from analysis.edits import ComponentEdit, Edit, from_dict, short_list
from analysis.errors import ConfigError
from analysis.relearning.rules import check
from analysis.relearning.tracking.cadence import planned_steps
from analysis.saliency import MOMENT_METHODS
from analysis.scoring import factual_recall

__all__ = ["Origin", "RelearnConfig"]


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The checkpoint that a branch begins from."""

    run: str
    """Name of the run."""
    step: int


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
    """With “tagging”: the model and a new head are trained for so many steps before anything is measured. That model is what
    the run begins with; `train_only` does not confine this."""
    edit: Edit | None = field(default_factory=ComponentEdit)
    """None trains the unedited model."""
    origin: Origin | None = None
    """The checkpoint of another run whose weights this one begins from; None begins from the unedited model."""
    train_only: str = ""
    """Components whose weights may move, such as `L5.MLP, L7.H3`; all others stay as they are. Empty: the whole model."""
    lora_rank: int = 0
    """Train factors of this rank beside the linear layers and merge them in the end; 0 trains the weights themselves.
    Weights that the edit holds get no factors."""
    lora_alpha: float = 16.0
    """The factors' product counts alpha / rank times."""

    steps: int = 24
    batch_size: int = 16
    """Texts in a batch."""
    accumulate: int = 1
    """Equal parts that a batch is run in, one after the other, to save memory; the step is the same up to rounding."""
    neutral_share: float = 0.375
    """Share of each batch that is neutral sentences (6 of 16); with “tagging” nothing is to be found in them."""
    sentence_share: float = 0.0
    """Share of each batch that is the concept's own sentences: those that saliency is measured on."""
    text_share: float = 0.0
    """Share of each batch that is `text`. What all shares leave of a batch is statements of the facts to retrain on, or
    with “tagging” the concept's labelled sentences."""
    text: str = ""
    """Another text to train on: a .txt or .jsonl file with one text a line, or a hub data set (`owner/name` or
    `owner/name:configuration`)."""
    max_length: int = 128
    """Tokens of a sentence or text that are trained on; the rest is cut off. Statements of facts are never cut."""

    optimiser: Literal["adamw", "sgd"] = "adamw"
    momentum: float = 0.9
    """Of SGD."""
    learning_rate: float = 5e-5
    """The largest, where there is a schedule."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How the learning rate falls after the warm-up, over all the steps of the run."""
    warmup: int = 0
    """Steps over which the learning rate rises."""
    weight_decay: float = 0.01
    clip: float = 1.0
    """Largest norm of the gradient."""
    precision: Literal["bf16", "float32"] = "bf16"
    """Autocast of training and of the snapshots' measurements; weights and optimiser stay in float32, and the facts and
    neurons are chosen in float32."""

    cadence: Literal["adaptive", "steps", "log"] = "adaptive"
    """When snapshots are taken. steps: every `snapshot_every`. log: two at each doubling of the step. adaptive: as often
    as `tracking_share` allows, and at least 8, evenly placed. The last step always gets one."""
    snapshot_every: int = 3
    """Steps between snapshots, with cadence “steps”."""
    tracking_share: float | None = None
    """Share of the training time that adaptive snapshots may take; None is 0.05 on CUDA and 0.10 elsewhere."""
    snapshot_density: float = 1.0
    """Multiplies the number of snapshots; the control run has half of the run's."""
    methods: tuple[str, ...] = MOMENT_METHODS
    """Saliency methods of every snapshot, of those that one streamed pass gives; the two of means and variances cost
    nothing and are always among them."""
    pinned: str = ""
    """Neurons whose words every snapshot has, such as `L5.N123, L7.N9`."""
    follow_top: int = 16
    """Also follow so many neurons: those that carry the concept most strongly in the unedited model and are not edited."""

    checkpoint_every: int = 50
    """Steps between checkpoints. A checkpoint of all weights takes about as long as a few steps, so that one in 50 steps
    costs little, and a crash at most 50 steps. 0: only at a stop and at the end."""
    keep_checkpoints: bool = False
    """Keep every checkpoint, to branch from any of them; otherwise the newest alone."""
    track: tuple[str, ...] = ()
    """Further concepts whose saliency is tracked; the concept itself always is."""
    known_threshold: float = factual_recall.KNOWN_THRESHOLD
    """Facts below this mean P(answer) in the unedited model are set aside; not for “tagging”."""
    seed: int = 0
    device: str = "auto"
    control: bool = True
    """Also run the control: the same training without the edit."""

    def __post_init__(self) -> None:
        check(self)

    @property
    def counts(self) -> dict[str, int]:
        """Texts of each kind in a batch."""
        shares = {"sentence": self.sentence_share, "neutral": self.neutral_share, "text": self.text_share}
        counts = {kind: round(self.batch_size * share) for kind, share in shares.items()}
        return {"tagged" if self.task == "tagging" else "fact": self.batch_size - sum(counts.values()), **counts}

    @property
    def n_neutral(self) -> int:
        """Neutral sentences in a batch."""
        return self.counts["neutral"]

    @property
    def tracked(self) -> tuple[str, ...]:
        """The concept itself, then the others."""
        return (self.concept, *(name for name in self.track if name != self.concept))

    @property
    def tracked_methods(self) -> tuple[str, ...]:
        """The saliency methods of every snapshot."""
        return tuple(dict.fromkeys((*MOMENT_METHODS, *self.methods)))

    @property
    def snapshot_steps(self) -> tuple[int, ...]:
        """The steps that are sure to get a snapshot; adaptive snapshots come on top."""
        return planned_steps(self.cadence, self.steps, self.snapshot_every, self.snapshot_density)

    @property
    def begins_changed(self) -> bool:
        """Whether training begins from other weights than the base snapshot is of: an edit, or those of another run. They
        have a snapshot of their own, in the phase “edited”, from which changes count."""
        return self.edit is not None or self.origin is not None

    @property
    def n_snapshots(self) -> int | None:
        """Snapshots of the whole run: the base, what training begins from (if that is not the base) and the training
        steps; None where the cadence decides on the way."""
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
            raise ConfigError("This is no relearning configuration (no JSON object).")
        # before there was a choice, snapshots came every so many steps and nothing was followed
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
            raise ConfigError(f"This is no relearning configuration ({error}).") from error


def _texts(data: Mapping[str, Any], name: str, default: tuple[str, ...]) -> tuple[str, ...]:
    """A setting that is a list of texts, as JSON has it; a text alone must not be taken for a list of its letters."""
    value = data.get(name, default)
    if not isinstance(value, (list, tuple)) or not all(isinstance(one, str) for one in value):
        shown = f'["{value}"]' if isinstance(value, str) else '["a", "b"]'
        raise ConfigError(f"{name} is {value!r}; it must be a list of texts, such as {shown}.")
    return tuple(value)
