"""Builds TARS settings for a fact of a concept, and holds the settings of our refinement.

config = tars_for_fact(concept, fact)  # as published, as far as that is public
config = tars_for_fact(concept, fact, **OURS)
"""

from typing import Any

from analysis.concepts import Concept, Fact
from analysis.edits.settings import build
from analysis.edits.tars.targeting import Tars

__all__ = ["AGGREGATION", "N_CONTRAST", "OURS", "tars_for_fact"]

OURS: dict[str, Any] = {
    "ranking": "firing",
    "scaling": "stream",
    "norm_gain": "multiply",
    "n_edits": 1,
    "scale": 1.25,
    "layers": (-1, -1),
}
"""Settings of our refinement, chosen on the tuning concepts of docs/tars.md; the defaults of `Tars` are as published."""

N_CONTRAST = 8
"""Number of other facts that `tars_for_fact` turns into contrast prompts."""

AGGREGATION = "Think of everything that is known about {subject}: its history, what it is famous for, and its name. "
"""Text that `tars_for_fact` puts before a fact's first template; written for this project."""


def tars_for_fact(concept: Concept, fact: Fact, **settings: Any) -> Tars:
    """Build settings with the fact's answer as trigger and one prompt from the fact's first template.

    If neurons are ranked by firing, the first `N_CONTRAST` facts with another answer give the contrast prompts.

    Raises:
        ConfigError: a setting is unknown or out of range.
    """

    def first_prompt(one: Fact) -> str:
        return concept.templates_of(one)[0].replace("{subject}", one.subject)

    prompt = AGGREGATION.replace("{subject}", fact.subject) + first_prompt(fact)
    built: dict[str, Any] = {"trigger": f" {fact.answer}", "prompts": (prompt,)}
    if settings.get("ranking") == "firing":
        others = [one for one in concept.facts if one.answer != fact.answer]
        built["contrast"] = tuple(first_prompt(one) for one in others[:N_CONTRAST])
    return build(Tars, built | settings)
