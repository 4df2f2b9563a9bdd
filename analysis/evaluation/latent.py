"""Measures whether the answer is still decodable inside the model: linear probes of kept facts, and the logit lens.

Axes: `R` depth row (row 0 the embedding, row l + 1 the residual stream after layer l), `X` prompt, `D` d_model,
`K` candidate answer, `F` fact.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from analysis.concepts import Concept, Fact
from analysis.errors import ConceptError
from analysis.evaluation import intervals
from analysis.evaluation.result import Curve, Measure
from analysis.lens import logit_lens
from analysis.localization import linear_probes, probing
from analysis.localization.linear_probes import directions
from analysis.models import LanguageModel
from analysis.progress import Progress
from analysis.scoring.contrast_pairs import pair_prompts
from analysis.stats import wilson

__all__ = ["MIN_MAINTAINED", "Probed", "lens_depth", "probe_forgotten", "transfer"]

MIN_MAINTAINED = 10
"""Least number of maintained facts to train a probe on."""


@dataclass(frozen=True, kw_only=True)
class Probed:
    """How often probes trained on maintained facts read the true, and the injected, answer of forgotten ones."""

    measures: tuple[Measure, ...]
    """probe_true and, if the facts have counter answers, probe_injected: means over all layers, so that no layer is
    picked by its result."""
    curves: tuple[Curve, ...]
    """The same by layer."""


def probe_forgotten(
    model: LanguageModel,
    concept: Concept,
    forgotten: Sequence[Fact],
    maintained: Sequence[Fact],
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> Probed:
    """Train a probe at every layer on maintained subjects, and apply it to forgotten ones.

    The probe reads the residual stream at the subject's last token. If answers repeat, a logistic probe predicts one of
    the maintained facts' answers (Guo et al. 2024), and forgotten facts with another answer are left out. Otherwise a ridge
    regression maps the residual to the answer's unembedding vector, and the nearest of all answers asked about is its
    prediction. Settings are those of `localization.measure_curve`.

    Raises:
        ConceptError: there are too few maintained facts, or none of the forgotten answers can be read.
        MissingHookError: the model lacks a hook.
    """
    if len(maintained) < MIN_MAINTAINED:
        raise ConceptError(
            f"A probe learns from known facts of “{concept.name}” that are not to be forgotten, and there are "
            f"{len(maintained)}; it needs {MIN_MAINTAINED}. Forget only a part of the concept."
        )
    repeats = max(Counter(fact.answer for fact in maintained).values()) >= probing.MIN_PER_CLASS
    if repeats:
        classes = {fact.answer for fact in maintained}
        forgotten = [fact for fact in forgotten if fact.answer in classes]
        if not forgotten or len(classes) < 2:
            raise ConceptError(
                "No forgotten fact has an answer that maintained facts have too, so no probe can read it."
            )
    states_RXD, fact_X = _states(model, concept, [*maintained, *forgotten], seed)
    counters = [fact.counter_answer for fact in forgotten]
    extra = [
        Fact(f.subject, f.counter_answer, templates=concept.templates_of(f)) for f in forgotten if f.counter_answer
    ]
    vectors = None if repeats else probing.answer_vectors(model, concept, [*maintained, *forgotten, *extra])
    read_RX, names = transfer(
        states_RXD, fact_X, [fact.answer for fact in maintained], len(forgotten), vectors=vectors, progress=progress
    )
    owner_X = fact_X[fact_X >= len(maintained)] - len(maintained)
    measures, curves = [], []
    truths: list[str | None] = [fact.answer for fact in forgotten]
    for name, wanted in (("probe_true", truths), ("probe_injected", counters)):
        asked = [f for f, answer in enumerate(wanted) if answer is not None]
        if not asked:
            continue
        index = {answer: k for k, answer in enumerate(names)}
        target_X = np.array([index.get(wanted[f] or "", -1) for f in owner_X])
        hit_RX = (read_RX == target_X) & np.isin(owner_X, asked)
        share_RF = np.stack([np.bincount(owner_X, hit_X)[asked] / np.bincount(owner_X)[asked] for hit_X in hit_RX])
        note = f"chance about {_chance(names, maintained, forgotten, vectors is None):.2f}"
        unit = "share of prompts, mean over layers"
        measures.append(intervals.mean(name, share_RF.mean(0), counts="facts", unit=unit, note=note))
        curves.append(_curve(name, share_RF))
    return Probed(measures=tuple(measures), curves=tuple(curves))


def transfer(
    states_RXD: Float[np.ndarray, "R X D"],
    fact_X: Int[np.ndarray, " X"],
    train_answers: Sequence[str],
    n_test: int,
    *,
    vectors: dict[str, np.ndarray] | None = None,
    progress: Progress | None = None,
) -> tuple[Int[np.ndarray, "R Y"], list[str]]:
    """Train probes on the first facts' prompts and predict the answers of the others' prompts (`Y`), at every depth.

    Args:
        states_RXD: Residuals of all prompts.
        fact_X: Each prompt's fact; the first `len(train_answers)` are trained on, `n_test` follow.
        train_answers: Answers of the facts trained on.
        n_test: Number of the facts that follow.
        vectors: Answer -> unembedding vector: makes the probe a ridge map, which can predict answers it never saw.
        progress: Called with the share done.

    Returns:
        Index of the predicted answer for each depth and prompt, and the answers that the indices refer to.
    """
    train_X = fact_X < len(train_answers)
    names = sorted(set(train_answers) if vectors is None else set(vectors))
    truth_X = np.array([names.index(train_answers[int(f)]) for f in fact_X[train_X]])
    targets_KD = None if vectors is None else directions(np.stack([vectors[name] for name in names]))
    read_RY = np.zeros((len(states_RXD), int((~train_X).sum())), dtype=np.int64)
    for r, states_XD in enumerate(states_RXD):
        with threadpool_limits(1):  # on matrices this small threads wait for each other
            scaler = StandardScaler().fit(states_XD[train_X])
            inputs, questions = scaler.transform(states_XD[train_X]), scaler.transform(states_XD[~train_X])
            if targets_KD is None:
                probe = LogisticRegression(C=linear_probes.INVERSE_PENALTY, max_iter=1000).fit(inputs, truth_X)
                read_RY[r] = probe.predict(questions)
            else:
                ridge = RidgeCV(alphas=linear_probes.RIDGES).fit(inputs, targets_KD[truth_X])
                # without the intercept, which favours the answers trained on
                read_RY[r] = ((ridge.predict(questions) - ridge.intercept_) @ targets_KD.T).argmax(1)
        if progress is not None:
            progress("Probing", (r + 1) / len(states_RXD))
    return read_RY, names


def lens_depth(model: LanguageModel, concept: Concept, facts: Sequence[Fact]) -> tuple[Measure, ...]:
    """Return lens_decodable, the share of facts whose answer is among the logit lens' 10 top predictions at some layer, and
    lens_depth, the first such layer averaged over those facts (-1 is the embedding; absent for fewer than two facts).

    Raises:
        ConceptError, MissingHookError, ModelFileError, UnsupportedArchitectureError: as `logit_lens.depths`.
    """
    table = logit_lens.depths(model, concept, facts)
    found = table["first_decodable"].dropna().astype(int).to_numpy()
    measures = [
        intervals.share(
            "lens_decodable",
            table["first_decodable"].notna().to_numpy(),
            counts="facts",
            unit=f"share in the top {logit_lens.DECODABLE_RANK} at some layer",
        )
    ]
    if len(found) >= 2:
        note = f"of {model.n_layers} layers"
        measures.append(
            intervals.mean("lens_depth", found, counts="decodable facts", unit="layer", note=note, bounded=False)
        )
    return tuple(measures)


def _states(
    model: LanguageModel, concept: Concept, facts: Sequence[Fact], seed: int
) -> tuple[Float[np.ndarray, "R X D"], Int[np.ndarray, " X"]]:
    pairs = pair_prompts(model, concept, facts, corruption="noise", max_prompts=probing.MAX_PROMPTS, seed=seed)
    names = ["blocks.0.hook_resid_pre", *(f"blocks.{layer}.hook_resid_post" for layer in range(model.n_layers))]
    model.require_hooks(names, "probing")
    states_RXD = np.concatenate([probing.subject_states(model, batch, names) for batch in pairs.batches], axis=1)
    return states_RXD, np.array([fact for batch in pairs.batches for fact in batch.facts])


def _chance(names: list[str], maintained: Sequence[Fact], forgotten: Sequence[Fact], classes: bool) -> float:
    """Chance accuracy: always the maintained facts' most frequent answer, or a random candidate."""
    if not classes:
        return 1 / len(names)
    commonest = Counter(fact.answer for fact in maintained).most_common(1)[0][0]
    return sum(fact.answer == commonest for fact in forgotten) / len(forgotten)


def _curve(name: str, share_RF: np.ndarray) -> Curve:
    mean_R, n = share_RF.mean(1), share_RF.shape[1]
    low_R, high_R = wilson(mean_R, n)
    return Curve(
        name=name,
        layers=tuple(range(-1, len(mean_R) - 1)),
        values=tuple(mean_R.tolist()),
        low=tuple(np.clip(low_R, 0, 1).tolist()),
        high=tuple(np.clip(high_R, 0, 1).tolist()),
        n=n,
        counts="facts",
        unit="share of prompts read so",
    )
