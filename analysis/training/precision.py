"""Chooses the autocast format of training: bfloat16 where the device computes faster in it, otherwise float32.

A processor without units for bfloat16 emulates it, several times slower than float32, and nothing in PyTorch says so. The
choice therefore rests on a short measured matrix product, kept in the home folder for each host and PyTorch.
"""

import json
import platform
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import torch

from analysis import paths

__all__ = ["PRECISIONS", "ChosenPrecision", "Precision", "choose_precision"]

Precision = Literal["auto", "bf16", "float32"]
PRECISIONS: tuple[Precision, ...] = ("auto", "bf16", "float32")

_FILE = "precision.json"
_SIZE = 512
"""Width of the measured product, [256, 512] x [512, 512], 0.13 GFLOP: milliseconds, or a fifth of a second where emulated."""
_REPEATS = 3


@dataclass(frozen=True)
class ChosenPrecision:
    """An autocast format and why it was chosen."""

    name: str
    """bf16 or float32."""
    reason: str


def choose_precision(asked: str, device: torch.device | str) -> ChosenPrecision:
    """The autocast format for training on a device.

    Args:
        asked: bf16 or float32, which are returned as they are, or “auto”: bf16 on CUDA that has it and on processors whose
            matrix products are faster in it, otherwise float32.
        device: The device to train on.
    """
    if asked != "auto":
        return ChosenPrecision(asked, "as set")
    kind = torch.device(device).type
    if kind == "cuda":
        has_it = torch.cuda.is_bf16_supported(including_emulation=False)
        return ChosenPrecision(
            *(("bf16", "the GPU has bf16 units") if has_it else ("float32", "the GPU has no bf16 units"))
        )
    if kind == "cpu":
        return _on_processor(_processor(), paths.home() / _FILE)
    return ChosenPrecision("float32", f"bf16 is not measured on {kind}")


def _processor() -> str:
    """What the measured time depends on."""
    return f"{platform.node()}, {torch.backends.cpu.get_cpu_capability()}, PyTorch {torch.__version__}"


@cache
def _on_processor(processor: str, file: Path) -> ChosenPrecision:
    kept: dict[str, float] = {}
    with suppress(OSError, ValueError):
        found = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            kept = {one: ratio for one, ratio in found.items() if isinstance(ratio, float) and ratio > 0}
    if processor not in kept:
        kept[processor] = round(_seconds(torch.bfloat16) / _seconds(torch.float32), 3)
        with suppress(OSError):  # a home that is full or read-only only means to measure again
            paths.write_atomically(file, json.dumps(kept, indent=1).encode())
    ratio = kept[processor]
    reason = f"a matrix product takes {ratio:.2g} times as long in bf16 as in float32 on this processor"
    return ChosenPrecision("bf16" if ratio < 1 else "float32", reason)


def _seconds(dtype: torch.dtype) -> float:
    """The time of one product, the best of `_REPEATS` after a first one."""
    a, b = torch.ones(_SIZE // 2, _SIZE, dtype=dtype), torch.ones(_SIZE, _SIZE, dtype=dtype)
    times = []
    for _ in range(_REPEATS + 1):
        begun = time.perf_counter()
        torch.matmul(a, b)
        times.append(time.perf_counter() - begun)
    return min(times[1:])
