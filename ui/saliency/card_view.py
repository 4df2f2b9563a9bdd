"""Draws the content of a neuron card: words in context, activations, output vocabulary, ranks for all concepts, the user's text."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from analysis import concepts, figures
from analysis.components.sites import HEADS, Site, site_named
from analysis.components.units import Unit, site_shape
from analysis.concepts import Concept, Sentence, dump_jsonl, parse
from analysis.errors import PalimpsestError
from analysis.saliency import METHODS, MOMENT_METHODS, Saliency
from analysis.saliency.carriers import CARRIER_SHARE
from ui.app import saliency_results, shell, viewer_model
from ui.app.token_strip import legend, token_strip
from ui.app.tokens import escaped

if TYPE_CHECKING:  # importing torch takes seconds: only when a model is loaded
    from analysis.models import LanguageModel
    from analysis.neuron_cards.card import NeuronCard
    from analysis.neuron_cards.token_activations import TokenActivations

__all__ = ["draw"]

_REACH = 90
_LONGEST = 4000
_TOP = f"top {CARRIER_SHARE:.0%}"


def draw(unit: Unit) -> None:
    """Draw everything about one unit, measured on the sentences of the concept chosen in the sidebar.

    Raises:
        PalimpsestError: the model or the concept cannot be used.
    """
    concept, method = shell.chosen_concept(), _method()
    st.markdown(_place(unit, concept, method))
    if unit.site == HEADS:
        st.info("A head's output is a vector, so there is no single activation to rank words by.")
        _concepts(unit, method)
        return
    card = _card(concept, unit)
    context, activation, writes, others, own = st.tabs(["In context", "Activation", "Writes", "Concepts", "Your text"])
    with context:
        _context(card)
    with activation:
        _activation(card, concept)
    with writes:
        _writes(card)
    with own:
        _own_text(unit, card.limit)
    with others:
        _concepts(unit, method)


def _method() -> str:
    """The page's method if it is computed from moments, which are cheap for every concept; else the default method."""
    method = st.session_state.get("method", MOMENT_METHODS[0])
    return method if method in MOMENT_METHODS else MOMENT_METHODS[0]


def _place(unit: Unit, concept: Concept, method: str) -> str:
    from analysis.neuron_cards.card import concept_places

    method = method if unit.site != HEADS else MOMENT_METHODS[0]
    result = saliency_results.saliency(concept, method, unit.site)
    if result is None:
        return ""
    row = concept_places([result], unit).iloc[0]
    text = f"**{concept.title}**, {method}: place **{row['place']:,}** of {row['n']:,} ({row['score']:.4g} {METHODS[method].short_unit}"
    if result.signed_LN is not None and result.standard_error_LN is not None:
        direction = "more" if result.signed_LN[unit.layer, unit.index] > 0 else "less"
        text += f"; {direction} active on the concept; q = {result.q_values()[unit.layer, unit.index]:.2g}"
    return text + ")"


def _card(concept: Concept, unit: Unit) -> NeuronCard:
    return _built(
        viewer_model.chosen(),
        dump_jsonl(concept),
        concept.name,
        unit.site.name,
        unit.layer,
        unit.index,
        viewer_model.model(),
    )


@st.cache_data(show_spinner="Reading every token …", max_entries=64)
def _built(
    choice: viewer_model.Choice, content: str, name: str, site: str, layer: int, index: int, _model: LanguageModel
) -> NeuronCard:
    from analysis.neuron_cards.card import neuron_card

    concept = parse(f"{name}.jsonl", content.encode())
    return neuron_card(
        _model, concept, Unit(layer, index, site_named(site)), scan=viewer_model.scan(concept, site_named(site))
    )


def _context(card: NeuronCard) -> None:
    if card.words.empty:
        st.info("This neuron's activation is constant on these sentences.")
        return
    st.dataframe(
        card.words[["word", "score", "n_occurrences", "signed_mean"]],
        hide_index=True,
        height=215,
        column_config={
            "word": "strongest words, of either sign",
            "score": st.column_config.ProgressColumn("score", min_value=0, max_value=1, format="%.2f", help=_WORDS),
            "n_occurrences": st.column_config.NumberColumn("times", help="Occurrences in the sentences."),
            "signed_mean": st.column_config.NumberColumn("mean z", format="%+.2f", help="In standard deviations."),
        },
    )
    st.html(legend(card.limit))
    parts = []
    for (sign, quantile), group in groupby(card.contexts, key=lambda one: (one.sign, one.quantile)):
        where = "strongest" if quantile == 1 else f"around the {quantile:.0%} quantile"
        parts.append(f'<div style="margin-top:0.7em;font-weight:600">{sign}, {where}</div>')
        for one in group:
            strip = token_strip(one.text, one.ranges, one.values, card.limit, mark=(one.start, one.end), reach=_REACH)
            parts.append(
                '<div style="display:flex;gap:0.8em"><span style="min-width:4em;text-align:right;'
                f'font-variant-numeric:tabular-nums">{_signed(one.value)}</span>{strip}</div>'
            )
    st.html("".join(parts))


_WORDS = "Mean |z| over the word's occurrences, divided by the neuron's largest (Lo, Cohen & Barez 2024)."


def _activation(card: NeuronCard, concept: Concept) -> None:
    st.plotly_chart(figures.activation_histogram(card.own, card.other, concept.title), key="card histogram")
    bars = card.error_bars
    if bars is None:
        st.caption("Too few sentences contain the concept for error bars.")
        return
    st.dataframe(
        bars.table[["method", "score", "low", "high", "share_above"]],
        hide_index=True,
        placeholder="–",
        column_config={
            "score": st.column_config.NumberColumn(format="%.4g"),
            "low": st.column_config.NumberColumn("95% from", format="%.4g"),
            "high": st.column_config.NumberColumn("95% to", format="%.4g"),
            "share_above": st.column_config.NumberColumn(f"in the {_TOP}", format="percent", help=_ABOVE),
        },
    )
    st.caption(
        f"{bars.n_resamples:,} resamples of {bars.n_sentences} sentences, {bars.n_concept_sentences} of them with the "
        "concept. Scores are sizes, so an interval never reaches zero: judge by the last column."
    )


_ABOVE = f"Share of resamples whose score is above that of the model's {_TOP}."


def _writes(card: NeuronCard) -> None:
    if card.vocabulary is None:
        st.caption("A residual dimension has no output vector of its own.")
        return
    for column, label, effects in zip(
        st.columns(2), ("promotes", "suppresses"), (card.vocabulary.promoted, card.vocabulary.suppressed)
    ):
        column.dataframe(
            pd.DataFrame({label: [token for token, _ in effects], "logits": [value for _, value in effects]}),
            hide_index=True,
            column_config={"logits": st.column_config.NumberColumn(format="%+.3f")},
        )
    st.caption(
        f"Direct effect of the neuron's output vector on tokens' logits, in {card.vocabulary.unit}. A negative activation "
        "has the opposite effect."
    )


def _concepts(unit: Unit, method: str) -> None:
    """Draw the unit's rank for every concept for which the method was computed."""
    from analysis.neuron_cards.card import concept_places

    method = method if unit.site != HEADS else MOMENT_METHODS[0]
    every = _readable()
    found = {one.name: saliency_results.measured(one, unit.site).get(method) for one in every}
    missing = [one for one in every if found[one.name] is None]
    if missing:
        names = ", ".join(one.title for one in missing)
        if st.button(f"Measure {names} too", icon=":material/play_arrow:", help="One pass over each one's sentences."):
            for one in missing:
                try:
                    found[one.name] = saliency_results.saliency(one, method, unit.site)
                except PalimpsestError as error:  # the other concepts can still be measured
                    st.caption(f"Without {escaped(one.title)}: {escaped(str(error))}")
    results: list[Saliency] = [result for result in found.values() if result is not None]
    table = concept_places(results, unit)
    table["strength"] = 1 - (table["place"] - 1) / table["n"]
    st.dataframe(
        table[["concept", "place", "strength", "score", "in_top"]],
        hide_index=True,
        column_config={
            "place": st.column_config.NumberColumn(help="1 = the most salient of the model."),
            "strength": st.column_config.ProgressColumn("rank", min_value=0, max_value=1, format="%.3f"),
            "score": st.column_config.NumberColumn(method, format="%.4g"),
            "in_top": _TOP,
        },
    )
    st.caption(
        f"In the {_TOP} for **{int(table['in_top'].sum())} of {len(table)}** concepts measured so far; unrelated "
        f"rankings would give {CARRIER_SHARE * len(table):.2f}."
    )


def _readable() -> list[Concept]:
    """All concepts, without those whose file is damaged, which are named in a caption."""
    every = []
    for name in concepts.available():
        try:
            every.append(concepts.load(name))
        except PalimpsestError as error:
            st.caption(f"Without {escaped(name)}: {escaped(str(error))}")
    return every


def _signed(value: float) -> str:
    """A number with three digits and always a sign, so that numbers line up."""
    return f"{value:+#.3g}".rstrip(".").replace("-", "−")


def _own_text(unit: Unit, limit: float) -> None:
    text = st.text_area("Text", key="card text", placeholder="Type anything", max_chars=_LONGEST, height=110)
    if not text.strip():
        st.caption("Every token is coloured by this neuron's activation, on the scale of the concept's sentences.")
        return
    found = _traced(viewer_model.chosen(), text, unit.site, unit.layer, unit.index, viewer_model.model())
    values = found.values_TK[:, 0].tolist()
    ranges = [(int(a), int(b)) for a, b in found.offsets_T2]
    st.html(legend(limit) + token_strip(text, ranges, values, limit))
    largest = max(range(len(values)), key=lambda i: abs(values[i]))
    st.caption(
        f"{len(values)} tokens; strongest {_signed(values[largest])} at token {largest + 1}. The first token of a text often "
        f"takes extreme values (attention sink).{f' {found.n_cut} tokens did not fit.' if found.n_cut else ''}"
    )


@st.cache_data(show_spinner=False, max_entries=64)
def _traced(
    choice: viewer_model.Choice, text: str, site: Site, layer: int, index: int, _model: LanguageModel
) -> TokenActivations:
    from analysis.components.neurons import NeuronSet
    from analysis.neuron_cards.token_activations import token_activations

    shape = site_shape(_model, site)
    return token_activations(_model, [Sentence(text)], NeuronSet([layer * shape[1] + index], shape), site=site)
