"""Draws the logit lens: cached results, and a table of layers and positions with the top token in every cell.

`COLOURS` names what the colour of a cell can show. Its strength, 0 to 100, is computed here; `lens_table.js` draws it in one
hue. Tokens are sent as text and shown as text, never as HTML.

Axes: `R` depth row (the embedding, then the layers), `P` position, `K` top prediction.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st
from streamlit.components.v2 import component

from analysis.concepts import Concept, dump_jsonl, parse
from analysis.figures import HUES, LEGEND
from ui.app import viewer_model

if TYPE_CHECKING:  # importing torch takes seconds: only when a model is loaded
    from analysis.lens.logit_lens import LogitLens
    from analysis.lens.unembedding import VocabularyEffect
    from analysis.models import LanguageModel

__all__ = [
    "COLOURS",
    "DEPTH_COLUMNS",
    "OWN",
    "answer_figure",
    "cells",
    "depth_figure",
    "depth_summary",
    "depths",
    "finding",
    "lens",
    "lens_table",
    "neuron_vocabulary",
    "prompt_form",
]

OWN = "own prompt"
_FORM_CONCEPT = "lens_concept"
_SENTENCES = 20
_LONGEST = 10_000
"""Characters of a prompt; all of them must fit into the URL."""

COLOURS = {
    "probability": "of the token shown",
    "P(answer)": "of the answer's first token",
    "rank": "of the answer's first token, log scale",
    "KL": "divergence from the layer's prediction to the model's output",
}
"""What the cells' colour can show; P(answer) and rank need an answer."""

DEPTH_COLUMNS = {
    "depth": st.column_config.NumberColumn("on top from layer", help="And from there to the last; empty: not on top."),
    "first_decodable": st.column_config.NumberColumn("in the top 10 from layer", help="The first such layer."),
    "p_answer": st.column_config.NumberColumn("P(answer) at the output", format="%.3f"),
    "rank": st.column_config.NumberColumn("rank at the output", help="1 = the model's prediction."),
}
"""Titles and formats of the columns of `depths`."""

_HERE = Path(__file__).parent


def lens(prompt: str, answer: str) -> LogitLens:
    """The logit lens of the shared model; an empty answer means none. Cached while the server runs.

    Raises:
        PalimpsestError: the model cannot be loaded, or the prompt or the answer cannot be used.
    """
    return _lens(viewer_model.chosen(), prompt, answer, viewer_model.model())


@st.cache_data(show_spinner="Reading every layer …", max_entries=64)
def _lens(choice: viewer_model.Choice, prompt: str, answer: str, _model: LanguageModel) -> LogitLens:
    from analysis.lens.logit_lens import logit_lens

    return logit_lens(_model, prompt, answer=answer if answer.strip() else None)


def depths(concept: Concept) -> pd.DataFrame:
    """Depth of every fact that the shared model knows (`analysis.lens.logit_lens.depths`); cached while the server runs."""
    known = tuple(np.flatnonzero(viewer_model.fact_scores(concept)["known"]).tolist())
    return _depths(viewer_model.chosen(), dump_jsonl(concept), concept.name, known, viewer_model.model())


@st.cache_data(show_spinner="Looking for every known answer …", max_entries=24)
def _depths(
    choice: viewer_model.Choice, content: str, name: str, known: tuple[int, ...], _model: LanguageModel
) -> pd.DataFrame:
    from analysis.lens.logit_lens import depths

    concept = parse(f"{name}.jsonl", content.encode())
    return depths(_model, concept, [concept.facts[i] for i in known])


def neuron_vocabulary(name: str) -> VocabularyEffect:
    """The tokens that the neuron `name` (`L5.N123`) promotes and suppresses; the first of several names.

    Raises:
        PalimpsestError: it is not a neuron of the shared model.
    """
    from analysis.components.neurons import NeuronSet
    from analysis.lens import unembedding

    model = viewer_model.model()
    neuron = next(iter(NeuronSet.parse(name, model.shape)))
    return unembedding.neuron_vocabulary(model, neuron.layer, neuron.index)


def prompt_form(concept: Concept, facts: pd.DataFrame | None) -> tuple[str, str]:
    """Draw the widgets for prompt and answer, bound to the URL and filled from the concept; returns what they hold.

    Args:
        concept: Its facts are offered, known ones first; or its sentences if it has no facts.
        facts: `viewer_model.fact_scores`; None without facts.
    """
    offered = _offered(concept, facts)
    before = st.session_state.get(_FORM_CONCEPT, concept.name)
    st.session_state[_FORM_CONCEPT] = concept.name
    linked = {"prompt", "answer"} & set(st.query_params)
    is_first_run = "prompt" not in st.session_state
    if before != concept.name or (is_first_run and not linked):
        st.session_state["prompt"], st.session_state["answer"] = first = next(iter(offered.values()))
        if is_first_run:  # Streamlit writes a value set by code into the URL only once the widget was drawn
            st.query_params.update(prompt=first[0], answer=first[1])
    choice, text, word = st.columns([3, 7, 3])
    # a text area, because prompts may have several lines
    prompt = text.text_area(
        "Prompt", key="prompt", bind="query-params", height="content", max_chars=_LONGEST,
        placeholder="The beginning of a sentence; the lens shows what each layer would predict next",
    )  # fmt: skip
    answer = word.text_input("Answer", key="answer", bind="query-params", placeholder="none")
    same = [name for name, pair in offered.items() if pair == (prompt, answer)]
    st.session_state["lens_fact"] = same[0] if same else OWN
    choice.selectbox(
        "Fact" if concept.facts else "Sentence", [*offered, OWN], key="lens_fact", on_change=_use, args=(offered,)
    )
    return prompt, answer


def _offered(concept: Concept, facts: pd.DataFrame | None) -> dict[str, tuple[str, str]]:
    """Name -> (prompt, answer)."""
    if facts is None:
        return {sentence.text: (sentence.text, "") for sentence in concept.sentences[:_SENTENCES]}
    names, pairs = concept.fact_names(), {}
    for i in np.argsort(~facts["known"].to_numpy(), kind="stable"):
        text, start = next(concept.statements(concept.facts[i]))
        name = names[i] if facts["known"].iloc[i] else f"{names[i]} (not known)"
        pairs[name] = (text[:start].rstrip(" "), concept.facts[i].answer)
    return pairs


def _use(offered: dict[str, tuple[str, str]]) -> None:
    """Callback: fill the widgets from the chosen fact; empty them for the user's own prompt."""
    st.session_state["prompt"], st.session_state["answer"] = offered.get(st.session_state["lens_fact"], ("", ""))


def finding(result: LogitLens) -> str:
    """What the lens shows about the answer, as two sentences of Markdown."""
    from analysis.lens.logit_lens import DECODABLE_RANK, layer_label
    from ui.app.tokens import escaped

    if result.answer_tokens is None or result.p_answer_RP is None or result.rank_answer_RP is None:
        return "Give an answer to see at which layer it appears."
    token = f"“{escaped(result.answer_tokens[0])}”"
    if result.depth is None:
        text = f"**{token} is not the top prediction at the output.**"
    else:
        text = f"**{token} is the top prediction from {layer_label(result.depth)} on.**"
    if result.first_decodable is None:
        text += f" It is never among the top {DECODABLE_RANK}."
    else:
        text += f" It is first among the top {DECODABLE_RANK} at {layer_label(result.first_decodable)}."
    text += f" At the output P = {_share(float(result.p_answer_RP[-1, -1]))}, rank {result.rank_answer_RP[-1, -1]:,}."
    if len(result.answer_tokens) > 1:
        whole = " ".join(escaped(part) for part in result.answer_tokens)
        text += f" The answer has {len(result.answer_tokens)} tokens ({whole}); this is about the first."
    return text


def answer_figure(result: LogitLens) -> go.Figure:
    """P(answer) at the last position after each layer; layer -1 is the embedding."""
    assert result.p_answer_RP is not None  # the page draws this only if there is an answer
    layers = np.arange(len(result.layers)) - 1
    figure = go.Figure(go.Scatter(x=layers, y=result.p_answer_RP[:, -1], mode="lines+markers", marker={"size": 5}))
    figure.update_traces(line={"color": HUES[0], "width": 2}, hovertemplate="layer %{x}: P = %{y:.3g}<extra></extra>")
    figure.update_layout(height=310, margin=LEGEND["margin"], uirevision="curve")
    figure.update_xaxes(title="layer (-1: embedding)", range=[-1.5, layers[-1] + 0.5])
    figure.update_yaxes(title="P(answer)", range=[-0.03, 1.03])
    return figure


def depth_figure(table: pd.DataFrame, n_layers: int) -> go.Figure:
    """Number of facts whose answer is first among the top 10, and stays on top, from each layer on."""
    figure = go.Figure()
    for column, label, hue in (
        ("first_decodable", "first in the top 10", HUES[5]),
        ("depth", "on top for good", HUES[1]),
    ):
        counts = table[column].value_counts().reindex(range(-1, n_layers), fill_value=0)
        figure.add_trace(go.Bar(x=counts.index, y=counts.to_numpy(), name=label, marker_color=hue))
    figure.update_layout(height=310, barmode="group", **LEGEND)
    figure.update_xaxes(title="layer (-1: embedding)", range=[-1.5, n_layers - 0.5])
    figure.update_yaxes(title="facts")
    return figure


def depth_summary(table: pd.DataFrame) -> str:
    """The median depth and how many answers never reach the top."""
    found = table["depth"].dropna()
    median = f"median {found.median():g}" if len(found) else "no median"
    return (
        f"Layer from which on the answer is the top prediction: {median} (n = {len(found)}); "
        f"not on top at the output: {len(table) - len(found)}. First template of each fact."
    )


def lens_table(result: LogitLens, colour: str, *, vocabulary_size: int, key: str) -> None:
    """Draw the table with layer 0 at the bottom; hover or arrow keys show a cell's top predictions."""
    _component(key=key, data=cells(result, colour, vocabulary_size))


def cells(result: LogitLens, colour: str, vocabulary_size: int) -> dict[str, Any]:
    """The data that the browser draws, as JSON: texts, numbers as texts, and the strength of each cell's colour, 0 to 100."""
    shade_RP, low, high = _shade(result, colour, vocabulary_size)
    has_answer = result.rank_answer_RP is not None
    return {
        "title": f"{colour} {COLOURS[colour]}",
        "low": low,
        "high": high,
        "layers": list(result.layers),
        "tokens": list(result.tokens),
        "first": result.n_cut,
        "top": result.top_RPK.tolist(),
        "p": _texts(result.p_top_RPK, _share),
        "entropy": _texts(result.entropy_RP, _nats),
        "kl": _texts(result.kl_RP, _nats),
        "answer": result.answer_tokens[0] if result.answer_tokens else None,
        "p_answer": _texts(result.p_answer_RP, _share) if has_answer else None,
        "rank": np.asarray(result.rank_answer_RP).tolist() if has_answer else None,
        "shade": np.rint(100 * shade_RP).astype(int).tolist(),
        "depth": None if result.depth is None else result.depth + 1,
    }


def _shade(result: LogitLens, colour: str, vocabulary_size: int) -> tuple[np.ndarray, str, str]:
    """Strength of each cell's colour in [0, 1], and the labels of its two ends."""
    if colour == "KL":
        worst = max(
            float(result.kl_RP[1:].max()), 1e-6
        )  # without the embedding, whose divergence is far larger than that of any layer
        return np.minimum(result.kl_RP / worst, 1), "0", f"{worst:.1f} nats or more"
    if colour != "probability" and result.p_answer_RP is not None and result.rank_answer_RP is not None:
        if colour == "rank":
            depth_RP = np.log(result.rank_answer_RP) / np.log(max(vocabulary_size, 2))
            return np.clip(1 - depth_RP, 0, 1), f"rank {vocabulary_size:,}", "rank 1"
        return result.p_answer_RP, "0", "1"
    return result.p_top_RPK[:, :, 0], "0", "1"


def _texts(values: np.ndarray | None, write: Any) -> list:
    return [_texts(value, write) if np.ndim(value) else write(float(value)) for value in np.asarray(values)]


def _share(value: float) -> str:
    return f"{value:.3f}" if value >= 5e-4 else f"{value:.0e}"


def _nats(value: float) -> str:
    return f"{value:.2f}"


_component = component(
    "palimpsest_lens",
    js=(_HERE / "lens_table.js").read_text(encoding="utf-8"),
    css=(_HERE / "lens_table.css").read_text(encoding="utf-8"),
)
