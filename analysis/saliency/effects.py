"""Sums effects of units over examples into means, with standard errors over independent facts or sentences.

Prompts that ask for the same fact are correlated. The standard error therefore counts facts (or sentences), not prompts:
it is the sandwich estimator for clustered data, as for the moments of the forward-only methods.

Axes: `L` layer, `N` unit, `H` head, `B` batch, `P` position.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from analysis.components.sites import Site
from analysis.models import LanguageModel
from analysis.models.finite import check_finite

__all__ = ["EffectSums", "Effects"]


@dataclass(frozen=True)
class Effects:
    """Mean effect of every unit over examples, and its standard error. NaN = not measured."""

    mean_LN: np.ndarray
    standard_error_LN: np.ndarray
    """NaN if there are fewer than two facts or sentences."""
    n_examples: int
    n_independent: int
    """Number of facts or sentences that the examples come from."""
    completeness_L: np.ndarray | None = None
    """Integrated gradients: |sum over units - true difference| / |true difference| of the layer, over all examples."""


class EffectSums:
    """Running sums over examples.

    With S the sum of a fact's effects over its n examples and m the overall mean, the fact's influence on m is
    (S - n m) / (all examples), and the variance of m is the sum of these squared * f / (f - 1) over f facts. Expanding
    the square leaves sums over finished facts: of S^2, n S and n^2. Only unfinished facts are kept in memory.
    """

    def __init__(self, model: LanguageModel, site: Site, facts: Sequence[Sequence[int]], *, measured: bool = True):
        """Start sums for `facts`: for each batch, in order, the fact (or sentence) of each of its rows."""
        units = {"N": model.n_neurons, "D": model.d_model, "H": model.n_heads}[site.letter]
        self.model, self.site = model, site
        self.batches = [list(rows) for rows in facts]
        self.examples = Counter(fact for rows in self.batches for fact in rows)
        self.left = Counter(self.examples)
        self.measured_LN = np.full((model.n_layers, units), measured)
        self.open: dict[int, np.ndarray] = {}
        self.first, self.second, self.crossed = np.zeros((3, model.n_layers, units))
        self.done = 0

    def add(self, layer: int, effects: Tensor) -> None:
        """Add the current batch's effects of a layer's units at every position, [B, P, N] or [B, P, H, d_head].

        They are summed over positions, and over a head's dimensions.

        Raises:
            ModelFileError: an effect is not finite.
        """
        self._add(layer, slice(None), effects.sum(3).sum(1) if effects.ndim == 4 else effects.sum(1))

    def add_one(self, layer: int, unit: int, effect_B: Tensor) -> None:
        """Add one unit's effects in the current batch; raises as `add` does."""
        self.measured_LN[layer, unit] = True
        self._add(layer, slice(unit, unit + 1), effect_B[:, None])

    def _add(self, layer: int, units: slice, effect_BN: Tensor) -> None:
        effects = effect_BN.double().cpu().numpy()
        check_finite(self.model, effects, f"effects at {self.site.hook(layer)}")
        for fact, effect_N in zip(self.batches[self.done], effects):
            if fact not in self.open:
                self.open[fact] = np.zeros_like(self.first)
            self.open[fact][layer, units] += effect_N

    def finish_batch(self) -> None:
        """Close the current batch and go on to the next one."""
        for fact in self.batches[self.done]:
            self.left[fact] -= 1
            if not self.left[fact]:
                total, n = self.open.pop(fact), self.examples[fact]
                self.first += total
                self.second += total**2
                self.crossed += n * total
        self.done += 1

    def effects(self, completeness_L: np.ndarray | None = None) -> Effects:
        """Return means and standard errors; units that were never added are NaN."""
        counts = np.array(list(self.examples.values()))
        n, facts = int(counts.sum()), len(counts)
        mean = self.first / n
        squares = self.second - 2 * mean * self.crossed + mean**2 * (counts**2).sum()
        error = np.full(mean.shape, np.nan)
        if facts > 1:
            error = np.sqrt(np.maximum(squares, 0) * facts / (facts - 1)) / n
        nothing = ~self.measured_LN
        mean[nothing] = error[nothing] = np.nan
        return Effects(mean, error, n, facts, completeness_L)
