"""Stores the baseline of an evaluation: the unedited model's measures, and the facts and text that later states share."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from analysis.concepts import Fact
from analysis.errors import ConfigError
from analysis.evaluation.general_text import GeneralText
from analysis.evaluation.keep import Groups
from analysis.evaluation.kl import Reference
from analysis.evaluation.result import Evaluation

__all__ = ["Baseline"]


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """The measures of the unedited model, with facts and text; plain JSON, except for the file that `reference` names."""

    model: str
    weights: str
    """Digest of the weights it was measured on."""
    source: str = ""
    """Reference of the model, which tells two folders of one name apart; empty in those of earlier versions."""
    concept: str
    concept_digest: str = ""
    """What the concept held; empty in those of earlier versions."""
    facts: tuple[Fact, ...]
    """The facts to be forgotten."""
    injected: tuple[Fact, ...] = ()
    """Facts with the new answers that an edit trains in."""
    n_unknown: int
    """Number of the concept's facts that the model does not know; they are not measured."""
    seed: int
    """Draws neighbours, options, halves and sampled text: equal for every evaluation against this baseline."""
    neighbours: Groups = field(default_factory=dict)
    """Concept -> its facts that must stay, templates included."""
    others: Groups = field(default_factory=dict)
    """Facts of other concepts that must stay; empty if the neighbours are already such facts."""
    languages: Groups | None = None
    """Language -> the facts to be forgotten that the model knows in it; None if languages were not measured."""
    text: GeneralText | None = None
    """The text on which KL is measured; None if KL is not measured."""
    reference: Reference | None = None
    evaluation: Evaluation
    """The measures of the unedited model itself."""

    def to_dict(self) -> dict[str, Any]:
        """Return the baseline as plain JSON, which `from_dict` reads back unchanged."""
        groups = {
            name: None if value is None else {key: [asdict(fact) for fact in facts] for key, facts in value.items()}
            for name, value in (
                ("neighbours", self.neighbours),
                ("others", self.others),
                ("languages", self.languages),
            )
        }
        plain = {
            name: getattr(self, name)
            for name in ("model", "weights", "source", "concept", "concept_digest", "n_unknown", "seed")
        }
        parts = {
            name: None if value is None else value.to_dict()
            for name, value in (("text", self.text), ("reference", self.reference), ("evaluation", self.evaluation))
        }
        return (
            plain
            | groups
            | parts
            | {name: [asdict(fact) for fact in getattr(self, name)] for name in ("facts", "injected")}
        )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Baseline":
        """Rebuild from `to_dict`, also after a round trip through JSON.

        Raises:
            ConfigError: a field is missing, unknown or of the wrong kind.
        """
        try:
            languages = data["languages"]
            return cls(
                **{
                    **data,
                    "facts": _facts(data["facts"]),
                    "injected": _facts(data.get("injected", ())),
                    "neighbours": _groups(data["neighbours"]),
                    "others": _groups(data["others"]),
                    "languages": None if languages is None else _groups(languages),
                    "text": None if data["text"] is None else GeneralText.from_dict(data["text"]),
                    "reference": None if data["reference"] is None else Reference.from_dict(data["reference"]),
                    "evaluation": Evaluation.from_dict(data["evaluation"]),
                }
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"This is not the baseline of an evaluation ({error}).") from error


def _groups(data: Mapping[str, Any]) -> dict[str, tuple[Fact, ...]]:
    return {name: _facts(facts) for name, facts in data.items()}


def _facts(rows: Sequence[Mapping[str, Any]]) -> tuple[Fact, ...]:
    found: list[dict[str, Any]] = [
        {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()} for row in rows
    ]
    return tuple(Fact(**row) for row in found)
