"""Computes the saliency of every neuron for a snapshot in one pass over the labelled text, on the device.

It keeps only the sums that the scores need; `saliency.moments` also keeps what error bars need. Nothing here waits for a
CUDA device.

Axes: `L` layer, `N` neuron in a layer, `G` label group, `C` concept, `M` saliency method, `B` batch, `P` position,
`T` tokens of a batch.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from analysis.components.neurons import hook_name
from analysis.models import LanguageModel
from analysis.models.finite import not_finite
from analysis.saliency.method import Groups
from analysis.saliency.methods import MOMENT_METHODS, moment_method
from analysis.scoring.batches import LabelledText

__all__ = ["SaliencyPass", "check_scores"]


class SaliencyPass:
    """Measures saliency in a pass; whatever does not change between passes is prepared once."""

    def __init__(self, model: LanguageModel, text: LabelledText):
        self.model, self.text = model, text
        # float64, except on MPS, which has none: saliency is a difference of close means
        self.precise = torch.float32 if model.device.type == "mps" else torch.float64
        self._weights_GT = [batch.weights_GBP.flatten(1).to(self.precise) for batch in text.batches]
        counts = torch.tensor(text.n_tokens_G, dtype=self.precise, device=model.device)
        self._counts_G11 = counts[:, None, None]

    def run(self, also: Sequence[tuple[str, Callable]] = ()) -> Float[Tensor, "C M L N"]:
        """Scores by each of `MOMENT_METHODS`, float32; NaN or infinite wherever an activation is.

        Args:
            also: Further hooks for the same pass, as `LanguageModel.hooks` takes them.
        """
        groups = 2 * len(self.text.concepts)
        sums_GLN, squares_GLN = (
            torch.zeros(groups, *self.model.shape, dtype=self.precise, device=self.model.device) for _ in range(2)
        )

        def hook(layer: int) -> Callable:
            batches = iter(self._weights_GT)

            def accumulate(activation: Tensor, hook: object) -> None:
                weights_GT = next(batches)
                values_TN = activation.detach().flatten(0, 1).to(self.precise)
                sums_GLN[:, layer] += weights_GT @ values_TN
                squares_GLN[:, layer] += weights_GT @ values_TN.square()

            return accumulate

        hooks = [(hook_name(layer), hook(layer)) for layer in range(self.model.n_layers)]
        with self.model.hooks([*hooks, *also]), torch.inference_mode():
            for batch in self.text.batches:
                self.model.residual(batch.tokens_BP)
            return self._scores(sums_GLN, squares_GLN)

    def _scores(self, sums_GLN: Tensor, squares_GLN: Tensor) -> Tensor:
        means_GLN = sums_GLN / self._counts_G11
        variances_GLN = (squares_GLN / self._counts_G11 - means_GLN.square()).clamp_min(0)
        groups = Groups(means_GLN[0::2], means_GLN[1::2], variances_GLN[0::2], variances_GLN[1::2])
        return torch.stack([moment_method(name).signed(groups).abs() for name in MOMENT_METHODS], dim=1).float()


def check_scores(scores_CMLN: np.ndarray, model: LanguageModel) -> None:
    """Refuse scores that are not finite.

    Raises:
        ModelFileError: a score is NaN or infinite; the message names the first such layer.
    """
    finite_L = np.isfinite(scores_CMLN).all(axis=(0, 1, 3))
    if not finite_L.all():
        raise not_finite(model, f"activations at {hook_name(int(np.flatnonzero(~finite_L)[0]))}")
