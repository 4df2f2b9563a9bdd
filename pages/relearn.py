"""Relearn: start a run, follow it live, and watch where the concept comes back."""

import streamlit as st

from analysis import runs
from ui.app import queue_view, shell, viewer_model
from ui.app.tokens import escaped
from ui.relearn import live, run_controls, run_form, run_list

shell.begin(
    "Relearn", "Retrain the edited model and watch the concept come back and move. Runs live outside this page."
)
with shell.shown_errors():
    concept = shell.chosen_concept()

found = runs.list_runs()


@st.fragment
def new_run() -> None:
    """The form of a new run: what is chosen here redraws no more than this."""
    form = st.expander("New run", expanded=not found, icon=":material/add:", key="new_run", on_change="rerun")
    with form, shell.shown_errors(stop=False):  # runs below must stay in sight
        config = run_form.run_form(concept)
        run_form.needs(config)
        ready = bool(concept.facts) or config.task == "tagging"
        if not ready:
            st.info("This concept has no facts, so there is nothing to retrain on. Choose another, or upload facts.")
        if st.button("Start relearning", type="primary", icon=":material/play_arrow:", disabled=not ready):
            run = runs.start(config, concepts={concept.name: concept}, owner=viewer_model.owner())
            shell.choose(run=run.name, new_run=False)  # the form makes room for what was started


@st.fragment
def watch() -> None:
    """The run that is watched: what is chosen here redraws no more than this."""
    listed = runs.list_runs()
    if not listed:
        st.rerun()  # the last one was deleted
    with shell.shown_errors(stop=False):
        choice, table = st.columns([5, 1.3], vertical_alignment="bottom")
        with table:
            run_list.run_list(listed, key="run")
        with choice:
            run = runs.find(shell.one_of("Run", [one.name for one in listed], key="run"))
        begun = run.created.replace("T", " ")[:16]
        st.caption(
            f"{escaped(str(run.record.get('title', '')))} · model {escaped(run.config.model)} · seed {run.config.seed} · {begun} UTC"
        )
        with st.container():
            run_controls.run_controls(run)
        live.follow(run)


new_run()
with st.container():  # what comes and goes has a place of its own: below it the picture must not be mounted anew
    queue_view.queue_list()
if found:
    watch()
else:
    st.info("No run yet. Press “Start relearning”: the default takes a few minutes on two CPU cores.")
