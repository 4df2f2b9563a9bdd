"""Board: all finished removals of the chosen concept and model in one table and one radar chart."""

import streamlit as st

from analysis import removals
from analysis.concepts import digest
from analysis.figures.removal import method_radar
from analysis.removals import board
from ui.app import shell, viewer_model
from ui.surgery import board_view, removal_form, removal_view

shell.page_header("Board", "Ways to remove the concept, side by side: what each removed, and what it cost.")
with shell.shown_errors():
    concept = shell.chosen_concept()

found = removals.list_removals()
entries = [removal_view.entry(removal) for removal in found]
named = [one for one in entries if (one.model, one.concept) == (viewer_model.chosen().reference, concept.name)]
held = digest(concept)
here = [one for one in named if one.concept_digest in ("", held)]
if others := len(named) - len(here):
    st.caption(f"Left out: {others} removals of a concept of this name that held something else.")
finished = [one for one in here if one.outcome is not None]
with st.expander("Carry out several methods", expanded=not finished, icon=":material/add:"):
    removal_form.queue_form(concept)
board_view.under_way(found, {one.name for one in here})
if not finished:
    done = "None of the removals on it has finished" if here else "Nothing has been done to it"
    st.info(f"“{concept.title}” in {viewer_model.chosen().reference}: {done} yet.", icon=":material/science:")
    shell.end_page()

table = board.table(finished)
board_view.ranked(table)
st.download_button(
    "Board as CSV", table.to_csv(index=False), f"{concept.name}-board.csv", "text/csv", icon=":material/download:"
)

st.subheader("On common axes")
chosen = board_view.chosen(finished, table)
if chosen:
    scores = {label: board.scores(one.outcome) for label, one in chosen.items() if one.outcome is not None}
    collapsed = {label for label, one in chosen.items() if one.collapsed}
    st.plotly_chart(method_radar(scores, collapsed=collapsed), key="board_radar")
st.caption(
    "Outer is better on every axis; values are cut off at 0 and 1, and an axis that was not measured leaves a gap."
)
st.markdown("\n".join(f"- **{axis}**: {how}" for axis, how in board.AXES.items()))
