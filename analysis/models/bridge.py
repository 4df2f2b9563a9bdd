"""Wraps a transformers model in TransformerLens' bridge, without the processor for pictures and sound.

The bridge is used in raw mode, because compatibility mode changes the weights and cannot be undone. For a multimodal model it
loads a processor, and where a package is missing for that it calls pip, which can replace the pinned torch. Only text is read
here, so the processor is not loaded, and nothing is ever installed.
"""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.model_bridge.sources.transformers import source

__all__ = ["wrap"]

source.load_modality_processor = lambda *arguments, **options: None


def wrap(inner: nn.Module, tokenizer: Any, folder: Path, dtype: str) -> TransformerBridge:
    """A bridge around a loaded model.

    Args:
        inner: The model, with its weights, on its device.
        tokenizer: Its tokenizer.
        folder: The model's folder.
        dtype: Name of a torch dtype.

    Raises:
        ValueError, AttributeError, NotImplementedError: the bridge does not know the architecture.
    """
    return TransformerBridge.boot_transformers(
        str(folder),
        hf_model=inner,
        tokenizer=tokenizer,
        device=str(next(inner.parameters()).device),
        dtype=getattr(torch, dtype),
    )
