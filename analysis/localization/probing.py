"""Trains a probe at every layer to read the answer from the residual stream at the subject's last token.

Probes are not causal: a layer at which the answer is decodable need not be the one the model uses. Every accuracy is for
subjects the probe was not trained on. There are two kinds of probe:

- *class*: answers repeat (athlete -> sport). A logistic probe predicts the class; chance is the share of the largest one.
- *answer*: answers do not repeat (country -> capital), so a class probe could only memorise subjects. A ridge regression
  maps the residual to the answer's unembedding vector, and is right if the true answer is the nearest of the held-out
  answers. This is our reconstruction: the paper probes classes only.

The control probe is trained on answers shuffled over subjects (Hewitt & Liang 2019); its accuracy above chance is leakage.

Axes: `R` depth row (row 0 the embedding, row l + 1 the residual stream after layer l), `X` prompt, `D` d_model,
`K` candidate answer.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from threadpoolctl import threadpool_limits
from torch import Tensor

from analysis.concepts import Concept, Fact
from analysis.errors import ConceptError
from analysis.localization.linear_probes import chance_level, deal, directions, held_out
from analysis.models import LanguageModel
from analysis.progress import Progress
from analysis.scoring.batches import span_tokens
from analysis.scoring.contrast_pairs import PairBatch, pair_prompts
from analysis.stats import wilson

__all__ = [
    "MAX_PROMPTS",
    "MIN_PER_CLASS",
    "MIN_SUBJECTS",
    "ProbeCurve",
    "measure_curve",
    "probe_curve",
    "subject_states",
]

MIN_PER_CLASS = 5
"""Least number of subjects of an answer that counts as a class."""
MIN_SUBJECTS = 10
"""Least number of different answers for the ridge map."""
MAX_PROMPTS = 512


@dataclass(frozen=True, kw_only=True, eq=False)
class ProbeCurve:
    """Held-out probe accuracy by depth."""

    concept: str
    kind: Literal["class", "answer"]
    accuracy_R: np.ndarray
    """float64; share of a subject's prompts that the probe gets right, averaged over subjects."""
    low_R: np.ndarray
    """Lower end of the 95% interval (Wilson, over subjects)."""
    high_R: np.ndarray
    control_R: np.ndarray
    """The same with shuffled answers."""
    chance: float
    n_subjects: int
    n_prompts: int
    answers: tuple[str, ...]
    """The classes or the candidate answers."""
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def unit(self) -> str:
        return "share of held-out subjects whose answer is read correctly"

    def table(self) -> pd.DataFrame:
        """Return one row per depth: layer (-1 = embedding), accuracy, low, high, control, selectivity, chance."""
        return pd.DataFrame(
            {
                "layer": np.arange(len(self.accuracy_R)) - 1,
                "accuracy": self.accuracy_R,
                "low": self.low_R,
                "high": self.high_R,
                "control": self.control_R,
                "selectivity": self.accuracy_R - self.control_R,
                "chance": self.chance,
            }
        )


def measure_curve(
    model: LanguageModel,
    concept: Concept,
    facts: Sequence[Fact],
    *,
    max_prompts: int = MAX_PROMPTS,
    seed: int = 0,
    progress: Progress | None = None,
) -> ProbeCurve:
    """Probe the residual stream at the subject's last token, at every depth.

    If at least two answers have `MIN_PER_CLASS` subjects each, the probe is of the kind “class” and facts with other
    answers are left out; otherwise it is of the kind “answer” and uses all facts.

    Args:
        model: The model.
        concept: The concept whose prompts are used.
        facts: Usually those the model knows.
        max_prompts: Most prompts, drawn with `seed` as evenly over facts as possible.
        seed: Draws prompts, folds and shuffled answers.
        progress: Called with the share done.

    Raises:
        ConceptError: there are too few facts or answers; the message says how many are needed.
        ConfigError: `max_prompts` is below 1.
        MissingHookError: the model lacks a hook.
    """
    kept, kind = _usable(concept, facts)
    pairs = pair_prompts(model, concept, kept, corruption="noise", max_prompts=max_prompts, seed=seed)
    names = ["blocks.0.hook_resid_pre", *(f"blocks.{layer}.hook_resid_post" for layer in range(model.n_layers))]
    model.require_hooks(names, "probing")
    states, rows = [], []
    for batch in pairs.batches:
        states.append(subject_states(model, batch, names))
        rows.extend(batch.facts)
    states_RXD = np.concatenate(states, axis=1)
    answers = [fact.answer for fact in kept]
    vectors = answer_vectors(model, concept, kept) if kind == "answer" else None
    return probe_curve(
        states_RXD,
        np.array(rows),
        [fact.subject for fact in kept],
        answers,
        vectors=vectors,
        concept=concept.name,
        seed=seed,
        provenance={"model": model.name, "dtype": model.dtype, "seed": seed, "n_facts": len(kept)},
        progress=progress,
    )


def probe_curve(
    states_RXD: Float[np.ndarray, "R X D"],
    facts_X: Int[np.ndarray, " X"],
    subjects: Sequence[str],
    answers: Sequence[str],
    *,
    vectors: dict[str, np.ndarray] | None = None,
    concept: str = "",
    seed: int = 0,
    provenance: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> ProbeCurve:
    """Compute cross-validated accuracy at every depth from activations.

    Args:
        states_RXD: Residuals of each prompt at its subject's last token.
        facts_X: The fact of each prompt, an index into `subjects` and `answers`.
        subjects: The subject of each fact.
        answers: The answer of each fact.
        vectors: The unembedding vector of each answer; if given, the probe is of the kind “answer”.
        concept: Name of the concept, stored in the result.
        seed: Assigns subjects to folds and shuffles the control's answers.
        provenance: Stored in the result.
        progress: Called with the share done.
    """
    random = np.random.default_rng(seed)
    names = sorted(set(answers))
    kind = "class" if vectors is None else "answer"
    # no subject is in both training and test folds; for the kind “answer”, no answer is
    owners = list(subjects) if kind == "class" else list(answers)
    units = sorted(set(owners))
    label = {unit: names.index(answer) for unit, answer in zip(owners, answers)}
    shuffled = dict(zip(units, random.permutation([label[unit] for unit in units]).tolist()))
    unit_X = np.array([units.index(owners[fact]) for fact in facts_X])
    label_X = np.array([names.index(answers[int(fact)]) for fact in facts_X])
    control_X = np.array([shuffled[owners[fact]] for fact in facts_X])
    truths = []
    for truth, truth_X in ((label, label_X), (shuffled, control_X)):
        folds = deal([truth[unit] if kind == "class" else 0 for unit in units], random)
        truths.append((truth_X, folds[unit_X]))
    targets_KD = None if vectors is None else directions(np.stack([vectors[name] for name in names]))
    means = np.zeros((2, len(states_RXD)))
    for r, states_XD in enumerate(states_RXD):
        # one thread: with several, matrices this small take ten times as long, spent on waiting
        with threadpool_limits(1):
            for k, (truth_X, fold_X) in enumerate(truths):
                right_X = held_out(states_XD, truth_X, fold_X, targets_KD)
                means[k, r] = (np.bincount(unit_X, right_X) / np.bincount(unit_X)).mean()
        if progress is not None:
            progress("Probing", (r + 1) / len(states_RXD))
    chance = chance_level(label_X, truths[0][1], kind)
    low_R, high_R = wilson(means[0], len(units))
    return ProbeCurve(
        concept=concept,
        kind=kind,
        accuracy_R=means[0],
        low_R=low_R,
        high_R=high_R,
        control_R=means[1],
        chance=chance,
        n_subjects=len(units),
        n_prompts=len(facts_X),
        answers=tuple(names),
        provenance=provenance or {},
    )


def answer_vectors(model: LanguageModel, concept: Concept, facts: Sequence[Fact]) -> dict[str, np.ndarray]:
    """Return, for every answer, the mean of the unembedding vectors of its tokens."""
    weight_VD = model.readout.weight_VD.detach()
    vectors = {}
    for fact in facts:
        text, start = next(iter(concept.statements(fact)))
        encoded = model.encode(text)
        ids = [encoded.ids[p] for p in span_tokens(encoded, start, len(text))]
        vectors[fact.answer] = weight_VD[ids].float().mean(0).cpu().numpy()
    return vectors


def subject_states(model: LanguageModel, batch: PairBatch, names: Sequence[str]) -> Float[np.ndarray, "R B D"]:
    """Return the residual stream at these hooks at each clean prompt's last subject token."""
    columns = torch.arange(batch.clean_BP.shape[1], device=batch.clean_BP.device)
    last_B = torch.where(batch.subject_BP, columns, -1).amax(1)
    rows = torch.arange(len(last_B), device=last_B.device)
    found: dict[str, np.ndarray] = {}

    def keep(name: str) -> Callable:
        def hook(activation: Tensor, hook: object) -> None:
            found[name] = activation[rows, last_B].float().cpu().numpy()

        return hook

    with torch.inference_mode(), model.hooks([(name, keep(name)) for name in names]):
        model.residual(batch.clean_BP)
    return np.stack([found[name] for name in names])


def _usable(concept: Concept, facts: Sequence[Fact]) -> tuple[list[Fact], Literal["class", "answer"]]:
    """Return the facts that can be probed, and the kind of probe."""
    subjects: dict[str, set[str]] = {}
    for fact in facts:
        subjects.setdefault(fact.answer, set()).add(fact.subject)
    counts = Counter({answer: len(names) for answer, names in subjects.items()})
    classes = {answer for answer, n in counts.items() if n >= MIN_PER_CLASS}
    if len(classes) >= 2:
        return [fact for fact in facts if fact.answer in classes], "class"
    if len(counts) < MIN_SUBJECTS:
        raise ConceptError(
            f"“{concept.name}” gives a probe too little to learn from: {len(facts)} facts with {len(counts)} different "
            f"answers. It needs two answers with at least {MIN_PER_CLASS} subjects each, or {MIN_SUBJECTS} answers. Add "
            "facts, count less well known facts as known, or use path patching."
        )
    return list(facts), "answer"
