"""Draws the ledger of edits to the session's own copy of the model, with undo, recipe and export of the weights."""

from pathlib import Path

import pandas as pd
import streamlit as st

from analysis import concepts, paths
from analysis.concepts import Concept
from analysis.edits import Ledger, LedgerEntry
from analysis.edits.recipe import Recipe
from analysis.errors import ConfigError
from ui.app import shell, viewer_model
from ui.app.actions import action_button
from ui.surgery import before_after

__all__ = ["ledger_view"]


def ledger_view(concept: Concept) -> None:
    """Draw the ledger, and buttons to undo edits, to drop the copy and to export it."""
    if not viewer_model.has_workbench() or not viewer_model.workbench().ledger.entries:
        st.caption(
            "No edit has been applied to weights. Applied edits are listed here with digests of the touched weights."
        )
        return
    ledger = viewer_model.workbench().ledger
    entries = ledger.entries
    st.dataframe(
        pd.DataFrame(
            {
                "#": range(1, len(entries) + 1),
                "edit": [entry.edit.describe() for entry in entries],
                "concept": [entry.concept for entry in entries],
                "touches": [entry.extent for entry in entries],
                "weights": [entry.n_weights for entry in entries],
                "changed": [entry.n_changed for entry in entries],
                "SHA-256 before": [entry.hash_before[:12] for entry in entries],
                "SHA-256 after": [entry.hash_after[:12] for entry in entries],
                "in place": [entry.current_hash() == entry.hash_after for entry in entries],
            }
        ),
        hide_index=True,
    )
    one, point, undo, drop = st.columns([3, 4, 2, 3], vertical_alignment="bottom")

    def undo_last() -> None:
        undone = ledger.undo()
        st.toast(f"Undone bit for bit: the weights' digest is {undone.hash_before[:12]} again.")
        before_after.forget_last(concept)

    action_button("Undo the last edit", undo_last, key="undo last", place=one, width="stretch")
    points = ["the unedited model", *(f"after edit {i}" for i in range(1, len(entries)))]
    back_to = str(point.selectbox("Back to", points))

    def undo_later() -> None:
        ledger.undo_to(points.index(back_to))
        before_after.forget_last(concept)

    action_button(
        "Undo", undo_later, key="undo later", place=undo, width="stretch",
        help="All later edits are undone, the last one first.",
    )  # fmt: skip
    if drop.button("Free the copy", width="stretch", help="Drops the edited copy and its memory."):
        viewer_model.close_workbench()
        before_after.forget_last(concept)
        st.rerun()
    _export(ledger)


def _export(ledger: Ledger) -> None:
    with st.expander("Save the recipe of these edits, or export the weights", icon=":material/save:"):
        stem = f"{ledger.model.name.replace('/', '-')}-{ledger.entries[-1].edit.method}"
        with shell.shown_errors(stop=False):
            steps = [(_concept_of(entry), entry.edit) for entry in ledger.entries]
            st.download_button(
                "Recipe (JSON)",
                lambda: Recipe.of(viewer_model.model(), steps).to_json(),
                f"{stem}-recipe.json",
                "application/json",
            )
        where, go = st.columns([5, 1], vertical_alignment="bottom")
        folder = where.text_input("New folder", str(paths.home() / "exports" / stem), key=f"export to {stem}")

        def write() -> Path:
            from analysis.models import export

            with st.spinner("Writing, loading again, and comparing logits …"):
                return export.export(ledger.model, Path(folder))

        # one action for each state of the weights: what was written of an earlier one is not shown for this one
        state = f"export {len(ledger.entries)} {ledger.entries[-1].hash_after}"
        written = action_button("Export weights", write, key=state, place=go, width="stretch")
        if written is not None:
            st.success(f"`{written}` gives the same logits when plain transformers loads it.")


def _concept_of(entry: LedgerEntry) -> Concept:
    """The concept that an entry removed, if it is still what it was."""
    concept = concepts.load(entry.concept)
    if entry.concept_digest and entry.concept_digest != concepts.digest(concept):
        raise ConfigError(
            f"“{entry.concept}” has changed since the edit, so a recipe would make other weights. Bring it back as it was, or "
            "undo the edit and apply it again."
        )
    return concept
