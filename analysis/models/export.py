"""Exports an edited model to a folder for plain transformers, loads it again, and checks that the logits agree."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from analysis import paths
from analysis.errors import EditError
from analysis.models import LanguageModel
from analysis.models.fetch import locate
from analysis.models.fingerprint import Fingerprint

__all__ = ["export"]

_BIAS_SWITCHES = ("mlp_bias", "attention_bias")
"""Configuration fields by which Llama-like models enable biases in linear layers."""
_EXACT = 1e-4
"""Largest difference between logits, in standard deviations, that is accepted as rounding."""


def export(model: LanguageModel, folder: Path) -> Path:
    """Save weights, configuration, generation settings and tokenizer as `AutoModelForCausalLM.from_pretrained(folder)` expects them.

    Files are written to a temporary folder, which is renamed only after plain transformers has loaded it and its logits
    agree. A mean ablation adds biases; if the architecture has no place for them, the export is refused.

    Raises:
        EditError: the folder exists and is not empty, cannot be written, or its logits differ; or the architecture has
            no place for an added bias.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = folder.expanduser().absolute()
    if paths.occupied(folder):
        raise EditError(f"{folder} already exists and is not empty. Name a new folder.")
    weights = {name: tensor.cpu().contiguous() for name, tensor in model.stored_weights().items()}
    config = AutoConfig.from_pretrained(locate(model.source), local_files_only=True, trust_remote_code=False)
    config.dtype = getattr(torch, model.dtype)
    weights = _with_biases(weights, config) | _constants(model, config)
    staging = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        staging.chmod(0o755)
        save_file(weights, staging / "model.safetensors", metadata={"format": "pt"})
        config.save_pretrained(staging)
        model.tokenizer.save_pretrained(staging)
        if (generation := locate(model.source) / "generation_config.json").is_file():
            shutil.copyfile(generation, staging / generation.name)
        plain: Any = AutoModelForCausalLM.from_pretrained(staging, dtype=config.dtype, local_files_only=True)
        with model.lock:
            difference = model.fingerprint().difference(Fingerprint.of(plain.to(model.device).eval()))
        if not difference <= _EXACT:
            raise EditError(
                f"The exported weights give other logits than the edited model (by {difference:.2g} standard deviations), "
                "so nothing was written. Export needs an architecture that transformers stores as it is."
            )
        if folder.is_dir():
            folder.rmdir()
        staging.rename(folder)
    except (OSError, SafetensorError) as error:
        raise EditError(f"{folder} cannot be written ({error}). Free some space or name another folder.") from error
    finally:
        if staging is not None and staging.is_dir():
            shutil.rmtree(staging)
    return folder


def _with_biases(weights: dict[str, Tensor], config: Any) -> dict[str, Tensor]:
    """Adds zeros for the biases that `config` can only enable together with an added one; enables them in `config`.

    Raises:
        EditError: the architecture has no place for a bias that an edit added.
    """
    added = weights.keys() - _expected(config).keys()
    if not added:
        return weights
    for switch in _BIAS_SWITCHES:
        if hasattr(config, switch) and any(name.endswith(".bias") for name in added):
            setattr(config, switch, True)
            expected = _expected(config)
            zeros = {
                name: torch.zeros(shape, dtype=config.dtype)
                for name, shape in expected.items()
                if name.endswith(".bias") and name not in weights
            }
            added = weights.keys() - expected.keys()
            if not added:
                return weights | zeros
    raise EditError(
        f"A mean ablation gave {sorted(added)[0]} to the model, which its architecture has no place for, so plain "
        "transformers could not load it. Prune with zeros to export the weights."
    )


def _constants(model: LanguageModel, config: Any) -> dict[str, Tensor]:
    """The constants that plain transformers stores with the weights; the bridge has some of its own."""
    stored = _skeleton(config).state_dict().keys()
    return {name: one.cpu().contiguous() for name, one in model.stored_constants().items() if name in stored}


def _expected(config: Any) -> dict[str, torch.Size]:
    """Names and shapes of the parameters that transformers creates for a configuration."""
    return {name: parameter.shape for name, parameter in _skeleton(config).named_parameters()}


def _skeleton(config: Any) -> torch.nn.Module:
    """The model of a configuration, without memory for its weights."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)
