"""Fits one elastic-net logistic probe per layer to a concept's tokens, with a control task of random labels.

The elastic net (Zou & Hastie 2005) was used to rank neurons by Dalvi et al. 2019: its L1 part picks few units, its L2
part spreads weight over correlated ones. Given enough units, a probe learns even meaningless labels. The control task
(Hewitt & Liang 2019) measures this: every *word type* gets a random label, and a probe is trained on those labels.
Selectivity = held-out accuracy - control accuracy is the part that may be credited to the model.

Axes: `L` layer, `N` unit in a layer, `S` sampled tokens.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import sklearn
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupShuffleSplit
from sklearn.preprocessing import StandardScaler

from analysis.errors import ConceptError
from analysis.progress import ShareDone
from analysis.saliency.moments import ConceptSample, TokenSample

__all__ = ["Probes", "fit"]

L1_RATIO = 0.5
INVERSE_STRENGTH = 0.1
"""scikit-learn's C."""
HELD_OUT = 1 / 3
MAX_ITERATIONS = 60
# scikit-learn before 1.8 (Python 3.10) needs this argument; later versions warn about it
_ELASTIC_NET: dict[str, Any] = {"penalty": "elasticnet"} if sklearn.__version__ < "1.8" else {}


@dataclass(frozen=True)
class Probes:
    """One probe per layer."""

    weights_LN: np.ndarray
    """Weights on standardised activations, [L, N]."""
    accuracy_L: np.ndarray
    """Share of held-out tokens (from sentences the probe was not trained on) with the right label."""
    control_accuracy_L: np.ndarray
    """The same for random labels of word types."""
    majority: float
    """Accuracy on the held-out tokens of always predicting the more frequent label."""
    provenance: dict[str, Any]

    def layers(self) -> dict[str, np.ndarray]:
        """Per-layer figures for a `Saliency`."""
        return {
            "held_out_accuracy": self.accuracy_L,
            "control_accuracy": self.control_accuracy_L,
            "selectivity": self.accuracy_L - self.control_accuracy_L,
        }


def fit(
    sample: TokenSample,
    chosen: ConceptSample,
    *,
    seed: int = 0,
    progress: ShareDone | None = None,
) -> Probes:
    """Fit a probe for the concept and one for the control task at every layer.

    The probe is trained on two thirds of the sentences and scored on the rest. If the sample has more tokens outside the
    concept than in it, only as many are used, so that chance is near one half. `progress` is called with the share of
    layers done.

    Raises:
        ConceptError: too few sentences hold the concept for training and scoring, or all training words are the same.
    """
    random = np.random.default_rng(seed)
    own, other = np.flatnonzero(chosen.labels), np.flatnonzero(~chosen.labels)
    if len(other) > len(own):
        other = np.sort(random.choice(other, max(len(own), 8), replace=False)) if len(other) > 8 else other
    used = np.concatenate([own, other])
    labels, groups = chosen.labels[used], chosen.clusters[used]
    train, test = _split(labels, groups, seed)
    control = _control_labels(chosen.tokens[used], train, random)
    values_SLN = sample.values_SLN
    weights, accuracy, control_accuracy = [], [], []
    for layer in range(values_SLN.shape[1]):
        features = values_SLN[:, layer].cpu().numpy()[chosen.rows[used]].astype(np.float64)
        scaler = StandardScaler().fit(features[train])
        features = np.asarray(scaler.transform(features))
        probe = _logistic(features[train], labels[train], seed)
        weights.append(probe.coef_[0])
        accuracy.append(float(probe.score(features[test], labels[test])))
        other_probe = _logistic(features[train], control[train], seed)
        control_accuracy.append(float(other_probe.score(features[test], control[test])))
        if progress:
            progress((layer + 1) / values_SLN.shape[1])
    return Probes(
        weights_LN=np.stack(weights),
        accuracy_L=np.array(accuracy),
        control_accuracy_L=np.array(control_accuracy),
        majority=float(max(labels[test].mean(), 1 - labels[test].mean())),
        provenance={
            "l1_ratio": L1_RATIO,
            "C": INVERSE_STRENGTH,
            "train_tokens": len(train),
            "held_out_tokens": len(test),
            "majority_accuracy": float(max(labels[test].mean(), 1 - labels[test].mean())),
        },
    )


def _split(labels: np.ndarray, groups: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split tokens into train and held-out ones; no sentence is in both, and both have both labels."""
    if len(np.unique(groups)) >= 4:
        splitter = GroupShuffleSplit(n_splits=20, test_size=HELD_OUT, random_state=seed)
        for train, test in splitter.split(labels, labels, groups):
            if len(np.unique(labels[train])) == len(np.unique(labels[test])) == 2:
                return train, test
    raise ConceptError(
        "A probe needs labelled words in at least four sentences, some to train on and some to be scored on. Add "
        "sentences, or choose another method."
    )


def _control_labels(tokens: np.ndarray, train: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Draw a random label for every word type, the same at all its tokens; both labels occur in training."""
    types, place = np.unique(tokens, return_inverse=True)
    seen = np.unique(place[train])
    if len(seen) < 2:
        raise ConceptError("All words that a probe would be trained on are the same one. Add other sentences.")
    labels = random.integers(0, 2, len(types)).astype(bool)
    if labels[seen].all() or not labels[seen].any():
        labels[random.choice(seen)] ^= True
    return labels[place]


def _logistic(features: np.ndarray, labels: np.ndarray, seed: int) -> LogisticRegression:
    probe = LogisticRegression(
        **_ELASTIC_NET,
        solver="saga",
        l1_ratio=L1_RATIO,
        C=INVERSE_STRENGTH,
        tol=1e-3,
        max_iter=MAX_ITERATIONS,
        random_state=seed,
    )
    with warnings.catch_warnings():
        # held-out accuracy settles long before saga's convergence criterion is met
        warnings.simplefilter("ignore", ConvergenceWarning)
        return probe.fit(features, labels)
