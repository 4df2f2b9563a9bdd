"""Compare: two runs side by side."""

import pandas as pd
import streamlit as st

from analysis import figures, migration, runs
from analysis.runs.summary import summarise
from ui.app import shell

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

rows = {}
for letter, summary in summaries.items():
    base, edited, final = (summary[moment] or {} for moment in ("base", "edited", "final"))
    rows[f"{letter}: {chosen[letter].name}"] = {
        "state": summary["state"],
        "edit": summary["edit"] or "none",
        "seed": summary["seed"],
        "P retrained: before": base.get("retrained"),
        "P retrained: after the edit": edited.get("retrained"),
        "P retrained: at the end": final.get("retrained"),
        "P held out: before": base.get("held_out"),
        "P held out: after the edit": edited.get("held_out"),
        "P held out: at the end": final.get("held_out"),
        "half-life (steps)": summary["half_life_steps"],
        "neutral loss: before (nats per token)": base.get("neutral_loss"),
        "neutral loss: after the edit": edited.get("neutral_loss"),
        "neutral loss: at the end": final.get("neutral_loss"),
        "centre of mass, d': after the edit (layer)": summary["center_of_mass_standardised"]["edited"],
        "centre of mass, d': at the end (layer)": summary["center_of_mass_standardised"]["final"],
        "steps": summary["steps"],
    }
table = pd.DataFrame(rows).map(
    lambda value: "–" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
)
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
    start = next((one for one in taken if one.phase == "edited"), taken[0])
    changes[f"{letter}: {concept}"] = (
        migration.scaled(start, concept, scale),
        migration.scaled(taken[-1], concept, scale),
    )
st.plotly_chart(figures.layer_shift(changes, scale), key="layer_shift")
