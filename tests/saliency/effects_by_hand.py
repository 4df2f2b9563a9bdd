"""Examples one at a time, and effects averaged the long way: what tests of attribution share."""

from collections.abc import Iterator, Sequence

import numpy as np

from analysis.saliency.effects import Effects
from analysis.scoring.contrast_pairs import AnswerBatch


def examples(batches: Sequence[AnswerBatch]) -> Iterator[tuple[list[int], list[int], int]]:
    """(token ids up to the answer's end, positions of the answer, fact) of every example."""
    for batch in batches:
        for tokens, answer, fact in zip(batch.tokens_BP, batch.answer_BP, batch.facts):
            positions = answer.nonzero().flatten().tolist()
            yield tokens[: positions[-1] + 1].tolist(), positions, fact


def assert_effects(found: Effects, values_ELN: Sequence[np.ndarray], facts: Sequence[int], **tolerance: float) -> None:
    """Means over examples; errors by summing each fact's deviations first."""
    values = np.stack(values_ELN)
    mean = values.mean(0)
    influence = [(values[np.array(facts) == fact] - mean).sum(0) / len(values) for fact in set(facts)]
    n = len(influence)
    tolerance = tolerance or {"rtol": 2e-3, "atol": 2e-5}
    np.testing.assert_allclose(found.mean_LN, mean, **tolerance)
    np.testing.assert_allclose(
        found.standard_error_LN, np.sqrt((np.stack(influence) ** 2).sum(0) * n / (n - 1)), **tolerance
    )
    assert (found.n_examples, found.n_independent) == (len(values), n)
