"""Measures a norm's gain, bias and whether it subtracts the mean from its outputs, however a family stores them.

Families store the gain in different ways (Gemma as gain - 1, some not at all), so it is measured: on a vector of mean 0
and mean square 1 a norm only applies its gain and bias, and it subtracts the mean if and only if it maps constant
vectors to its bias.

Axes: `D` d_model, `*B` any leading axes.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["Norm", "NormParts"]

_LARGE = 1e3
"""Scale of the probe vectors, large enough that the norm's epsilon does not matter."""


@dataclass(frozen=True, eq=False)
class NormParts:
    """A norm as gain × (x, minus its mean) / scale + bias, in float32."""

    gain_D: Float[Tensor, " D"]
    bias_D: Float[Tensor, " D"]
    """Zero for RMSNorm."""
    centres: bool
    """Whether the mean is subtracted: True for LayerNorm, False for RMSNorm."""

    def at_unit_scale(self, vector_D: Float[Tensor, " D"]) -> Float[Tensor, " D"]:
        """Applies the norm's linear part with its scale fixed at 1: centring and gain, without division and bias."""
        return self.gain_D * self.centred(vector_D)

    def centred(self, vector_D: Float[Tensor, " D"]) -> Float[Tensor, " D"]:
        """The vector, without its mean if the norm subtracts it."""
        return vector_D - vector_D.mean() if self.centres else vector_D


@dataclass(frozen=True, eq=False)
class Norm:
    """One of a model's norms (LayerNorm or RMSNorm)."""

    module: nn.Module
    """The model's own module, which computes with the model's own gain, bias and epsilon."""

    def __call__(self, residual: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """The normed residual stream, as the model computes it; no hook fires."""
        return self.module(residual)

    def parts(self, like_D: Float[Tensor, " D"]) -> NormParts:
        """Gain and bias, [D] each, in float32, and whether the mean is subtracted.

        Args:
            like_D: Any vector of the model's width, on its device, float32.
        """
        signs_D = torch.ones_like(like_D)
        signs_D[1::2] = -1
        response_D, bias_D = self._responses(signs_D)
        gain_D = response_D * signs_D
        constant_D, _ = self._responses(torch.ones_like(like_D))
        return NormParts(gain_D, bias_D, bool(constant_D.abs().max() < 0.1 * gain_D.abs().max()))

    def _responses(self, probe_D: Tensor) -> tuple[Tensor, Tensor]:
        """Odd and even part of the norm's response to `probe_D`, scaled up; at mean square 1: gain × probe, and bias."""
        large_D = (_LARGE * probe_D).to(next(self.module.parameters(), probe_D).dtype)
        with torch.no_grad():
            up_D, down_D = self.module(large_D).float(), self.module(-large_D).float()
        return (up_D - down_D) / 2, (up_D + down_D) / 2
