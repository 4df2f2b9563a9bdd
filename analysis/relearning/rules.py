"""What the settings of a relearning run must be, each with what to say where one is not."""

import math
import re
from typing import TYPE_CHECKING, Literal

from analysis.components.neurons import NeuronSet
from analysis.edits import Edit, named_components
from analysis.errors import ConfigError, EditError
from analysis.saliency import MOMENT_METHODS, SAMPLE_METHODS
from analysis.training.schedule import SCHEDULES

if TYPE_CHECKING:
    from analysis.relearning.config import RelearnConfig

__all__ = ["Kind", "check", "check_kind", "kind_of"]

Kind = Literal["whole number", "number", "switch", "list", "text"]
"""What a setting is."""
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
"""Whole numbers and the least each may be."""
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
"""May be None."""
_SWITCHES = ("keep_checkpoints", "control")
_LISTS = ("methods", "track")
_SHARES = ("neutral_share", "sentence_share", "text_share", "weight_decay", "momentum")
"""At least 0 and below 1."""
_CHOICES = {
    "task": ("facts", "tagging"),
    "optimiser": ("adamw", "sgd"),
    "schedule": SCHEDULES,
    "precision": ("bf16", "float32"),
    "cadence": ("adaptive", "steps", "log"),
}
_REST = {"fact": "facts", "tagged": "labelled sentences"}
"""What the shares leave of a batch."""
_ANY_SHAPE = (10_000, 10_000_000)
"""Larger than any model: whether neurons exist is known once it is loaded."""


def check(config: "RelearnConfig") -> None:
    """Look at every setting, and at those that must fit together.

    Raises:
        ConfigError: one is out of range; says which one and what is allowed.
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
    _require(
        config.warmup < config.steps, f"warmup is {config.warmup}; it must be below the number of steps, {config.steps}"
    )
    _check_task(config)
    for name in config.tracked:
        _require(bool(re.fullmatch(r"[\w-]+", name)), f"“{name}” is no name of a concept; load the file first")
    allowed_methods = (*MOMENT_METHODS, *SAMPLE_METHODS)
    for method in config.methods:
        _require(
            method in allowed_methods, f"“{method}” does not stream; snapshots can have {', '.join(allowed_methods)}"
        )
    if config.train_only:
        named_components(config.train_only)
    _check_neurons(config.pinned)
    _check_batch(config)


def kind_of(name: str) -> Kind:
    """What the setting `name` is; `edit` and `origin`, which are neither number nor text, are not among them."""
    if name in _WHOLE:
        return "whole number"
    if name in _NUMBERS:
        return "number"
    if name in _SWITCHES:
        return "switch"
    return "list" if name in _LISTS else "text"


def check_kind(name: str, value: object) -> None:
    """Look whether `value` is of the type that the setting `name` has.

    Raises:
        ConfigError: it is not; says what it must be.
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
    """Whether it is a finite number; True and False are none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floating-point numbers
        return False


def _check_kinds(config: "RelearnConfig") -> None:
    for name in vars(config):
        if name not in ("edit", "origin"):
            check_kind(name, getattr(config, name))
    _require(
        config.edit is None or isinstance(config.edit, Edit), f"edit is {config.edit!r}; it must be an edit or None"
    )
    origin = config.origin
    if origin is not None:
        step, run = getattr(origin, "step", None), getattr(origin, "run", None)
        named = isinstance(run, str) and type(step) is int and step >= 0
        _require(named, f"origin is {origin!r}; it must name a run and a step, or be None")


def _check_task(config: "RelearnConfig") -> None:
    steps = config.fine_tune_steps
    if config.task == "facts":
        _require(
            not steps, f"fine_tune_steps is {steps}, and only the task “tagging” begins with fine-tuning; set it to 0"
        )
        return
    _require(
        steps > 0, "fine_tune_steps is 0, so the new head could tag nothing; give at least 1, better several epochs"
    )
    _require(config.warmup < steps, f"warmup is {config.warmup}; it must be below fine_tune_steps, {steps}")
    for name in ("sentence_share", "text_share"):
        _require(
            not getattr(config, name),
            f"{name} is {getattr(config, name)}; the task “tagging” trains on labelled and neutral sentences alone. Set it to 0",
        )


def _check_neurons(pinned: str) -> None:
    try:
        NeuronSet.parse(pinned, _ANY_SHAPE)
    except EditError as error:
        raise ConfigError(f"pinned: {error}") from error


def _check_batch(config: "RelearnConfig") -> None:
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
        f"text_share is {config.text_share}, not one of {config.batch_size} texts; raise it, or take a larger batch",
    )


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(f"{message}.")
