"""Digests of what a run computes with, stored at its start and compared when it goes on, branches, or has a control.

A folder may hold another model by then, and a concept or the neutral text may be another one of the same name. A run that goes
on with them would draw one curve of two models.
"""

from collections.abc import Mapping, Sequence

from analysis.concepts import Concept, Sentence, digest
from analysis.errors import RunError
from analysis.models import LanguageModel

__all__ = ["WEIGHTS", "check_inputs", "digests_of"]

WEIGHTS = "unedited model's weights"


def digests_of(model: LanguageModel, concepts: Sequence[Concept], neutral: Sequence[Sentence]) -> dict[str, str]:
    """What a run computes with -> its digest; to be taken before anything changes the weights."""
    text = Concept(name="neutral", title="", sentences=tuple(neutral))
    return {
        WEIGHTS: model.weights_hash(),
        **{f"concept “{concept.name}”": digest(concept) for concept in concepts},
        "neutral text": digest(text),
    }


def check_inputs(stored: Mapping[str, str], found: Mapping[str, str], *, model: str) -> None:
    """Refuse inputs that are not those with which a run began; runs of earlier versions stored none.

    Raises:
        RunError: one differs; the message says which.
    """
    for what, one in stored.items():
        if found.get(what, one) != one:
            name = f"{what} of “{model}”" if what == WEIGHTS else what
            raise RunError(
                f"This run began with another {name} (digest {one[:12]}, now {found[what][:12]}). A curve over both would "
                "mean nothing: restore what it began with, or start a new run."
            )
