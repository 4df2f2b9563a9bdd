"""Draws how well a run's model finds the concept's words (F1 over steps), and names the sentences it is measured on."""

import streamlit as st

from analysis import figures
from analysis.canvas import run_cache
from analysis.relearning import RunFacts
from analysis.runs import RunDirectory

__all__ = ["f1_over_steps", "sizes"]


def f1_over_steps(run: RunDirectory, facts: RunFacts, count: int) -> None:
    """Draw the curve of the run's first `count` snapshots, and that of its control."""
    taken = {"this run": [run_cache.snapshot(run.path, index) for index in range(count)]}
    if (control := run.control) is not None:
        taken["control"] = [run_cache.snapshot(control.path, index) for index in range(control.n_snapshots())]
    st.subheader("Does it find the words?")
    st.plotly_chart(figures.f1_curve(taken), key="f1 over steps", theme="streamlit")
    st.caption(
        f"Whole words, from the first token to the last. Scored on {sizes(facts)}. Dotted: held out, before the edit."
    )


def sizes(facts: RunFacts) -> str:
    """The numbers of scored words, such as `50 words in 50 held-out sentences and 117 words in 111 retrained ones`."""
    found = facts.sizes
    return (
        f"{found['labelled words held out, scored']} words in {found['sentences held out, scored']} held-out sentences "
        f"and {found['labelled words trained on, scored']} words in {found['sentences trained on, scored']} retrained ones"
    )
