"""What is measured once on the unedited model, so that every later state is compared with the same facts and text."""

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
    """The unedited model's side of an evaluation; plain JSON, but for the file that `reference` names."""

    model: str
    weights: str
    """Digest of the weights it was measured on."""
    concept: str
    facts: tuple[Fact, ...]
    """The facts to be forgotten."""
    injected: tuple[Fact, ...] = ()
    """Facts with the new answers that an edit teaches."""
    n_unknown: int
    """Facts of the concept that the model does not know; they are never asked."""
    seed: int
    """Draws neighbours, options, halves and sampled text: equal for every evaluation against this baseline."""
    neighbours: Groups = field(default_factory=dict)
    """Concept -> its facts that must stay, templates included."""
    others: Groups = field(default_factory=dict)
    """The same for other concepts, where the neighbours are of the concept itself."""
    languages: Groups | None = None
    """Language -> the forgotten facts that the model knows in it; None if it was not asked."""
    text: GeneralText | None = None
    """Where KL is measured; None if it is not."""
    reference: Reference | None = None
    evaluation: Evaluation
    """The measures of the unedited model itself."""

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON: what `from_dict` reads back unchanged."""
        groups = {
            name: None if value is None else {key: [asdict(fact) for fact in facts] for key, facts in value.items()}
            for name, value in (
                ("neighbours", self.neighbours),
                ("others", self.others),
                ("languages", self.languages),
            )
        }
        plain = {name: getattr(self, name) for name in ("model", "weights", "concept", "n_unknown", "seed")}
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
            raise ConfigError(f"This is no baseline of an evaluation ({error}).") from error


def _groups(data: Mapping[str, Any]) -> dict[str, tuple[Fact, ...]]:
    return {name: _facts(facts) for name, facts in data.items()}


def _facts(rows: Sequence[Mapping[str, Any]]) -> tuple[Fact, ...]:
    return tuple(
        Fact(**{**row, "templates": tuple(row["templates"]), "paraphrases": tuple(row["paraphrases"])}) for row in rows
    )
