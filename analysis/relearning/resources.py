"""Estimates the memory and disk that a run needs, and names settings that fit if these do not."""

import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from analysis.components.circuit import Circuit, Shape
from analysis.errors import ModelFileError, RunError
from analysis.jobs import layout
from analysis.models import LanguageModel, memory
from analysis.models.memory import TrainingEstimate, as_gib
from analysis.relearning.config import RelearnConfig
from analysis.relearning.fine_tuning import VALUES
from analysis.scoring.tagging import TAGS
from analysis.training.precision import choose_precision

__all__ = ["ModelSize", "check_disk", "disk_bytes", "memory_estimate", "n_trained"]

_TOKENS_PER_TEXT = 32
_TRACKED_TOKENS = 1024
"""Tokens in one forward pass of a snapshot."""
_HEAD_TOKENS = 512
"""At most so many of these tokens need logits over the vocabulary."""
_LORA_RANK = 16
_SNAPSHOT_REST = 2**14
"""Bytes of a snapshot besides its scores: answers, words, the names of its arrays."""
_CONFIG_NAMES = {
    "n_layers": ("num_hidden_layers", "n_layer", "num_layers"),
    "d_model": ("hidden_size", "n_embd", "d_model"),
    "n_neurons": ("intermediate_size", "n_inner", "ffn_dim"),
    "n_heads": ("num_attention_heads", "n_head"),
    "vocabulary": ("vocab_size",),
}
"""What architectures call these numbers in config.json."""


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    """The sizes of a model that determine what training it needs; known before it is loaded."""

    n_parameters: int
    n_layers: int
    d_model: int
    n_neurons: int
    """In one layer."""
    n_heads: int
    vocabulary: int

    @classmethod
    def of(cls, model: LanguageModel) -> "ModelSize":
        """The sizes of a loaded model."""
        return cls(
            n_parameters=model.n_parameters,
            n_layers=model.n_layers,
            d_model=model.d_model,
            n_neurons=model.n_neurons,
            n_heads=model.n_heads,
            vocabulary=model.vocabulary_size,
        )

    @classmethod
    def stored(cls, folder: Path) -> "ModelSize":
        """The sizes of the model in a folder, from its config.json and the headers of its weights.

        Raises:
            ModelFileError: the folder is damaged, or its config.json lacks one of the sizes.
        """
        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            config = config.get("text_config") or config
            found = {
                name: next((int(config[key]) for key in keys if config.get(key)), None)
                for name, keys in _CONFIG_NAMES.items()
            }
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise ModelFileError(
                f"{folder / 'config.json'} cannot be read ({error}). Download the model again."
            ) from error
        if found["n_neurons"] is None and found["d_model"] is not None:
            found["n_neurons"] = 4 * found["d_model"]
        sizes = {name: size for name, size in found.items() if size is not None}
        if missing := sorted(found.keys() - sizes.keys()):
            raise ModelFileError(f"{folder / 'config.json'} does not say {missing[0]}. Choose a model that does.")
        return cls(n_parameters=memory.count_parameters(folder), **sizes)


def memory_estimate(config: RelearnConfig, size: ModelSize, device: str, *, loaded: bool = False) -> TrainingEstimate:
    """Memory that a run needs, by purpose; if it does not fit, the advice names settings that would.

    Args:
        config: The run.
        size: Sizes of its model.
        device: Where it runs.
        loaded: The weights are in memory already, so they are not counted.
    """
    estimate = _estimate(config, size, device, loaded)
    return estimate if estimate.fits else replace(estimate, advice=_advice(config, size, device, loaded))


def check_disk(config: RelearnConfig, size: ModelSize, folder: Path, tuned: Path | None = None) -> None:
    """Refuse to start or resume a run if the files that it is certain to write would not fit on the disk.

    Adaptive snapshots beyond the planned ones are not counted: their number is only known during the run.

    Args:
        config: The run.
        size: Sizes of its model.
        folder: The run's folder; files that it holds already are not counted again.
        tuned: Where the fine-tuned model is kept; default: in `folder`.

    Raises:
        RunError: too little disk space is free; the message holds both numbers.
    """
    tuned = tuned or folder / layout.FINE_TUNED
    parts = _disk_parts(config, size, at_most=False)
    tuning = _tuning_bytes(config, size)
    held = {
        name: _held_bytes(tuned if name == layout.FINE_TUNED else folder / name) for name in (*parts, layout.FINE_TUNED)
    }
    needed = sum(max(part - held[name], 0) for name, part in parts.items())
    if tuning and not (tuned / VALUES).is_file():
        needed = max(needed, tuning - held[layout.FINE_TUNED])
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise RunError(
            f"The run's checkpoints and snapshots need about {as_gib(needed)}; {as_gib(free)} are free on the disk of "
            f"{folder}. Free some space (delete runs), keep the newest checkpoint alone, or train less (lora_rank, "
            "train_only)."
        )


def disk_bytes(config: RelearnConfig, size: ModelSize) -> int:
    """Most bytes that a run and its control take on the disk: snapshots, the fine-tuned model, and checkpoints.

    A checkpoint that is being written counts, too. Adaptive snapshots are counted as if one came after every step.
    """
    return max(sum(_disk_parts(config, size, at_most=True).values()), _tuning_bytes(config, size))


def _disk_parts(config: RelearnConfig, size: ModelSize, *, at_most: bool) -> dict[str, int]:
    """Bytes by subfolder of the run's folder."""
    checkpoint = 4 * n_trained(config, size) * (1 + _moments(config))
    at_once = config.steps // config.checkpoint_every + 1 if config.checkpoint_every else 1
    kept = at_once if config.keep_checkpoints else 1
    while_writing = 1 if at_once > 1 and not config.keep_checkpoints else 0
    parts = {
        layout.CHECKPOINTS: checkpoint * (kept + while_writing),
        layout.SNAPSHOTS: _snapshot_bytes(config, size, at_most),
        layout.FINE_TUNED: _tuned_bytes(config, size),
    }
    if config.control and config.edit is not None:
        parts[f"{layout.CONTROL}/{layout.CHECKPOINTS}"] = checkpoint * kept
        parts[f"{layout.CONTROL}/{layout.SNAPSHOTS}"] = _snapshot_bytes(config.as_control(), size, at_most)
    return parts


def _snapshot_bytes(config: RelearnConfig, size: ModelSize, at_most: bool) -> int:
    one = 4 * size.n_layers * size.n_neurons * len(config.tracked) * len(config.tracked_methods) + _SNAPSHOT_REST
    during = config.steps if at_most and config.cadence == "adaptive" else len(config.snapshot_steps)
    return one * (1 + config.begins_changed + during)


def _tuned_bytes(config: RelearnConfig, size: ModelSize) -> int:
    return 4 * n_trained(replace(config, train_only=""), size) if config.fine_tune_steps else 0


def _tuning_bytes(config: RelearnConfig, size: ModelSize) -> int:
    """Bytes at the end of fine-tuning: the values and two states. Only the values are kept afterwards."""
    return _tuned_bytes(config, size) * (1 + 2 * (1 + _moments(config)))


def _held_bytes(folder: Path) -> int:
    held = 0
    for path in folder.rglob("*.safetensors"):
        with suppress(FileNotFoundError):
            held += path.stat().st_size
    return held


def n_trained(config: RelearnConfig, size: ModelSize) -> int:
    """Estimated number of trained parameters: weights that an edit will hold count, and every MLP counts as gated."""
    n_layers, neuron = size.n_layers, 3 * size.d_model
    if config.lora_rank:
        # queries, keys, values and output of d_model by d_model, three matrices of the MLP
        widths = n_layers * (8 * size.d_model + 3 * (size.d_model + size.n_neurons))
        return config.lora_rank * widths
    if config.train_only:
        circuit = Circuit.parse(config.train_only, Shape(n_layers, size.n_heads, size.n_neurons))
        head = 4 * size.d_model * (size.d_model // size.n_heads)
        return len(circuit.neurons) * neuron + len(circuit.heads) * head
    return size.n_parameters


def _moments(config: RelearnConfig) -> int:
    return 2 if config.optimiser == "adamw" else int(config.momentum > 0)


def _estimate(config: RelearnConfig, size: ModelSize, device: str, loaded: bool) -> TrainingEstimate:
    tagging = config.task == "tagging"
    per_text = config.max_length if config.text or config.sentence_share or tagging else _TOKENS_PER_TEXT
    # activations that a block keeps for its backward pass: norms, queries, keys, values, attention and both residual sums
    # of width d_model; the gate before and after its nonlinearity, the other factor and the product of width n_neurons
    kept = size.n_layers * (12 * size.d_model + 5 * size.n_neurons)
    head = len(TAGS) * (size.d_model + 1) if tagging else 0
    sums = 8 * 4 * len(config.tracked) * size.n_layers * size.n_neurons
    return memory.training_estimate(
        size.n_parameters,
        device,
        tokens_per_batch=config.batch_size // config.accumulate * per_text,
        vocabulary=len(TAGS) if tagging else size.vocabulary,
        loaded=loaded,
        # fine-tuning trains the whole model, whatever `train_only` says
        n_trained=n_trained(replace(config, train_only="") if tagging else config, size) + head,
        moments=_moments(config),
        values_per_token=kept,
        half=choose_precision(config.precision, device).name == "bf16",
        tracking=sums + 16 * _TRACKED_TOKENS * size.n_neurons + 12 * _HEAD_TOKENS * size.vocabulary,
    )


def _advice(config: RelearnConfig, size: ModelSize, device: str, loaded: bool) -> str:
    """Names the settings that would fit, each with the memory that it needs."""
    fitting = []
    for text, change in _alternatives(config, size, device):
        estimate = _estimate(change, size, device, loaded)
        if estimate.fits:
            fitting.append(f"{text} ({as_gib(estimate.needed)})")
    if fitting:
        return f"These settings would fit: {'; '.join(fitting)}."
    return (
        "Neither smaller parts of a batch, nor SGD, nor training the last layer or low-rank factors alone would fit. Choose "
        "a smaller model, or free memory (unload the viewer's model, stop another run)."
    )


def _alternatives(config: RelearnConfig, size: ModelSize, device: str) -> Iterator[tuple[str, RelearnConfig]]:
    """Cheaper settings, ordered by how little they change the training."""
    single = config.batch_size
    if config.accumulate < single:
        yield f"accumulate {single}", replace(config, accumulate=single)
    if choose_precision(config.precision, device).name == "float32":
        yield "precision bf16", replace(config, precision="bf16")
    plain_sgd = replace(config, optimiser="sgd", momentum=0.0)
    if _moments(config):
        yield "optimiser sgd with momentum 0", plain_sgd
        yield f"the same with accumulate {single}", replace(plain_sgd, accumulate=single)
    last = f"L{size.n_layers - 1}.MLP"
    if not config.train_only and config.task != "tagging":
        if size.n_layers > 3:
            several = ", ".join(f"L{layer}.MLP" for layer in range(size.n_layers - 4, size.n_layers))
            yield f"train_only “{several}”", replace(config, train_only=several)
        yield f"train_only “{last}” with accumulate {single}", replace(config, train_only=last, accumulate=single)
    if not config.lora_rank:
        low_rank = replace(config, lora_rank=_LORA_RANK)
        yield f"lora_rank {_LORA_RANK}", low_rank
        yield f"lora_rank {_LORA_RANK} with accumulate {single}", replace(low_rank, accumulate=single)
