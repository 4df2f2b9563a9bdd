"""Trains linear probes on arrays by cross-validation and scores them on the held-out folds.

Axes: `X` prompt, `D` d_model, `K` candidate answer, `R` depth row.
"""

from collections.abc import Sequence

import numpy as np
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.preprocessing import StandardScaler

__all__ = ["INVERSE_PENALTY", "RIDGES", "chance_level", "deal", "directions", "held_out"]

_FOLDS = 5
INVERSE_PENALTY = 0.01
"""C of scikit-learn's logistic regression on standardised inputs; small, since dimensions outnumber subjects."""
RIDGES = tuple(10.0**power for power in range(1, 7))


def held_out(
    states_XD: np.ndarray, truth_X: np.ndarray, fold_X: np.ndarray, targets_KD: np.ndarray | None
) -> np.ndarray:
    """Return, for each prompt, 1 if a probe trained on the other folds is right, else 0."""
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
        # without the intercept, which disfavours all answers not trained on
        mapped = ridge.predict(questions) - ridge.intercept_
        candidates = np.unique(truth_X[test])
        similarity = mapped @ targets_KD[candidates].T
        right_X[test] = candidates[similarity.argmax(1)] == truth_X[test]
    return right_X


def deal(labels: Sequence[int], random: np.random.Generator) -> np.ndarray:
    """Assign a fold to each unit, spreading each label as evenly over folds as possible."""
    folds = np.zeros(len(labels), dtype=int)
    order = random.permutation(len(labels))
    order = order[np.argsort(np.array(labels)[order], kind="stable")]
    folds[order] = np.arange(len(labels)) % _FOLDS
    return folds


def directions(vectors_KD: np.ndarray) -> np.ndarray:
    """Subtract the mean of the vectors and scale each to length 1."""
    centred = vectors_KD - vectors_KD.mean(0)
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)


def chance_level(label_X: np.ndarray, fold_X: np.ndarray, kind: str) -> float:
    """Chance accuracy: always the largest class, or a random one of the held-out answers."""
    if kind == "class":
        return float(np.bincount(label_X).max() / len(label_X))
    return float(np.mean([1 / len(np.unique(label_X[fold_X == fold])) for fold in fold_X]))
