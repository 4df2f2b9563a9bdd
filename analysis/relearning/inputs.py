"""Digests of what a run computes with, stored at its start and compared when it goes on, branches, or has a control.

By then, a folder may hold another model, and a concept or the neutral text may have changed under the same name. Resuming
with them would draw one curve from two models.
"""

from collections.abc import Mapping, Sequence

from analysis.concepts import Concept, Sentence, digest
from analysis.errors import RunError
from analysis.models import LanguageModel

__all__ = ["WEIGHTS", "check_inputs", "digests_of"]

WEIGHTS = "unedited model's weights"


def digests_of(model: LanguageModel, concepts: Sequence[Concept], neutral: Sequence[Sentence]) -> dict[str, str]:
    """Name of each input of a run -> its digest; call it before anything changes the weights."""
    text = Concept(name="neutral", title="", sentences=tuple(neutral))
    return {
        WEIGHTS: model.weights_hash(),
        **{f"concept “{concept.name}”": digest(concept) for concept in concepts},
        "neutral text": digest(text),
    }


def check_inputs(stored: Mapping[str, str], found: Mapping[str, str], *, model: str) -> None:
    """Refuse inputs that differ from those a run began with; runs of earlier versions stored no digests.

    Raises:
        RunError: an input differs; the message says which.
    """
    for what, one in stored.items():
        if found.get(what, one) != one:
            name = f"{what} of “{model}”" if what == WEIGHTS else what
            raise RunError(
                f"This run began with another {name} (digest {one[:12]}, now {found[what][:12]}). A curve over both would "
                "mean nothing: restore what it began with, or start a new run."
            )
