"""Warns if an edit wrecked the model: perplexity on neutral text grew too much for forgetting to mean anything."""

from analysis.evaluation.result import Measure

__all__ = ["COLLAPSE_FACTOR", "collapse_warning"]

COLLAPSE_FACTOR = 1.5
"""Perplexity on neutral text may grow by this factor (0.41 nats per token) before an edit counts as having wrecked the
model. A choice of ours: edits that find their target leave it within a few per cent."""


def collapse_warning(before: Measure | None, after: Measure | None) -> str | None:
    """Return a warning if perplexity grew by more than `COLLAPSE_FACTOR`, else None; None, too, if it was not measured.

    Args:
        before: Perplexity of the unedited model.
        after: Perplexity of the edited model on the same text.
    """
    if before is None or after is None or after.value <= COLLAPSE_FACTOR * before.value:
        return None
    return (
        f"The edit wrecked the model: perplexity on neutral text rose from {_plain(before.value)} to {_plain(after.value)}, "
        f"more than {COLLAPSE_FACTOR:g} times. Forgetting by collapse is no forgetting: use a weaker edit."
    )


def _plain(perplexity: float) -> str:
    return f"{perplexity:,.1f}" if perplexity < 1e6 else f"{perplexity:.3g}"
