"""Loads a language model: fetches it, reads it with transformers, wraps it in the bridge, and checks the result."""

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from analysis import paths
from analysis.errors import ConfigError, UnsupportedArchitectureError, brief
from analysis.models import memory
from analysis.models.catalog import ModelSource, resolve
from analysis.models.fetch import locate
from analysis.models.files import read_folder
from analysis.models.fingerprint import LOGIT_TOLERANCE, Fingerprint
from analysis.models.finite import check_finite
from analysis.models.language_model import LanguageModel
from analysis.models.parameter_names import place
from analysis.models.read_check import check_hooks
from analysis.progress import Progress, none

__all__ = ["from_parts", "load", "pick_device"]


def pick_device(device: str = "auto") -> str:
    """Check a device's name and return it; "auto" becomes CUDA if available, else MPS, else the CPU.

    Raises:
        ConfigError: the device is unknown or not available.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise ConfigError(f"“{device}” is not a device. Use auto, cpu, cuda, cuda:1 or mps.") from error
    if kind not in ("cpu", "cuda", "mps"):
        raise ConfigError(f"“{device}” cannot be used. Use auto, cpu, cuda, cuda:1 or mps.")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"“{device}” was asked for, but PyTorch sees no CUDA device here. Use cpu or auto.")
    if kind == "cuda" and (torch.device(device).index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"“{device}” was asked for, but there are only {torch.cuda.device_count()} CUDA devices.")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("“mps” was asked for, but is not available here. Use cpu or auto.")
    return device


def load(
    reference: str, *, device: str = "auto", dtype: str = "float32", progress: Progress | None = None
) -> LanguageModel:
    """Load a model for analysis: fetch if needed, check memory, weights, architecture, hooks and fingerprint.

    Args:
        reference: Catalog name, hub id, folder or GGUF file (`catalog.resolve`).
        device: "auto", "cpu", "cuda", ...
        dtype: "float32", "bfloat16" or "float16".
        progress: Called with a stage's name and its share done.

    Raises:
        PalimpsestError: one subclass for each kind of failure; the message says what to do.
    """
    if dtype not in memory.DTYPE_BYTES:
        raise ConfigError(f"“{dtype}” is not a dtype. Use {', '.join(memory.DTYPE_BYTES)}.")
    source = resolve(reference)
    device = pick_device(device)
    report = progress or none
    folder = locate(source, progress)
    report("Loading", 0.0)
    memory.load_estimate(memory.count_parameters(folder), dtype, device).check()
    inner, tokenizer = read_folder(folder, dtype, source.name)
    report("Loading", 0.6)
    model = from_parts(inner.to(device), tokenizer, source, folder=folder, dtype=dtype)
    _check_fingerprint(model, folder)
    report("Loading", 1.0)
    return model


def from_parts(inner: nn.Module, tokenizer: Any, source: ModelSource, *, folder: Path, dtype: str) -> LanguageModel:
    """Wrap an already loaded transformers model, whose config is in `folder`, in a bridge.

    Raises:
        MissingHookError: a layer's neurons or residual stream have no hook that the model computes through.
        UnsupportedArchitectureError: TransformerLens cannot wrap it, or it is not a causal language model.
    """
    from analysis.models import bridge as bridges

    names = {place(parameter): name for name, parameter in inner.named_parameters()}
    unwrapped = _fingerprint(inner)
    architecture: Any = (inner.config.architectures or [type(inner).__name__])[0]  # type: ignore[union-attr,index]
    try:
        bridge = bridges.wrap(inner, tokenizer, folder, dtype)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, AttributeError, NotImplementedError) as error:
        raise UnsupportedArchitectureError(
            f"TransformerLens cannot wrap {architecture} ({brief(error)}). Choose a model of another architecture."
        ) from error
    if not hasattr(bridge, "blocks"):
        raise UnsupportedArchitectureError(
            f"{architecture} has no stack of transformer blocks. Choose a decoder-only model."
        )
    model = LanguageModel(bridge, tokenizer, source, dtype, names)
    _check_logits(model, unwrapped, architecture)
    if not _is_causal(model):
        raise UnsupportedArchitectureError(
            f"{architecture} is not a causal language model: its predictions depend on later tokens, so P(answer) "
            "would mean nothing. Choose a model that predicts the next token."
        )
    check_hooks(model)
    return model


def _fingerprint(inner: nn.Module) -> Fingerprint | None:
    """Fingerprint of a transformers model; None if it takes other inputs than a decoder, which is refused later."""
    try:
        return Fingerprint.of(inner)
    except (RuntimeError, ValueError, TypeError, AttributeError, KeyError, IndexError):
        return None


def _check_logits(model: LanguageModel, unwrapped: Fingerprint | None, architecture: str) -> None:
    """Raise `UnsupportedArchitectureError` unless the bridge computes the logits of plain transformers."""
    if unwrapped is None or not all(map(math.isfinite, unwrapped.logits)):  # reported by later checks
        return
    try:
        wrapped = model.fingerprint()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise UnsupportedArchitectureError(
            f"TransformerLens cannot run {architecture} as it is configured here, in {model.dtype} ({brief(error)}). Choose a "
            "model of another architecture, or float32."
        ) from error
    difference = unwrapped.difference(wrapped)
    if not difference <= LOGIT_TOLERANCE[model.dtype]:
        raise UnsupportedArchitectureError(
            f"TransformerLens computes other logits for this {architecture} than transformers does (by {difference:.2g} "
            "standard deviations), so nothing measured on it would hold. Choose a model of another architecture."
        )


def _check_fingerprint(model: LanguageModel, folder: Path) -> None:
    """Compare with the fingerprint stored at conversion or at the first load of these files; if none is, store it."""
    computed = model.fingerprint()
    check_finite(model, np.array(computed.logits))
    stored = folder / "fingerprint.json"
    if not stored.is_file():
        states = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(folder.glob("*.safe*"))]
        key = hashlib.sha256(f"{folder.resolve()}{states}".encode()).hexdigest()[:16]
        stored = paths.home() / "fingerprints" / f"{key}.json"
        if not stored.is_file() and model.dtype == "float32":
            stored.parent.mkdir(exist_ok=True)
            computed.save(stored)
    if stored.is_file():
        Fingerprint.load(stored).check(computed, dtype=model.dtype, name=model.name)


def _is_causal(model: LanguageModel) -> bool:
    """Whether changing the last token leaves the logits at earlier positions unchanged."""
    tokens = torch.arange(8, device=model.device)[None] % model.vocabulary_size
    changed = tokens.clone()
    changed[0, -1] = (changed[0, -1] + 1) % model.vocabulary_size
    with torch.inference_mode():
        first, second = (model.logits(one)[0, :-1].float() for one in (tokens, changed))
    if not bool(torch.isfinite(first).all()):
        return True  # damaged weights are reported by the checks of fingerprint and activations
    noise = 1e-4 if model.dtype == "float32" else 1e-2
    return bool((first - second).abs().max() <= noise * first.std())
