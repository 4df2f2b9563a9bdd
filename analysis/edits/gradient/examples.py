"""Chooses the facts that a gradient edit removes, updates and keeps, and tokenises its training texts.

Axes: `B` text of a batch, `P` position, `V` vocabulary, `A` token that counts.
"""

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from analysis.concepts import Concept, Fact
from analysis.edits.edit import Materials
from analysis.edits.gradient.edit import GradientEdit
from analysis.edits.gradient.objectives.llm_surgery import LlmSurgery
from analysis.errors import ConceptError
from analysis.models import LanguageModel
from analysis.scoring.batches import pad, span_tokens

__all__ = ["Batch", "FactChoice", "Row", "choose_facts", "digest_rows", "rows_by_kind"]

_RMU_TEXTS = 64
"""Texts on which RMU keeps the activations."""
_SENTENCES = 48
"""Ordinary sentences beside every statement of a maintained fact."""

Text = tuple[str, int]
"""A text, and the index of its first character that counts in the loss."""


@dataclass(frozen=True, kw_only=True)
class FactChoice:
    """The facts that a gradient edit removes, updates and keeps."""

    forget: tuple[Fact, ...]
    """Facts to remove without a new answer."""
    update: tuple[Fact, ...]
    """Facts that get a new answer, here with their right answers."""
    injected: tuple[Fact, ...]
    """The same facts with their new answers."""
    maintain: tuple[tuple[Concept, tuple[Fact, ...]], ...]
    """Facts to keep, with the concept whose templates ask for them."""

    @property
    def removed(self) -> tuple[Fact, ...]:
        """All facts whose right answer is to be unlearned."""
        return (*self.forget, *self.update)


@dataclass(frozen=True)
class Row:
    """A tokenised text."""

    ids: tuple[int, ...]
    counted: tuple[int, ...]
    """Positions of the tokens that count; the first one never does."""


@dataclass(frozen=True)
class Batch:
    """Padded rows, on the model's device."""

    rows: tuple[Row, ...]
    tokens_BP: Int[Tensor, "B P"]
    counted_BP: Bool[Tensor, "B P"]

    @classmethod
    def of(cls, rows: Sequence[Row], model: LanguageModel) -> "Batch":
        tokens_BP = pad([row.ids for row in rows], model)
        counted_BP = torch.zeros(tokens_BP.shape, dtype=torch.bool)
        for b, row in enumerate(rows):
            counted_BP[b, list(row.counted)] = True
        return cls(tuple(rows), tokens_BP, counted_BP.to(model.device))

    def predict(self, model: LanguageModel) -> tuple[Float[Tensor, "A V"], Int[Tensor, " A"], Int[Tensor, " A"]]:
        """Return the float32 logits that predict each counted token, the tokens, and the row of each token."""
        # logits at position p predict token p + 1; before the first counted token none are needed
        keep = self.tokens_BP.shape[1] - min(row.counted[0] for row in self.rows) + 1
        logits_BKV = model.logits(self.tokens_BP, keep=keep)[:, :-1]
        counted_BK = self.counted_BP[:, -keep + 1 :]
        return logits_BKV[counted_BK].float(), self.tokens_BP[:, -keep + 1 :][counted_BK], counted_BK.nonzero()[:, 0]


def choose_facts(edit: GradientEdit, materials: Materials) -> FactChoice:
    """Assign every known fact of the concept to remove, update or keep, by name or drawn with the seed.

    Raises:
        ConceptError: a named fact is not among the known ones, too few are known, or there is no other answer to inject.
    """
    concept, known = materials.concept, materials.forget
    if not known:
        raise ConceptError(
            f"None of the facts of “{concept.name}” is known to the model, so there is nothing to remove."
        )
    names = {fact: name for fact, name in zip(concept.facts, concept.fact_names()) if fact in known}
    by_name = {name: fact for fact, name in names.items()}
    update, update_count = (edit.update, edit.update_count) if isinstance(edit, LlmSurgery) else ((), 0)
    updated = _named(update, by_name, concept)
    removed = _named(edit.forget, by_name, concept)
    shuffled = random.Random(f"facts {edit.seed}").sample(known, len(known))
    free = [fact for fact in shuffled if fact not in (*updated, *removed)]
    if edit.forget_count + update_count > len(free):
        raise ConceptError(
            f"{edit.forget_count + update_count} facts of “{concept.name}” are asked for, but only {len(free)} are "
            "known to the model and not named otherwise. Ask for fewer."
        )
    updated = (*updated, *free[edit.forget_count : edit.forget_count + update_count])
    if edit.forget_count:
        removed = tuple(free[: edit.forget_count])
    elif not edit.forget:
        removed = tuple(fact for fact in known if fact not in updated)
    rest = tuple(fact for fact in known if fact not in (*removed, *updated))
    if edit.injects:
        removed, updated = (), removed
    return FactChoice(
        forget=removed,
        update=updated,
        injected=tuple(_with_other_answer(fact, concept, edit.seed) for fact in updated),
        maintain=(*([(concept, rest)] if rest else []), *((one, facts) for one, facts in materials.maintain if facts)),
    )


def rows_by_kind(
    model: LanguageModel, edit: GradientEdit, choice: FactChoice, materials: Materials
) -> dict[str, list[Row]]:
    """Tokenise the texts of every term of the edit; a kind without texts is left out.

    Raises:
        ConceptError: a text is longer than the model's context, an answer has no token of its own, or an objective that
            keeps something is given nothing to keep.
    """
    concept, steered = materials.concept, edit.method == "rmu"
    wanted = {term.name for term in edit.terms() if term.weight > 0}
    kept = [text for one, facts in choice.maintain for fact in facts for text in one.statements(fact)]
    sentences = [(sentence.text, 0) for sentence in materials.neutral]
    texts = {
        "forget": [text for fact in choice.forget for text in concept.statements(fact)],
        "old": [text for fact in choice.update for text in concept.statements(fact)],
        "update": [text for fact in choice.injected for text in concept.statements(fact)],
        "maintain": kept,
        "text": sentences,
        "retain": _retained(edit, [(text, 0) for text, _ in kept], sentences),
    }
    if wanted & {"maintain", "text", "retain"} and not texts["retain"]:
        raise ConceptError("There is nothing to keep: give facts to maintain or ordinary sentences.")
    rows: dict[str, list[Row]] = {}
    for kind in sorted(wanted & {kind for kind, found in texts.items() if found}):
        whole = steered or kind in ("text", "retain")
        rows[kind] = [
            row for text, start in texts[kind] if (row := _row(model, text, 0 if whole else start)) is not None
        ]
    return rows


def _retained(edit: GradientEdit, statements: list[Text], sentences: list[Text]) -> list[Text]:
    """The texts on which the model should stay unchanged; docs/removal.md has the measurements behind this choice."""
    count = edit.retain_count if isinstance(edit, LlmSurgery) else _RMU_TEXTS
    if not count:
        return [*statements, *sentences[:_SENTENCES]]
    texts = [*statements, *sentences]
    return random.Random(f"retain {edit.seed}").sample(texts, count) if len(texts) > count else texts


def digest_rows(rows: Mapping[str, Sequence[Row]]) -> str:
    """SHA-256 of the texts, to check that a stored state was trained on the same ones."""
    plain = {kind: [(row.ids, row.counted) for row in found] for kind, found in rows.items()}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _row(model: LanguageModel, text: str, start: int) -> Row | None:
    """Tokenise a text; tokens from character `start` on count. None for a sentence of a single token."""
    encoded = model.encode(text)
    if start and len(encoded) > model.context_length:
        raise ConceptError(f"“{text[:60]}…” is longer than the model's {model.context_length} tokens.")
    counted = [p for p in span_tokens(encoded, start, len(text)) if 0 < p < model.context_length]
    if start and not counted:
        raise ConceptError(f"The answer of “{text}” has no token after the prompt.")
    return Row(encoded.ids[: model.context_length], tuple(counted)) if counted else None


def _named(names: Sequence[str], by_name: dict[str, Fact], concept: Concept) -> tuple[Fact, ...]:
    if unknown := [name for name in names if name not in by_name]:
        exists = unknown[0] in concept.fact_names()
        raise ConceptError(
            f"The model does not know “{unknown[0]}”, so there is nothing to remove. Leave it out."
            if exists
            else f"“{concept.name}” has no fact “{unknown[0]}”. Name the subject as the concept spells it."
        )
    return tuple(by_name[name] for name in names)


def _with_other_answer(fact: Fact, concept: Concept, seed: int) -> Fact:
    if fact.counter_answer is not None:
        return replace(fact, answer=fact.counter_answer, counter_answer=None)
    others = sorted({one.answer for one in concept.facts} - {fact.answer})
    if not others:
        raise ConceptError(
            f"“{concept.name}” has no other answer to inject for “{fact.subject}”. Give the fact a counter answer."
        )
    answer = random.Random(f"answer {seed} {fact.subject}").choice(others)
    return replace(fact, answer=answer, counter_answer=None)
