"""Computes next-token logits from the last residual stream: final norm, unembedding, constant factor, soft cap.

Axes: `D` d_model, `V` vocabulary, `*B` any leading axes.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from analysis.errors import UnsupportedArchitectureError
from analysis.models.norms import Norm

__all__ = ["Readout"]


class Readout:
    """The computation after a model's last block. Its modules are the model's own; calling them fires no hook.

    Families differ: the unembedding may share its memory with the input embeddings (GPT-2, Gemma, small Llamas and
    Qwens), have a bias (Phi), be followed by a constant factor (Cohere, Granite) or by a soft cap (Gemma 2).
    """

    def __init__(self, bridge: Any, model_name: str):
        self._bridge, self._name = bridge, model_name

    @property
    def norm(self) -> Norm | None:
        """The final norm; None if the model has none before its unembedding."""
        wrapped = getattr(self._bridge, "ln_final", None)
        return None if wrapped is None else Norm(wrapped.original_component)

    @property
    def unembedding(self) -> nn.Module:
        """The linear layer from normed residual streams, [..., D], to raw logits, [..., V]."""
        return self._bridge.unembed.original_component

    @property
    def weight_VD(self) -> Float[Tensor, "V D"]:
        """The unembedding's weight, one row per token, in the model's dtype; the parameter itself, with gradient."""
        module: Any = self.unembedding
        return module.weight

    @property
    def softcap(self) -> float | None:
        """Bound on logits: cap * tanh(logits / cap); None for families without one (all but Gemma 2 and relatives)."""
        return getattr(self._config, "final_logit_softcapping", None) or None

    def scaled(self, logits: Float[Tensor, "*B V"]) -> Float[Tensor, "*B V"]:
        """Raw logits times the constant factor of Cohere (`logit_scale`) or Granite (`logits_scaling`) models."""
        config = self._config
        return logits * (getattr(config, "logit_scale", None) or 1.0) / (getattr(config, "logits_scaling", None) or 1.0)

    def logits(self, normed: Float[Tensor, "*B D"]) -> Float[Tensor, "*B V"]:
        """Logits in float32 from final hidden states: residual streams after the final norm."""
        logits = self.scaled(self.unembedding(normed.to(self.weight_VD.dtype)).float())
        cap = self.softcap
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def unembed(self, residual: Float[Tensor, "*B D"]) -> Float[Tensor, "*B V"]:
        """Logits in float32 from residual streams before the final norm, computed as the model does after its last block.

        Raises:
            UnsupportedArchitectureError: the model has no norm before its unembedding.
        """
        return self.logits(self.required_norm()(residual))

    def required_norm(self) -> Norm:
        """The final norm, which must exist.

        Raises:
            UnsupportedArchitectureError: the model has no norm before its unembedding.
        """
        norm = self.norm
        if norm is None:
            raise UnsupportedArchitectureError(
                f"“{self._name}” has no norm before its unembedding, so its residual stream cannot be read as logits. "
                "Choose a model of another architecture."
            )
        return norm

    @property
    def _config(self) -> Any:
        return self._bridge.original_model.config.get_text_config()
