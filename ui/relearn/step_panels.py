"""Panels below the canvas about one step: which neurons carry the concept, whether they were primed, in which layers they are."""

import numpy as np
import pandas as pd
import streamlit as st

from analysis import figures, migration
from analysis.canvas import run_cache, run_data
from analysis.canvas.run_cache import View
from analysis.errors import PalimpsestError
from analysis.relearning import RunFacts
from analysis.runs import RunDirectory
from analysis.saliency.carriers import CARRIER_SHARE, carried_ranks
from ui.app.tokens import escaped

__all__ = ["draw"]

_PANELS = {
    "Carriers": "The unedited neurons that carry the concept at this step, and did not or less strongly right after the edit.",
    "Priming": "Rank of every unedited neuron for the concept before the edit, against its rank now.",
    "Layers": "The layers of the most salient half of all neurons (Lo, Cohen & Barez 2024).",
}


def draw(run: RunDirectory, view: View, facts: RunFacts, index: int) -> None:
    """Draw the chosen panel for snapshot `index`."""
    concept = view.concepts[0]
    now = run_cache.snapshot(run.path, index)
    moment = {"base": "before the edit", "edited": "just after the edit"}.get(now.phase, f"at step {now.step}")
    title, choice = st.columns([3, 2], vertical_alignment="bottom")
    title.subheader(f"{run.concepts()[concept].title}, {moment}")
    panel = choice.segmented_control(
        "Panel", list(_PANELS), default="Carriers", required=True, key="step_panel", label_visibility="collapsed"
    )
    st.caption(_PANELS[str(panel)])
    try:
        {"Carriers": _carriers, "Priming": _priming, "Layers": _layers}[str(panel)](run, view, facts, index)
    except PalimpsestError as error:
        st.info(escaped(str(error)), icon=":material/info:")


def _carriers(run: RunDirectory, view: View, facts: RunFacts, index: int) -> None:
    concept = view.concepts[0]
    after_edit = _after_edit(run)
    titles = {name: one.title for name, one in run.concepts().items()}

    def make() -> pd.DataFrame:
        base, reference, now = (run_cache.snapshot(run.path, at) for at in (0, after_edit, index))
        return migration.carriers_table(base, reference, now, concept, facts.edited, view.scale, titles)

    table = run_cache.cached(
        run.path,
        ("carriers", view.concepts, view.scale, index),
        make,
        lambda one: int(one.memory_usage(deep=True).sum()),
    )
    if table.empty:
        st.info("There are no recruits at this step, and no survivors that gained.", icon=":material/info:")
        return
    recruits = table[table["role"] == "recruit"]
    rank = f"rank of {concept} before"
    text = f"{len(recruits)} recruits, {len(table) - len(recruits)} survivors that gained."
    if len(recruits):
        text += f" The recruits' mean rank for the concept before the edit was {recruits[rank].mean():.2f} (1 = the strongest neuron, 0.5 = chance)."
    if len(run.config.tracked) > 1 and len(table):
        shared = (table["also_carries"].str.len() > 0).mean()
        text += f" {shared:.0%} of them also carry another tracked concept; chance would be about {_chance(run):.0%}."
    st.markdown(text)
    words = table["words_now"].any() or table["words_before"].any()
    ranks = [f"rank of {name} before" for name in run.config.tracked]
    columns = ["neuron", "role", "score_base", "score_edited", "score_now", "also_carries"]
    st.dataframe(
        table[[*columns, *(("words_before", "words_now") if words else ()), *ranks]],
        hide_index=True,
        height=320,
        column_config={
            "score_base": st.column_config.NumberColumn("before", format="%.3g"),
            "score_edited": st.column_config.NumberColumn("after the edit", format="%.3g"),
            "score_now": st.column_config.NumberColumn("now", format="%.3g"),
            "also_carries": st.column_config.ListColumn("also carries now"),
            "words_before": "words before",
            "words_now": "words now",
            **{
                column: st.column_config.ProgressColumn(
                    f"{name} before",
                    min_value=0,
                    max_value=1,
                    format="%.2f",
                    help="Rank for this concept before the edit: 1 = the strongest neuron, 0.5 = chance.",
                )
                for name, column in zip(run.config.tracked, ranks)
            },
        },
    )


def _chance(run: RunDirectory) -> float:
    """Probability that a neuron carries one of the other tracked concepts if the rankings were independent."""
    return 1 - (1 - CARRIER_SHARE) ** (len(run.config.tracked) - 1)


def _priming(run: RunDirectory, view: View, facts: RunFacts, index: int) -> None:
    now = run_cache.snapshot(run.path, index)
    found = {"this run": _primed(run, view, facts, index)}
    control, at = run.control, None
    if control is not None and control.n_snapshots():
        # the control's snapshot with the nearest step
        at = min(range(control.n_snapshots()), key=lambda i: abs(run_cache.snapshot(control.path, i).step - now.step))
        own = control.facts()
        if own is not None:
            step = run_cache.snapshot(control.path, at).step
            found[f"control, step {step}"] = _primed(control, view, own, at)
    recruits, survivors = _marked(run, view, facts, index)
    st.plotly_chart(
        figures.priming_scatter(found, recruits=recruits, survivors=survivors), key="priming scatter", theme="streamlit"
    )
    st.markdown(
        "  \n".join(
            f"**{name}**: Spearman’s ρ = {one.priming.correlation:.3f} "
            f"({one.priming.level:.0%} interval {one.priming.low:.3f} to {one.priming.high:.3f}, "
            f"{one.priming.n:,} unedited neurons, {one.priming.n_resamples} bootstrap resamples of neurons)"
            for name, one in found.items()
        )
    )


def _primed(run: RunDirectory, view: View, facts: RunFacts, index: int) -> migration.PrimedNeurons:
    concept = view.concepts[0]

    def make() -> migration.PrimedNeurons:
        with st.spinner("Resampling …"):
            base, now = (run_cache.snapshot(run.path, at) for at in (0, index))
            return migration.primed(base, now, concept, view.scale, facts.edited)

    key = ("primed", concept, view.scale, index)
    return run_cache.cached(run.path, key, make, lambda one: 3 * one.before_K.nbytes)


def _marked(run: RunDirectory, view: View, facts: RunFacts, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Flat indices of recruits and survivors of the first concept."""
    frame = run_data.frames(run, view, facts, 0, run.n_snapshots())[index]
    return frame.recruits[0].cells, frame.survivors[0].cells


def _layers(run: RunDirectory, view: View, facts: RunFacts, index: int) -> None:
    control = run.control
    moments = {"before the edit": (run, 0), "just after the edit": (run, _after_edit(run)), "now": (run, index)}
    if control is not None and control.n_snapshots():
        moments["control, at its end"] = (control, control.n_snapshots() - 1)
    concept = view.concepts[0]
    ranks = {
        name: carried_ranks(run_cache.scaled(one.path, at, concept, view.scale)) for name, (one, at) in moments.items()
    }
    st.plotly_chart(figures.layer_share_curve(ranks, 0.5), key="layer shares", theme="streamlit")


def _after_edit(run: RunDirectory) -> int:
    return run_data.beginning_index(run, run.n_snapshots())
