"""Assigns roles to neurons that carry a concept (edited, recruit, survivor), and what else each of them carries.

Axes: `C` concept, `L` layer, `N` neuron in a layer, `K` chosen neuron.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.components.neurons import Neuron, NeuronSet
from analysis.migration.measures import scaled
from analysis.relearning import Snapshot
from analysis.saliency.carriers import carrier_threshold, rank_normalise

__all__ = ["NO_OTHER", "Roles", "carriers_table", "recruits_table", "role_of", "roles", "strongest_other"]

NO_OTHER = 255
"""Stands for “carries no other concept” where concepts are counted in a byte."""


@dataclass(frozen=True)
class Roles:
    """Unedited neurons that carry the concept at one moment, by role."""

    recruits: NeuronSet
    survivors: NeuronSet


def roles(now_LN: np.ndarray, reference_LN: np.ndarray, edited: NeuronSet, threshold: float) -> Roles:
    """Recruits and survivors at one moment, seen from the reference moment (right after the edit)."""
    free = ~edited.mask()
    carries = (now_LN >= threshold) & free
    carried = reference_LN >= threshold
    return Roles(
        recruits=NeuronSet.from_mask(carries & ~carried),
        survivors=NeuronSet.from_mask(carries & carried & (now_LN > reference_LN)),
    )


def role_of(neuron: Neuron, found: Roles, edited: NeuronSet, edit_label: str = "pruned") -> str:
    """Role of a neuron at one moment: `edit_label`, “recruit”, “survivor”, or “other”."""
    flat = neuron.layer * edited.shape[1] + neuron.index
    for label, neurons in ((edit_label, edited), ("recruit", found.recruits), ("survivor", found.survivors)):
        if flat in neurons.flat:
            return label
    return "other"


def strongest_other(scores_CK: np.ndarray, thresholds_C: Sequence[float]) -> np.ndarray:
    """Index of the other concept that each neuron carries most strongly, uint8 [K]; `NO_OTHER` if it carries none.

    Args:
        scores_CK: The neurons' scores for the other concepts, at one moment.
        thresholds_C: Score from which each concept counts as carried (`carrier_threshold` in the base model). Concepts
            are compared by the score as a multiple of its threshold.
    """
    if not len(scores_CK):
        return np.full(scores_CK.shape[1], NO_OTHER, np.uint8)
    multiples_CK = scores_CK / np.maximum(np.asarray(thresholds_C, dtype=np.float64), 1e-12)[:, None]
    strongest_K = multiples_CK.argmax(axis=0)
    return np.where(multiples_CK.max(axis=0) >= 1, strongest_K, NO_OTHER).astype(np.uint8)


def recruits_table(
    base: Snapshot, reference: Snapshot, now: Snapshot, concept: str, edited: NeuronSet, scale: str
) -> pd.DataFrame:
    """The recruits at `now`, strongest first: `carriers_table` without survivors."""
    table = carriers_table(base, reference, now, concept, edited, scale)
    return table.loc[table["role"] == "recruit"].drop(columns=["role"]).reset_index(drop=True)


def carriers_table(
    base: Snapshot,
    reference: Snapshot,
    now: Snapshot,
    concept: str,
    edited: NeuronSet,
    scale: str,
    titles: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Neurons that carry the concept at `now`, strongest first: recruits and survivors, and what else they carry.

    Columns: neuron, layer, role, score_base, score_edited, score_now, also_carries (titles of the other tracked concepts
    it carries at `now`, strongest first), words_before and words_now (of followed neurons), and for every tracked concept
    its rank in the base model (1 = the most salient neuron, 0.5 = chance).
    """
    base_LN, reference_LN, now_LN = (scaled(snapshot, concept, scale) for snapshot in (base, reference, now))
    found = roles(now_LN, reference_LN, edited, carrier_threshold(base_LN))
    recruited = set(found.recruits.flat.tolist())
    flat_K = np.concatenate([found.recruits.flat, found.survivors.flat])
    flat_K = flat_K[np.argsort(-now_LN.ravel()[flat_K], kind="stable")]
    width = base_LN.shape[1]
    table = pd.DataFrame(
        {
            "neuron": [str(Neuron(int(flat // width), int(flat % width))) for flat in flat_K],
            "layer": flat_K // width,
            "role": ["recruit" if flat in recruited else "survivor" for flat in flat_K.tolist()],
            "score_base": base_LN.ravel()[flat_K],
            "score_edited": reference_LN.ravel()[flat_K],
            "score_now": now_LN.ravel()[flat_K],
            "also_carries": _also(base, now, concept, scale, flat_K, titles or {}),
            "words_before": [" ".join(base.words.get(flat, ())) for flat in flat_K.tolist()],
            "words_now": [" ".join(now.words.get(flat, ())) for flat in flat_K.tolist()],
        }
    )
    for name in base.saliency:
        table[f"rank of {name} before"] = rank_normalise(scaled(base, name, scale)).ravel()[flat_K]
    return table


def _also(
    base: Snapshot, now: Snapshot, concept: str, scale: str, flat_K: np.ndarray, titles: Mapping[str, str]
) -> list[list[str]]:
    others = [name for name in base.saliency if name != concept]
    multiples_CK = np.array(
        [
            scaled(now, name, scale).ravel()[flat_K] / max(carrier_threshold(scaled(base, name, scale)), 1e-12)
            for name in others
        ]
    )
    return [
        [titles.get(others[c], others[c]) for c in np.argsort(-column) if column[c] >= 1]
        for column in (multiples_CK.T if others else np.empty((len(flat_K), 0)))
    ]
