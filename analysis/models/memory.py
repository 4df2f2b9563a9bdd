"""Estimates the memory that loading or training a model needs, and reads how much is free, before allocating anything.

Estimates need only parameter counts, which `count_parameters` reads from safetensors headers, without the weights.
"""

import json
import struct
from dataclasses import dataclass
from pathlib import Path

import psutil

from analysis.errors import MemoryShortError, ModelFileError
from analysis.models.folder import weight_files

__all__ = [
    "DTYPE_BYTES",
    "MemoryEstimate",
    "TrainingEstimate",
    "as_gib",
    "free_bytes",
    "load_estimate",
    "read_safetensors_header",
    "training_estimate",
]

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_OVERHEAD = 400 * 2**20  # the runtime's own buffers, tokenizer, and one batch of activations and logits
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
_CGROUP_USED = Path("/sys/fs/cgroup/memory.current")


@dataclass(frozen=True, kw_only=True)
class MemoryEstimate:
    """Bytes needed against bytes free on one device."""

    needed: int
    free: int
    device: str
    what: str
    """What the memory is for; the subject of the message."""
    advice: str
    """What the user can change if it does not fit."""

    @property
    def fits(self) -> bool:
        return self.needed <= self.free

    def __str__(self) -> str:
        return f"{self.what} needs about {as_gib(self.needed)}; {as_gib(self.free)} are free on {self.device}"

    def check(self) -> None:
        """Raise `MemoryShortError` with both numbers if it does not fit."""
        if not self.fits:
            raise MemoryShortError(f"{self}. {self.advice}")


@dataclass(frozen=True, kw_only=True)
class TrainingEstimate(MemoryEstimate):
    """Bytes that training needs, by purpose."""

    parts: dict[str, int]
    """Bytes by purpose; their sum is `needed`."""


def free_bytes(device: str) -> int:
    """Memory that can still be allocated on `device` ("cpu", "cuda", "cuda:1", "mps"), in bytes."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(torch.device(device))[0])
    available = psutil.virtual_memory().available
    try:
        limit = int(_CGROUP_LIMIT.read_text()) - int(_CGROUP_USED.read_text())
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        return available
    return min(available, max(limit, 0))


def read_safetensors_header(path: Path) -> dict[str, dict]:
    """Read names, dtypes, shapes and offsets from a safetensors file, and check that the file is complete.

    Raises:
        ModelFileError: the file is truncated or not a safetensors file.
    """
    size = path.stat().st_size
    advice = "Download or convert the model again."
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > size:
                raise ValueError("header longer than the file")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        expected = 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)
    except (struct.error, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise ModelFileError(f"{path} is not a readable safetensors file ({error}). {advice}") from error
    if size != expected:
        raise ModelFileError(f"{path} has {size:,} bytes where its header promises {expected:,}: truncated. {advice}")
    return header


def count_parameters(folder: Path) -> int:
    """Number of stored parameters in a model folder's safetensors files."""
    total = 0
    for path in weight_files(folder):
        for entry in read_safetensors_header(path).values():
            count = 1
            for length in entry["shape"]:
                count *= length
            total += count
    return total


def load_estimate(n_parameters: int, dtype: str, device: str) -> MemoryEstimate:
    """Memory to load a model: its weights at `dtype`, 15% more for a copy of the largest tensor, and overhead."""
    return MemoryEstimate(
        needed=int(n_parameters * DTYPE_BYTES[dtype] * 1.15) + _OVERHEAD,
        free=free_bytes(device),
        device=device,
        what=f"Loading {n_parameters / 1e6:,.0f} million parameters as {dtype}",
        advice="Choose bfloat16 or a smaller model, or free memory (unload a model, stop a run).",
    )


def training_estimate(
    n_parameters: int,
    device: str,
    *,
    tokens_per_batch: int,
    vocabulary: int,
    loaded: bool = False,
    n_trained: int | None = None,
    moments: int = 2,
    values_per_token: int = 0,
    half: bool = False,
    tracking: int = 0,
    advice: str = "Choose a smaller model or batch, or free memory (unload the viewer's model, stop another run).",
) -> TrainingEstimate:
    """Memory to train a float32 model.

    Args:
        n_parameters: Number of the model's parameters.
        device: Device that trains it.
        tokens_per_batch: Padded tokens in a batch.
        vocabulary: Size of the vocabulary.
        loaded: Whether the weights are already in memory; then they are not counted.
        n_trained: Number of parameters with a gradient; None means all.
        moments: Optimiser values per trained parameter: two for AdamW, one for SGD with momentum.
        values_per_token: Activations kept per token for the backward pass, over all layers.
        half: Whether bfloat16 autocast is used: a second copy of the weights in bfloat16, and smaller activations.
        tracking: Bytes that a snapshot needs.
        advice: What the user can change if it does not fit.
    """
    n_trained = n_parameters if n_trained is None else n_trained
    parts = {
        "weights": 0 if loaded else 4 * n_parameters,
        "weights in bfloat16": 2 * n_parameters if half else 0,
        "gradients": 4 * n_trained,
        "optimiser": 4 * moments * n_trained,
        "activations": int(tokens_per_batch * values_per_token * (3 if half else 4)),
        "logits": tokens_per_batch * vocabulary * (16 if half else 12),
        "tracking": tracking,
        "runtime": _OVERHEAD,
    }
    parts = {name: size for name, size in parts.items() if size}
    listed = ", ".join(f"{name} {as_gib(size)}" for name, size in parts.items())
    return TrainingEstimate(
        needed=sum(parts.values()),
        free=free_bytes(device),
        device=device,
        what=f"Relearning with {n_parameters / 1e6:,.0f} million parameters ({listed})",
        advice=advice,
        parts=parts,
    )


def as_gib(count: int) -> str:
    """Formats bytes as `3.2 GiB`."""
    return f"{count / 2**30:.1f} GiB"
