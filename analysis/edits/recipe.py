"""Saves a stack of edits as a JSON recipe that reproduces the same weights from the same model.

    {"format": "palimpsest recipe 1",
     "model": {"reference": …, "layers": …, "heads": …, "neurons": …, "fingerprint": {…}},
     "concepts": {"capitals": "<the concept's JSON Lines>"},
     "maintain": ["athletes"], "threshold": 0.3,
     "digests": {"maintained concept “athletes”": "<SHA-256>", "built-in neutral text": …},
     "steps": [{"concept": "capitals", "edit": {"method": "prune", …}}],
     "versions": {"torch": …}}

Every step is planned on the unedited model, then all are written in order. All random draws use a seed stored in the
edit, so the weights are the same, bit for bit, on the same kind of device with the same package versions. What is looked up
by its name when the recipe is carried out is compared with its digest, and refused where it has changed.
"""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from analysis import concepts as library
from analysis import edits, paths
from analysis.components.circuit import Shape
from analysis.concepts import Concept, Fact, Sentence, digest, dump_jsonl, parse, split_neutral
from analysis.edits import Change, Edit, Ledger, Materials
from analysis.errors import ConceptError, ConfigError, EditError
from analysis.models import LanguageModel
from analysis.models.fingerprint import Fingerprint
from analysis.progress import Progress, none
from analysis.scoring import factual_recall

__all__ = ["Recipe", "Step", "gather"]

_FORMAT = "palimpsest recipe 1"
_VERSIONED = ("torch", "transformers", "transformer-lens", "numpy")
_SAME_MODEL = 0.02
"""Largest difference between the fingerprint logits of one model on two machines, in their standard deviations."""


@dataclass(frozen=True)
class Step:
    """One edit of one concept."""

    concept: str
    edit: Edit


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A stack of edits with the model and the concepts they were made for."""

    model: str
    """Model reference (catalog name, hub id, folder, GGUF file)."""
    shape: Shape
    fingerprint: Fingerprint
    concepts: Mapping[str, Concept]
    steps: tuple[Step, ...]
    maintain: tuple[str, ...] = ()
    """Concepts whose facts a gradient edit keeps."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """What of its inputs -> digest of what it held when the recipe was made; empty in recipes of earlier versions."""
    threshold: float = factual_recall.KNOWN_THRESHOLD
    """Facts below this mean P(answer) in the unedited model are neither removed nor kept."""
    versions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        model: LanguageModel,
        steps: Sequence[tuple[Concept, Edit]],
        *,
        maintain: Sequence[str] = (),
        threshold: float = factual_recall.KNOWN_THRESHOLD,
    ) -> "Recipe":
        """Build the recipe of `steps` on the unedited `model`.

        Raises:
            ConfigError: two different concepts have the same name.
            ConceptError: there is no concept of a name in `maintain`.
        """
        for name in maintain:
            library.load(name)
        if len({concept.name for concept, _ in steps}) < len({concept for concept, _ in steps}):
            raise ConfigError("Two different concepts of this recipe have the same name. Rename one of them.")
        return cls(
            model=model.source.reference,
            shape=model.component_shape,
            fingerprint=model.fingerprint(),
            concepts={concept.name: concept for concept, _ in steps},
            steps=tuple(Step(concept.name, edit.settled(model.device)) for concept, edit in steps),
            maintain=tuple(maintain),
            digests=_digests({concept.name: concept for concept, _ in steps}, maintain),
            threshold=threshold,
            versions={"python": platform.python_version(), **{name: metadata.version(name) for name in _VERSIONED}},
        )

    def describe(self) -> str:
        """One phrase for titles."""
        return "; ".join(f"{step.concept}: {step.edit.describe()}" for step in self.steps)

    def check_concepts(self) -> None:
        """Check that the concepts and the neutral text are those for which the recipe was made.

        A recipe of an earlier version has no digests; of it nothing can be checked (`unchecked`).

        Raises:
            ConfigError: one of them has changed, or is not there any more.
        """
        found = _digests(self.concepts, self.maintain) if self.digests else {}
        for what, stored in self.digests.items():
            if found.get(what) != stored:
                raise ConfigError(
                    f"The {what} is not what it was when this recipe was made, so the same weights would not come out. "
                    "Bring it back as it was, or make a new recipe."
                )

    @property
    def unchecked(self) -> str:
        """Why it cannot be told whether the same weights come out; empty where it can."""
        if self.digests or not self.maintain:
            return ""
        return (
            "This recipe was made by an earlier version and does not say what the maintained concepts held "
            f"({', '.join(self.maintain)}): they are used as they are now."
        )

    def check(self, model: LanguageModel) -> None:
        """Check that the recipe was made for `model`.

        Raises:
            EditError: the model has another shape or other weights.
        """
        if model.component_shape != self.shape:
            raise EditError(
                f"The recipe is for “{self.model}”, a model of {self.shape.n_layers} layers with {self.shape.n_heads} "
                f"heads and {self.shape.n_neurons} neurons each; “{model.name}” has another shape. Load that model."
            )
        difference = self.fingerprint.difference(model.fingerprint())
        if not difference <= _SAME_MODEL:
            raise EditError(
                f"The recipe is for the unedited “{self.model}”; the logits of “{model.name}” differ from it by "
                f"{difference:.2g} standard deviations. Load the model anew, without edits."
            )

    def plan(self, model: LanguageModel, progress: Progress | None = None) -> list[tuple[Change[Any], str]]:
        """Plan all changes on the unedited `model`, each with its concept's name.

        Raises:
            ConfigError: a concept or the neutral text has changed since the recipe was made.
            EditError: the recipe was made for another model, or an edit does not fit.
        """
        self.check_concepts()
        self.check(model)
        report = progress or none
        gathered: dict[str, Materials] = {}
        changes = []
        for i, step in enumerate(self.steps):
            report(f"Planning {step.edit.method}", i / len(self.steps))
            if step.concept not in gathered or (step.edit.needs_facts and not gathered[step.concept].forget):
                gathered[step.concept] = gather(
                    model,
                    self.concepts[step.concept],
                    facts=step.edit.needs_facts,
                    maintain=self.maintain,
                    threshold=self.threshold,
                )
            changes.append((edits.plan(step.edit, model, gathered[step.concept]), step.concept))
        return changes

    def execute(self, model: LanguageModel, *, folder: Path | None = None, progress: Progress | None = None) -> Ledger:
        """Plan every step, then write them in order; if one fails, the earlier ones are undone.

        Args:
            model: The unedited model; its weights change.
            folder: Where the deltas are kept (see `Ledger`).
            progress: Called with a stage's name and its share done.

        Raises:
            EditError: the recipe was made for another model, or an edit cannot be written; the weights are as before.
        """
        ledger = Ledger(model, folder)
        try:
            for change, concept in self.plan(model, progress):
                ledger.apply(change, concept=concept, concept_digest=digest(self.concepts[concept]))
        except BaseException:
            ledger.undo_to(0)
            raise
        return ledger

    def to_json(self) -> str:
        data = {
            "format": _FORMAT,
            "model": {
                "reference": self.model,
                "layers": self.shape.n_layers,
                "heads": self.shape.n_heads,
                "neurons": self.shape.n_neurons,
                "fingerprint": asdict(self.fingerprint),
            },
            "concepts": {name: dump_jsonl(concept) for name, concept in self.concepts.items()},
            "maintain": self.maintain,
            "digests": dict(self.digests),
            "threshold": self.threshold,
            "steps": [{"concept": step.concept, "edit": step.edit.to_dict()} for step in self.steps],
            "versions": dict(self.versions),
        }
        return json.dumps(data, indent=1, ensure_ascii=False)

    def save(self, path: Path) -> None:
        """Write the recipe as a JSON file.

        Raises:
            EditError: the file cannot be written.
        """
        try:
            paths.write_atomically(path, self.to_json().encode())
        except OSError as error:
            raise EditError(f"{path} cannot be written ({error.strerror}). Name another file.") from error

    @classmethod
    def load(cls, path: Path) -> "Recipe":
        """Read a file that `save` wrote.

        Raises:
            ConfigError: it cannot be read or is not a recipe; the message says what is wrong.
        """
        try:
            return cls.from_json(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} cannot be read ({error}).") from error

    @classmethod
    def from_json(cls, text: str) -> "Recipe":
        """Read what `to_json` wrote.

        Raises:
            ConfigError: it is not a recipe; the message says what is wrong.
        """
        try:
            data = json.loads(text)
        except ValueError as error:
            raise ConfigError(f"This is no recipe: no JSON ({error}).") from error
        if not isinstance(data, dict) or data.get("format") != _FORMAT:
            raise ConfigError(f"This is no recipe of this version: its “format” is not “{_FORMAT}”.")
        try:
            concepts = {
                str(name): parse(f"{name}.jsonl", content.encode()) for name, content in data["concepts"].items()
            }
            steps = tuple(Step(str(step["concept"]), edits.from_dict(step["edit"])) for step in data["steps"])
            recipe = cls(
                model=str(data["model"]["reference"]),
                shape=Shape(*(int(data["model"][key]) for key in ("layers", "heads", "neurons"))),
                fingerprint=Fingerprint(**data["model"]["fingerprint"]),
                concepts=concepts,
                steps=steps,
                maintain=tuple(map(str, data.get("maintain", ()))),
                digests={str(what): str(one) for what, one in data.get("digests", {}).items()},
                threshold=float(data.get("threshold", factual_recall.KNOWN_THRESHOLD)),
                versions=dict(data.get("versions", {})),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f"This recipe is damaged ({type(error).__name__}: {error}).") from error
        if not recipe.steps:
            raise ConfigError("This recipe has no steps.")
        if lost := [step.concept for step in recipe.steps if step.concept not in concepts]:
            raise ConfigError(f"A step of this recipe removes “{lost[0]}”, which is not among its concepts.")
        return recipe


def _digests(concepts: Mapping[str, Concept], maintain: Sequence[str]) -> dict[str, str]:
    """Digests of everything that a recipe uses besides the model."""
    kept = {name: library.load(name) for name in maintain if set(concepts) != {name}}  # it is not kept from itself
    return {
        **{f"concept “{name}”": digest(concept) for name, concept in concepts.items()},
        **{f"maintained concept “{name}”": digest(concept) for name, concept in kept.items()},
        "built-in neutral text": library.neutral_digest(),
    }


def gather(
    model: LanguageModel,
    concept: Concept,
    *,
    facts: bool = True,
    maintain: Sequence[str] = (),
    threshold: float = factual_recall.KNOWN_THRESHOLD,
    neutral: tuple[Sentence, ...] | None = None,
) -> Materials:
    """Collect the `Materials` for an edit of `concept`, measured on the unedited `model`.

    Args:
        model: The unedited model.
        concept: The concept to remove.
        facts: Also find the facts that the model knows, which takes seconds to minutes.
        maintain: Concepts whose known facts are kept; `concept` itself is skipped.
        threshold: Least mean P(answer) of a known fact.
        neutral: Ordinary text; default: the built-in sentences that no measurement uses.

    Raises:
        ConceptError: `facts` is set, and the model knows none of the concept's facts.
    """
    if neutral is None:
        neutral, _ = split_neutral(library.neutral_sentences())
    known: tuple[Fact, ...] = ()
    kept: list[tuple[Concept, tuple[Fact, ...]]] = []
    if facts:
        if not concept.facts:
            raise ConceptError(
                f"“{concept.name}” has no facts, and this method removes facts. Add some, or use a method that needs none: "
                f"{', '.join(edits.NEED_NO_FACTS)}."
            )
        known = tuple(factual_recall.known_facts(model, concept, threshold=threshold)[0])
        if not known:
            raise ConceptError(
                f"“{model.name}” knows none of the {len(concept.facts)} facts of “{concept.name}” (mean P(answer) of at "
                f"least {threshold:g}), so there is nothing to remove. Lower the threshold, or choose another concept."
            )
        for other in (library.load(name) for name in maintain if name != concept.name):
            found = tuple(factual_recall.known_facts(model, other, threshold=threshold)[0]) if other.facts else ()
            if found:
                kept.append((other, found))
    return Materials(concept=concept, forget=known, maintain=tuple(kept), neutral=neutral)
