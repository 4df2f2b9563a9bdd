"""Concept data: sentences with labelled character spans, and facts with prompt templates, checked when constructed.

Independent of models and tokenizers.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from analysis.concepts.spelling import clean, clean_template, composed, joined
from analysis.errors import ConceptError

__all__ = ["HELD_OUT_SHARE", "Concept", "Fact", "Sentence", "Split", "Translation"]

Split = Literal["retrained", "held_out"]

HELD_OUT_SHARE = 1 / 3
"""Share of facts that are never retrained on, unless a fact names its own split."""


@dataclass(frozen=True)
class Sentence:
    """A text with the character ranges of the concept's words."""

    text: str
    spans: tuple[tuple[int, int], ...] = ()
    """[start, end) offsets; empty for a sentence without the concept."""
    about: str = ""
    """Key that sentences stating the same fact share, because they are not independent; empty for other sentences."""

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise ConceptError("a sentence is empty")
        end_before = 0
        for start, end in self.spans:
            if not 0 <= start < end <= len(self.text):
                raise ConceptError(f"span [{start}, {end}] lies outside its text of {len(self.text)} characters")
            if start < end_before:
                raise ConceptError(f"span [{start}, {end}] overlaps the one before it, or is out of order")
            end_before = end
        text, spans = composed(self.text, self.spans)
        object.__setattr__(self, "text", text)
        object.__setattr__(self, "spans", spans)


@dataclass(frozen=True)
class Fact:
    """A subject and its answer; prompts come from the concept's templates unless the fact has its own.

    Every text is normalised (`analysis.concepts.spelling`): “ Paris” is “Paris”.
    """

    subject: str
    answer: str
    templates: tuple[str, ...] = ()
    """Replace the concept's templates for this fact."""
    paraphrases: tuple[str, ...] = ()
    """Replace the concept's paraphrases for this fact. One without {subject} is a whole prompt of its own."""
    fixed_split: Split | None = None
    """Set to override the split computed from the fact itself."""
    counter_answer: str | None = None
    """A wrong answer: an edit may inject it, and a logit difference compares the right answer with it."""
    choices: tuple[str, ...] = ()
    """Wrong answers to choose from; empty: they are drawn from the concept's other answers."""
    aliases: tuple[str, ...] = ()
    """The answer in other words, right as well: never offered as a wrong choice."""

    def __post_init__(self) -> None:
        _spell(self, clean, "subject", "answer", "counter_answer", "choices", "aliases")
        _spell(self, clean_template, "templates", "paraphrases")
        if not self.subject or not self.answer:
            raise ConceptError("a fact needs a subject and an answer")
        if self.fixed_split not in (None, "retrained", "held_out"):
            raise ConceptError(f"split is “{self.fixed_split}”; it must be “retrained” or “held_out”")
        if self.counter_answer is not None and self.counter_answer in ("", self.answer):
            raise ConceptError("the counter answer is empty, or the answer itself; give another or leave it out")
        if self.answer in self.choices or "" in (*self.choices, *self.aliases):
            raise ConceptError("a choice is the answer itself, or a choice or alias is empty; leave it out")
        _check_templates(self.templates)
        for paraphrase in self.paraphrases:
            if paraphrase.count("{subject}") > 1 or not paraphrase:
                raise ConceptError(f"paraphrase “{paraphrase}” must contain {{subject}} at most once, and not be empty")

    @property
    def split(self) -> Split:
        """“retrained” or “held_out”, by a hash of subject and answer: adding facts never changes another fact's split."""
        if self.fixed_split is not None:
            return self.fixed_split
        digest = hashlib.sha256(f"{self.subject}\x1f{self.answer}".encode()).digest()
        return "held_out" if int.from_bytes(digest[:8], "big") / 2**64 < HELD_OUT_SHARE else "retrained"


@dataclass(frozen=True, kw_only=True)
class Translation:
    """Templates and words that put a concept's facts into another language."""

    language: str
    """Name of the language, such as “German”."""
    templates: tuple[str, ...]
    """Prompts with one `{subject}`; the answer follows as after the concept's templates."""
    subjects: tuple[tuple[str, str], ...] | None = None
    """(subject, its translation in the form that the templates need, articles and prepositions included). Facts about
    other subjects are left out; None keeps all facts, with the subject's own spelling."""
    answers: tuple[tuple[str, str], ...] = ()
    """(answer, its translation); other answers keep their spelling."""

    def __post_init__(self) -> None:
        if not self.language.replace(" ", "").replace("-", "").isalpha() or len(self.language) > 40:
            raise ConceptError(f"“{self.language[:50]}” is not the name of a language: use up to 40 letters")
        if not self.templates:
            raise ConceptError(f"the translation into {self.language} has no template")
        _spell(self, clean, "subjects", "answers")
        _spell(self, clean_template, "templates")
        _check_templates(self.templates)
        for pairs in (self.subjects or (), self.answers):
            if not all(one and other for one, other in pairs):
                raise ConceptError(f"the translation into {self.language} has an empty subject or answer")

    def fact(self, fact: Fact) -> Fact | None:
        """The fact in this language, with this translation's templates; None if its subject is not translated."""
        subject = fact.subject if self.subjects is None else dict(self.subjects).get(fact.subject)
        if subject is None:
            return None
        answer = dict(self.answers).get(fact.answer, fact.answer)
        return Fact(subject, answer, templates=self.templates, fixed_split=fact.split)


@dataclass(frozen=True, kw_only=True)
class Concept:
    """A named set of facts and labelled sentences."""

    name: str
    """What the user types: letters, digits, dash, underscore."""
    title: str
    description: str = ""
    templates: tuple[str, ...] = ()
    """Prompts with one `{subject}`; the answer follows after one space, or none where its script has none between words."""
    paraphrases: tuple[str, ...] = ()
    """Further prompts that are never trained on."""
    reverse: tuple[str, ...] = ()
    """Prompts with one `{answer}` that ask for the subject; never trained on."""
    translations: tuple[Translation, ...] = ()
    """The facts in other languages; never trained on."""
    facts: tuple[Fact, ...] = ()
    sentences: tuple[Sentence, ...] = ()

    def __post_init__(self) -> None:
        allowed = all(char.isalnum() or char in "-_" for char in self.name)
        if not allowed or not any(char.isalnum() for char in self.name) or len(self.name) > 64:
            raise ConceptError(f"“{self.name[:70]}” is not a valid concept name: use up to 64 letters, digits, - and _")
        _spell(self, clean_template, "templates", "paraphrases", "reverse")
        _check_templates((*self.templates, *self.paraphrases))
        _check_templates(self.reverse, "{answer}")
        languages = Counter(translation.language.casefold() for translation in self.translations)
        if doubled_languages := [language for language, times in languages.items() if times > 1]:
            raise ConceptError(f"there are two translations into “{doubled_languages[0]}”")
        asked: set[tuple[str, str]] = set()
        for fact in self.facts:
            if not (fact.templates or self.templates):
                raise ConceptError(f"fact “{fact.subject}” has no template, and neither has the concept")
            prompts = {(fact.subject, template) for template in self.templates_of(fact)}
            if doubled := asked & prompts:
                raise ConceptError(f"subject “{fact.subject}” appears twice with the template “{min(doubled)[1]}”")
            asked |= prompts
        if not self.facts and not self.sentences:
            raise ConceptError(f"concept “{self.name}” has neither sentences nor facts")

    def __repr__(self) -> str:
        return f"Concept({self.name}: {len(self.facts):,} facts, {len(self.sentences):,} sentences)"

    def templates_of(self, fact: Fact) -> tuple[str, ...]:
        return fact.templates or self.templates

    def paraphrases_of(self, fact: Fact) -> tuple[str, ...]:
        return fact.paraphrases or self.paraphrases

    def fact_names(self) -> tuple[str, ...]:
        """A name for each fact, unique in the concept: its subject; “subject · template” where facts share a subject."""
        times = Counter(fact.subject for fact in self.facts)
        return tuple(
            fact.subject if times[fact.subject] == 1 else f"{fact.subject} · {self.templates_of(fact)[0]}"
            for fact in self.facts
        )

    def labelled_sentences(self) -> tuple[Sentence, ...]:
        """The sentences for saliency: the concept's own; if none has a span, also its facts with the answer labelled."""
        if any(sentence.spans for sentence in self.sentences):
            return self.sentences
        return self.sentences + tuple(
            Sentence(text, ((start, len(text)),), about=f"{fact.subject}: {fact.answer}")
            for fact in self.facts
            for text, start in self.statements(fact)
        )

    def statements(self, fact: Fact, *, paraphrased: bool = False) -> Iterator[tuple[str, int]]:
        """Yields (prompt + answer, character where the answer starts) for each of a fact's templates."""
        for template in self.paraphrases_of(fact) if paraphrased else self.templates_of(fact):
            text = joined(template.replace("{subject}", fact.subject), fact.answer)
            yield text, len(text) - len(fact.answer)


def _spell(one: Any, spelled: Callable[[str], str], *fields: str) -> None:
    """Normalise the texts in these fields of a frozen dataclass while it is constructed."""

    def rewritten(value: Any) -> Any:
        if isinstance(value, str):
            return spelled(value)
        return tuple(rewritten(item) for item in value) if isinstance(value, (tuple, list)) else value

    for field in fields:
        object.__setattr__(one, field, rewritten(getattr(one, field)))


def _check_templates(templates: tuple[str, ...], blank: str = "{subject}") -> None:
    for template in templates:
        if template.count(blank) != 1:
            raise ConceptError(f"template “{template}” must contain {blank} exactly once")
