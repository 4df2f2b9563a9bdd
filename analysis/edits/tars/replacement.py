"""Ranks the MLPs' weight vectors against the TARS target and replaces the best by its reverse (Davies et al. 2024).

    target = targeting(model, config)
    ranking = rank(model, config, target)
    with applied(replacements(model, config, target, ranking)):
        ...  # the edited model; every bit is restored at the end

A neuron's gate and up rows read the residual stream through their layer's norm; its down column writes to the stream.
The target is a final hidden state, after the last norm. `directions` maps it to a reading and a writing direction.
Concepts are removed one after another: make each target on the model as the earlier edits left it.

Axes: `L` layer, `N` neuron in a layer, `D` d_model, `E` candidate vector, `W` vectors of one parameter, `T` token.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from analysis.components.neurons import Neuron
from analysis.edits.tars.firing import contrast_firing, general_firing
from analysis.edits.tars.targeting import MATRICES, Target, Tars
from analysis.errors import EditError, UnsupportedArchitectureError
from analysis.models import LanguageModel, NeuronWeight
from analysis.training.slices import Slice

__all__ = ["Ranking", "Replacement", "applied", "directions", "rank", "replacements"]

Replacement = tuple[Slice, Tensor]
"""Rows or columns of one parameter, and the values to write there."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranking:
    """All candidate vectors, best first."""

    layers_E: np.ndarray
    matrices_E: np.ndarray
    """gate, up or down."""
    neurons_E: np.ndarray
    cosines_E: np.ndarray
    """Cosine of each vector with the direction that `directions` gives for its side (reading or writing)."""
    scores_E: np.ndarray
    """The score they are ranked by, descending: the cosine or the firing ratio."""

    def __len__(self) -> int:
        return len(self.scores_E)

    def chosen(self, config: Tars) -> int:
        """Number of vectors, from the best down, that the rule of `config` replaces.

        Raises:
            EditError: there are fewer vectors than `n_edits`, or none reaches the threshold.
        """
        if config.rule == "count":
            if config.n_edits > len(self):
                raise EditError(
                    f"{config.n_edits:,} vectors are to be replaced, but only {len(self):,} are ranked. Choose fewer, "
                    "or more layers and matrices."
                )
            return config.n_edits
        count = int((self.scores_E >= config.threshold).sum())
        if not count:
            raise EditError(
                f"No vector scores {config.threshold:g} or more; the highest has {self.scores_E[0]:.3f}. Lower the "
                "threshold."
            )
        return count

    def table(self, top: int = 50) -> pd.DataFrame:
        """The first `top` vectors, one row each: place, vector, layer, matrix, neuron, cosine, score."""
        rows = slice(0, top)
        return pd.DataFrame(
            {
                "place": np.arange(1, len(self.scores_E[rows]) + 1),
                "vector": [
                    f"{Neuron(int(layer), int(neuron))} {matrix}"
                    for layer, matrix, neuron in zip(self.layers_E[rows], self.matrices_E[rows], self.neurons_E[rows])
                ],
                "layer": self.layers_E[rows],
                "matrix": self.matrices_E[rows],
                "neuron": self.neurons_E[rows],
                "cosine": self.cosines_E[rows],
                "score": self.scores_E[rows],
            }
        )


def directions(
    model: LanguageModel, config: Tars, vector_D: Float[Tensor, " D"], layer: int
) -> tuple[Float[Tensor, " D"], Float[Tensor, " D"]]:
    """Return the target as the direction that gate and up rows of `layer` read and the one that down columns write.

    Both have length 1.

    With the final norm `h = g * x / scale (+ b)`, after subtracting the mean of x if it is a LayerNorm, and `s` the
    direction in the residual stream:

    - `none`: s = t for readers and writers alike.
    - `divide`: s = (t - b) / g, the stream that the norm turns into t (up to its scale).
    - `multiply`: s = g * t, without its mean for a LayerNorm: the gradient of `h · t` by x at a fixed scale.

    Writers are compared with s. Readers of `layer` see the stream through that layer's own norm, with gain `g'`: for
    `divide` and `multiply` they are compared with g' * s (without the mean of s for a LayerNorm), for `none` with t.

    Raises:
        UnsupportedArchitectureError: `norm_gain` is not “none”, and the model's norms are placed in another way.
    """
    if config.norm_gain == "none":
        unit_D = vector_D / vector_D.norm()
        return unit_D, unit_D
    final, before = model.readout.norm, model.blocks[layer].norm_before_mlp
    if final is None or before is None or model.blocks[layer].norm_after_mlp is not None:
        raise UnsupportedArchitectureError(
            f"“{model.name}” does not norm once before each MLP and once before the unembedding, so the gain between "
            "target and stream is unknown. Choose norm_gain “none”."
        )
    parts = final.parts(vector_D)
    if config.norm_gain == "divide":
        safe_D = torch.where(parts.gain_D.abs() < 1e-6, torch.full_like(parts.gain_D, 1e-6), parts.gain_D)
        stream_D = (vector_D - parts.bias_D) / safe_D
    else:
        stream_D = parts.gain_D * vector_D
    stream_D = parts.centred(stream_D)
    read_D = before.parts(vector_D).at_unit_scale(stream_D)
    return read_D / read_D.norm(), stream_D / stream_D.norm()


def rank(
    model: LanguageModel, config: Tars, target: Target, *, usual_LN: Float[Tensor, "L N"] | None = None
) -> Ranking:
    """Order the vectors of the configured matrices and layers.

    `cosine` (published): cosine with the target, highest first. `firing` (ours): |activation on the concept's prompts| /
    (root mean square on general text + largest |activation| on a contrast prompt's last token).

    Args:
        model: The model as it is now.
        config: What to rank.
        target: Made on the same model.
        usual_LN: `general_firing` of the model, if already measured; only for `firing`.

    Raises:
        EditError: the layers or a matrix do not exist in this model.
        UnsupportedArchitectureError: the norm's gain is needed and unknown.
    """
    columns: list[tuple[np.ndarray, ...]] = []
    for layer in _layers(model, config):
        read_D, write_D = directions(model, config, target.vector_D, layer)
        for matrix in config.matrices:
            weight = _weight(model, layer, matrix)
            along_D = write_D if matrix == "down" else read_D
            vectors_ND = weight.parameter.detach().float().movedim(weight.axis, 0)
            cosine_N = vectors_ND @ along_D / vectors_ND.norm(dim=1).clamp_min(1e-12)
            n = len(cosine_N)
            names = np.full(n, matrix, dtype=object)
            columns.append((np.full(n, layer), names, np.arange(n), cosine_N.cpu().numpy()))
    layers_E, matrices_E, neurons_E, cosines_E = (np.concatenate(parts) for parts in zip(*columns))
    scores_E = cosines_E
    if config.ranking == "firing":
        usual_LN = general_firing(model) if usual_LN is None else usual_LN
        usual_LN = usual_LN + contrast_firing(model, config.contrast)
        ratio_LN = (target.activation_LN.abs() / usual_LN.clamp_min(1e-12)).cpu().numpy()
        scores_E = ratio_LN[layers_E, neurons_E]
    order_E = np.argsort(-scores_E, kind="stable")
    return Ranking(
        layers_E=layers_E[order_E],
        matrices_E=matrices_E[order_E],
        neurons_E=neurons_E[order_E],
        cosines_E=cosines_E[order_E],
        scores_E=scores_E[order_E],
    )


def replacements(model: LanguageModel, config: Tars, target: Target, ranking: Ranking) -> list[Replacement]:
    """Compute what TARS writes where, one pair for each parameter, without changing any weight.

    `vector` (published): `w <- -scale * |w| * direction`. `stream` (ours): column n of the chosen ones becomes
    `-scale * |stream| / (number chosen * activation n) * direction`, so that together they write
    `-scale * |stream| * direction` on the concept's prompts.

    Raises:
        EditError: the rule chooses nothing or too many, or a chosen neuron is silent and cannot be scaled by the stream.
    """
    count = ranking.chosen(config)
    pieces: list[Replacement] = []
    keys = [(int(layer), str(name)) for layer, name in zip(ranking.layers_E[:count], ranking.matrices_E[:count])]
    for layer, matrix in sorted({*keys}):
        rows = [e for e, key in enumerate(keys) if key == (layer, matrix)]
        weight = _weight(model, layer, matrix)
        indices = torch.tensor(np.sort(ranking.neurons_E[rows]), dtype=torch.int64, device=weight.parameter.device)
        piece = Slice(weight.parameter, weight.axis, indices)
        read_D, write_D = directions(model, config, target.vector_D, layer)
        along_D = write_D if matrix == "down" else read_D
        if config.scaling == "stream":
            activation_W = target.activation_LN[layer, indices]
            if bool((activation_W.abs() < 1e-6).any()):
                raise EditError("A chosen neuron is silent on the aggregation prompts. Rank by firing.")
            length_W = config.scale * target.stream_norm / (count * activation_W)
        else:
            length_W = config.scale * piece.read().float().movedim(weight.axis, 0).norm(dim=1)
        values = (-length_W[:, None] * along_D).movedim(0, weight.axis)
        pieces.append((piece, values.to(weight.parameter.dtype)))
    return pieces


@contextmanager
def applied(changes: Sequence[Replacement]) -> Iterator[None]:
    """Write the replacements for the duration of the block, then restore every bit."""
    before = [piece.read() for piece, _ in changes]
    try:
        with torch.no_grad():
            for piece, values in changes:
                piece.write(values)
        yield
    finally:
        with torch.no_grad():
            for (piece, _), values in zip(changes, before):
                piece.write(values)


def _layers(model: LanguageModel, config: Tars) -> range:
    asked = config.layers or (0, -1)
    first, last = (layer if layer >= 0 else layer + model.n_layers for layer in asked)
    if not 0 <= first <= last < model.n_layers:
        raise EditError(
            f"“{model.name}” has no layers from {asked[0]} to {asked[1]}: they go from 0 to {model.n_layers - 1}, and -1 "
            "is the last."
        )
    return range(first, last + 1)


def _weight(model: LanguageModel, layer: int, matrix: str) -> NeuronWeight:
    weights = {weight.name: weight for weight in model.neuron_weights(layer)}
    if MATRICES[matrix] in weights:
        return weights[MATRICES[matrix]]
    present = [name for name, own in MATRICES.items() if own in weights]
    raise EditError(
        f"The neurons of “{model.name}” have no {matrix} vectors of their own. Choose {' or '.join(present)} vectors."
    )
