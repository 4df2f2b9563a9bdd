"""Compare: two runs side by side, in numbers, recovery curves, and changes by layer."""

import streamlit as st

from analysis import figures, migration, runs
from analysis.runs.summary import summarise
from ui.app import shell
from ui.compare import tables

shell.page_header(
    "Compare", "Two runs side by side: how much was forgotten, what it cost, and how well it resisted relearning."
)
found = [run for run in runs.list_runs() if run.n_snapshots() > 1]
if len(found) < 2:
    st.info(f"There {'is 1 run' if len(found) == 1 else 'are no runs'} with snapshots. Make two on the Relearn page.")
    st.page_link("relearn.py", label="To Relearn", icon=":material/replay:")
    shell.end_page()
names = [run.name for run in found]
left, right = st.columns(2)
with left:
    first = shell.select_existing("First", names, key="first")
with right:
    second = shell.select_existing("Second", names, key="second", default=1)
scale = st.segmented_control(
    "Scale", list(migration.SCALES), default="standardised", required=True, key="compare_scale", bind="query-params"
)
with shell.shown_errors():
    chosen = {"A": runs.find(first), "B": runs.find(second)}
    summaries = {letter: summarise(run) for letter, run in chosen.items()}
    snapshots = {letter: run.snapshots() for letter, run in chosen.items()}

table = tables.comparison_table({f"{letter}: {chosen[letter].name}": summaries[letter] for letter in chosen})
st.dataframe(table)
st.download_button("Table as CSV", table.to_csv(), file_name="comparison.csv", mime="text/csv")

st.subheader("Recovery")
st.caption("Mean P(answer) after each step: solid on facts that were retrained, dashed on facts that never were.")
st.plotly_chart(figures.recovery(snapshots), key="recovery")

st.subheader("Where it went")
st.caption(f"Change of each layer's mass from right after the edit to the end. {migration.SCALES[scale]}")
changes = {}
for letter, taken in snapshots.items():
    concept = chosen[letter].config.concept
    changes[f"{letter}: {concept}"] = tables.start_and_end(taken, concept, scale)
st.plotly_chart(figures.layer_shift(changes, scale), key="layer_shift")
