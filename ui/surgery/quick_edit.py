"""Tries an edit of components on the page: shows its size, previews it with hooks, or applies it to the session's copy."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from analysis.concepts import Concept, Fact, digest, dump_jsonl
from analysis.edits import ComponentEdit, Materials, PlannedEdit, plan
from analysis.edits.components.preview import preview
from ui.app import saliency_results, shell, viewer_model
from ui.app.actions import action_button
from ui.surgery import before_after

__all__ = ["quick_edit"]

_PLANNED = "planned"


def quick_edit(concept: Concept, edit: ComponentEdit, known: Sequence[Fact]) -> None:
    """Draw what the edit changes and the buttons that preview and apply it; end the page if it does not fit the model."""
    with shell.shown_errors():
        planned = _planned(concept, edit, known)
    st.markdown(f"**{edit.describe()}**: {planned.extent()}.")
    counts = {"neurons": planned.neurons.counts(), "heads": planned.head_counts}
    shown = {kind: per_layer for kind, per_layer in counts.items() if per_layer.any()}
    for column, (kind, per_layer) in zip(st.columns(len(shown)), shown.items()):
        column.bar_chart(pd.DataFrame({kind: per_layer}), height=190, x_label="layer", y_label=kind)
    look, write = st.columns(2)
    if look.button("Preview", width="stretch", help="Uses hooks and changes no weights."):
        with shell.shown_errors():
            changed = preview(viewer_model.model(), planned)
            before_after.record(viewer_model.model(), concept, known, f"preview: {edit.describe()}", changed)

    def apply() -> None:
        ledger = viewer_model.workbench().ledger
        ledger.apply(planned, concept=concept.name, concept_digest=digest(concept))
        count = len(ledger.entries)
        before_after.record(ledger.model, concept, known, f"weights after {count} edit{'s' * (count > 1)}")

    action_button(
        "Apply to weights", apply, key="apply", place=write, width="stretch",
        help="Changes a copy of the model that only you use.",
    )  # fmt: skip


def _planned(concept: Concept, edit: ComponentEdit, known: Sequence[Fact]) -> PlannedEdit:
    key = (viewer_model.chosen(), dump_jsonl(concept), edit)
    if st.session_state.get(_PLANNED, (None,))[0] != key:  # planning a mean ablation of heads takes seconds
        materials = Materials(
            concept=concept,
            forget=tuple(known),
            moments=viewer_model.moments(concept),
            scores=saliency_results.ranking(concept, edit.selection),
        )
        with st.spinner("Choosing components …"):
            planned = plan(edit, viewer_model.model(), materials)
        assert isinstance(planned, PlannedEdit)
        st.session_state[_PLANNED] = (key, planned)
    return st.session_state[_PLANNED][1]
