"""Compares a model before and after an edit: known facts, loss on neutral text, and continuations of prompts."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from analysis import concepts
from analysis.concepts import Concept, Fact, dump_jsonl
from analysis.errors import ConceptError
from ui.app import viewer_model
from ui.app.token_strip import continuation

if TYPE_CHECKING:
    from analysis.models import LanguageModel

__all__ = ["COLLAPSE", "Examination", "examine", "forget_last", "record", "show", "show_last"]

COLLAPSE = 1.0
"""Rise of the neutral loss, in nats per token, from which a warning says that the edit damaged ordinary language."""

_ORDINARY = "When I was a child, my family used to"
_SENTENCES = 82


@dataclass(frozen=True)
class Examination:
    """Measurements of one state of the model."""

    label: str
    retrained: float | None
    """Mean P(answer) of the known facts that a run would retrain on; None for a concept without facts."""
    held_out: float | None
    n_retrained: int
    n_held_out: int
    words: float | None
    """Mean P(labelled word) of a concept without facts; None for others, and if no word can be predicted."""
    neutral_loss: float
    """Nats per token."""
    generations: tuple[tuple[str, tuple[tuple[str, float], ...]], ...]
    """Prompt, and its greedy continuation as (token, probability)."""


def examine(model: LanguageModel, concept: Concept, known: Sequence[Fact], label: str) -> Examination:
    """Measure `model` in its current state; `known` are the facts that the unedited model knows."""
    from analysis import evaluation
    from analysis.scoring import factual_recall

    means: dict[str, float | None] = {"retrained": None, "held_out": None}
    if known:
        p = factual_recall.score_facts(model, factual_recall.prepare_facts(model, concept, known))
        for split in means:
            values = [float(value) for fact, value in zip(known, p) if fact.split == split]
            means[split] = sum(values) / len(values) if values else None
    prompts = [next(concept.statements(fact)) for fact in known[:2]]
    beginnings = () if concept.facts else evaluation.beginnings(model, concept)
    texts = [*(text[:start].rstrip(" ") for text, start in prompts), *beginnings, _ORDINARY]
    sentences = concepts.neutral_sentences()[:: max(len(concepts.neutral_sentences()) // _SENTENCES, 1)]
    return Examination(
        label=label,
        retrained=means["retrained"],
        held_out=means["held_out"],
        n_retrained=sum(fact.split == "retrained" for fact in known),
        n_held_out=sum(fact.split == "held_out" for fact in known),
        words=None if concept.facts else _p_words(model, concept),
        neutral_loss=factual_recall.neutral_loss(model, factual_recall.prepare_neutral(model, sentences)),
        generations=tuple((text, tuple(factual_recall.generate(model, text)[1])) for text in texts),
    )


def _p_words(model: LanguageModel, concept: Concept) -> float | None:
    from analysis import evaluation

    try:
        return evaluation.labelled_words(model, concept).value
    except ConceptError:  # every labelled word is the first of its sentence
        return None


def record(
    model: LanguageModel,
    concept: Concept,
    known: Sequence[Fact],
    label: str,
    changed: AbstractContextManager[object] | None = None,
) -> None:
    """Examine `model` as the last state, for `show_last`; the shared model is examined once, as the base.

    Args:
        changed: Context in which `model` is edited. It must not be entered yet: the base may be the same model without the edit.
    """
    states, base, last = _states(concept)
    with st.spinner("Measuring before and after …"):
        if base not in states:
            states[base] = examine(viewer_model.model(), concept, known, "base")
        with changed or nullcontext():
            states[last] = examine(model, concept, known, label)


def show_last(concept: Concept) -> None:
    """Draw the base and the last recorded state of the chosen model and this concept, if there is one."""
    states, base, last = _states(concept)
    if base in states and last in states:
        show([states[base], states[last]])


def forget_last(concept: Concept) -> None:
    """Drop the last state, because the weights have changed since."""
    states, _, last = _states(concept)
    states.pop(last, None)


def _states(concept: Concept) -> tuple[dict, tuple, tuple]:
    here = (viewer_model.chosen(), dump_jsonl(concept))  # only states of one model and one concept are compared
    return st.session_state.setdefault("examinations", {}), (here, "base"), (here, "last")


def show(states: Sequence[Examination]) -> None:
    """Draw a table with a row for each state, then the continuations of the same prompts side by side."""
    base, last = states[0], states[-1]
    columns: dict[str, list] = {"": ["before", *(["after"] if len(states) == 2 else [one.label for one in states[1:]])]}
    if base.words is None:
        columns[f"P(answer), retrained (n = {base.n_retrained})"] = [state.retrained for state in states]
        columns[f"P(answer), held out (n = {base.n_held_out})"] = [state.held_out for state in states]
    else:
        columns["P(labelled word) in the concept's sentences"] = [state.words for state in states]
    columns["neutral loss, nats per token"] = [state.neutral_loss for state in states]
    table = pd.DataFrame(columns)
    st.markdown(f"**{last.label}**")
    st.dataframe(table.style.format(precision=3), hide_index=True)
    rise = last.neutral_loss - base.neutral_loss
    if rise >= COLLAPSE:
        st.warning(
            f"{last.label}: the loss on neutral text rose by {rise:.1f} nats per token. The edit damaged ordinary "
            "language, so some of the apparent forgetting is collapse. Compare it with a random control.",
            icon=":material/warning:",
        )
    for i, (prompt, _) in enumerate(base.generations):
        for column, state in zip(st.columns(len(states)), states):
            with column:
                if not i:
                    st.caption(state.label)
                st.html(continuation(prompt, state.generations[i][1]))
