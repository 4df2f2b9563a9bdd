"""Linear probes on arrays: trained on some folds, right or wrong on the rest. Knows nothing of models.

Axes: `X` prompt, `D` d_model, `K` candidate answer, `R` depth row.
"""

from collections.abc import Sequence

import numpy as np
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.preprocessing import StandardScaler

__all__ = ["INVERSE_PENALTY", "RIDGES", "chance_level", "deal", "directions", "held_out"]

_FOLDS = 5
INVERSE_PENALTY = 0.01
"""Of the logistic probe on standardised inputs (scikit-learn's C): there are more dimensions than subjects."""
RIDGES = tuple(10.0**power for power in range(1, 7))


def held_out(
    states_XD: np.ndarray, truth_X: np.ndarray, fold_X: np.ndarray, targets_KD: np.ndarray | None
) -> np.ndarray:
    """1 where a probe trained on the other folds is right, 0 where it is wrong."""
    right_X = np.zeros(len(truth_X))
    for fold in np.unique(fold_X):
        train, test = fold_X != fold, fold_X == fold
        scaler = StandardScaler().fit(states_XD[train])
        inputs, questions = scaler.transform(states_XD[train]), scaler.transform(states_XD[test])
        if targets_KD is None:
            probe = LogisticRegression(C=INVERSE_PENALTY, max_iter=1000).fit(inputs, truth_X[train])
            right_X[test] = probe.predict(questions) == truth_X[test]
            continue
        ridge = RidgeCV(alphas=RIDGES).fit(inputs, targets_KD[truth_X[train]])
        # without the intercept, which points away from all answers that were not trained on
        mapped = ridge.predict(questions) - ridge.intercept_
        candidates = np.unique(truth_X[test])
        similarity = mapped @ targets_KD[candidates].T
        right_X[test] = candidates[similarity.argmax(1)] == truth_X[test]
    return right_X


def deal(labels: Sequence[int], random: np.random.Generator) -> np.ndarray:
    """A fold for each unit, each label spread as evenly over folds as possible."""
    folds = np.zeros(len(labels), dtype=int)
    order = random.permutation(len(labels))
    order = order[np.argsort(np.array(labels)[order], kind="stable")]
    folds[order] = np.arange(len(labels)) % _FOLDS
    return folds


def directions(vectors_KD: np.ndarray) -> np.ndarray:
    """Vectors as unit vectors around their mean."""
    centred = vectors_KD - vectors_KD.mean(0)
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)


def chance_level(label_X: np.ndarray, fold_X: np.ndarray, kind: str) -> float:
    """Accuracy without looking: always the largest class, or any of the held-out answers."""
    if kind == "class":
        return float(np.bincount(label_X).max() / len(label_X))
    return float(np.mean([1 / len(np.unique(label_X[fold_X == fold])) for fold in fold_X]))
