"""Traces hidden states: restores each at every layer and token of a corrupted run (Meng et al. 2022, figures 1 and 2).

Axes: `K` kind of state, `L` layer, `G` group of tokens, `B` batch, `P` position.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool
from torch import Tensor

from analysis.errors import ConfigError
from analysis.localization.forward import Run
from analysis.localization.patching import check_metric, gap
from analysis.models import LanguageModel
from analysis.progress import Progress
from analysis.scoring.contrast_pairs import METRICS, Metric, PairBatch, PromptPairs

__all__ = ["GROUPS", "KINDS", "StateTrace", "trace_states"]

KINDS: dict[str, str] = {
    "state": "hook_resid_post",
    "MLP": "hook_mlp_out",
    "attention": "hook_attn_out",
}
"""Kind of state that is restored -> its hook in a block."""

GROUPS = ("subject, before its last token", "subject, last token", "between", "prompt's last token")
_STAGE = "Tracing"


@dataclass(frozen=True, kw_only=True)
class StateTrace:
    """The effect of restoring one kind of state at one layer and one group of tokens."""

    kinds: tuple[str, ...]
    groups: tuple[str, ...]
    effects_KLG: np.ndarray
    """float64; mean over the prompts that have tokens in the group, NaN if none has."""
    n_G: tuple[int, ...]
    """Number of prompts with tokens in each group."""
    clean: float
    """Mean score of the clean run."""
    corrupted: float
    """Mean score of the corrupted run."""
    unit: str
    window: int
    provenance: dict[str, Any]

    def table(self) -> pd.DataFrame:
        """Return one row per kind, layer and group: kind, layer, tokens, effect, share (of the clean-corrupted gap), n."""
        kinds, layers, groups = np.indices(self.effects_KLG.shape)
        effects = self.effects_KLG.ravel()
        return pd.DataFrame(
            {
                "kind": [self.kinds[k] for k in kinds.ravel()],
                "layer": layers.ravel(),
                "tokens": [self.groups[g] for g in groups.ravel()],
                "effect": effects,
                "share": effects / gap(self.clean, self.corrupted),
                "n": [self.n_G[g] for g in groups.ravel()],
            }
        )


def trace_states(
    model: LanguageModel,
    pairs: PromptPairs,
    *,
    metric: Metric = "log_p",
    window: int = 1,
    progress: Progress | None = None,
) -> StateTrace:
    """Restore residual states, MLP outputs and attention outputs of the clean run in the corrupted one, token by token.

    Args:
        model: The model.
        pairs: Pairs of clean and corrupted prompts; Meng et al. use the corruption “noise”.
        metric: One of `contrast_pairs.METRICS`.
        window: MLP and attention outputs are restored in this many layers around each layer (Meng et al.: 10); residual
            states always in a single layer.
        progress: Called with the share done.

    Raises:
        ConfigError: the metric is unknown, or the window is below 1.
        MissingHookError: the model lacks a hook.
    """
    check_metric(metric)
    if window < 1:
        raise ConfigError(f"The window is {window} layers; it must be at least 1.")
    n_layers = model.n_layers
    sums_KLG = np.zeros((len(KINDS), n_layers, len(GROUPS)))
    counts_G = np.zeros(len(GROUPS), dtype=int)
    clean_sum = corrupted_sum = 0.0
    names = [f"blocks.{layer}.{hook}" for layer in range(n_layers) for hook in KINDS.values()]
    for b, batch in enumerate(pairs.batches):
        clean = Run(model, batch, metric, corrupted=False, keep=names)
        corrupted = Run(model, batch, metric, corrupted=True)
        clean_sum += float(clean.score_B.double().sum())
        corrupted_sum += float(corrupted.score_B.double().sum())
        masks = _groups(batch)
        for g, mask_BP in enumerate(masks):
            counts_G[g] += int(mask_BP.any(1).sum())
            for k, (kind, hook) in enumerate(KINDS.items()):
                for layer in range(n_layers):
                    layers = [layer] if kind == "state" else _window(layer, window, n_layers)
                    hooks = [
                        (name, _restorer(clean.kept[name], mask_BP)) for name in (f"blocks.{m}.{hook}" for m in layers)
                    ]
                    # a prompt without such a token is not patched, and adds nothing
                    restored_B = corrupted.score(hooks, layers[0])
                    sums_KLG[k, layer, g] += float((restored_B - corrupted.score_B).double().sum())
                if progress is not None:
                    done = (g * len(KINDS) + k + 1) / (len(masks) * len(KINDS))
                    progress(_STAGE, (b + done) / len(pairs.batches))
    effects_KLG = np.divide(sums_KLG, counts_G, out=np.full(sums_KLG.shape, np.nan), where=counts_G > 0)
    return StateTrace(
        kinds=tuple(KINDS),
        groups=GROUPS,
        effects_KLG=effects_KLG,
        n_G=tuple(int(n) for n in counts_G),
        clean=clean_sum / pairs.n_prompts,
        corrupted=corrupted_sum / pairs.n_prompts,
        unit=METRICS[metric],
        window=window,
        provenance=pairs.provenance | {"metric": metric, "window": window},
    )


def _groups(batch: PairBatch) -> list[Bool[Tensor, "B P"]]:
    """Return the masks of `GROUPS`; if the subject ends the prompt, its last token counts as the subject's only."""
    columns = torch.arange(batch.clean_BP.shape[1], device=batch.clean_BP.device)[None]
    subject_end_B = torch.where(batch.subject_BP, columns, -1).amax(1)
    at_end_BP = columns == subject_end_B[:, None]
    last_BP = (columns == batch.last_B[:, None]) & ~at_end_BP
    between_BP = (columns > subject_end_B[:, None]) & (columns < batch.last_B[:, None])
    return [batch.subject_BP & ~at_end_BP, at_end_BP, between_BP, last_BP]


def _window(layer: int, width: int, n_layers: int) -> list[int]:
    """`width` layers around `layer`, fewer at the ends of the model."""
    first = layer - (width - 1) // 2
    return list(range(max(first, 0), min(first + width, n_layers)))


def _restorer(clean: Tensor, mask_BP: Tensor):
    return lambda activation, hook: torch.where(mask_BP[..., None], clean, activation)
