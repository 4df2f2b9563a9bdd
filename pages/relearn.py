"""Relearn: start a run, follow it live, and watch where the concept comes back."""

import streamlit as st

from analysis import runs
from ui.app import queue_view, shell, viewer_model
from ui.app.actions import action_button
from ui.app.tokens import escaped
from ui.relearn import live, run_controls, run_form, run_list

shell.page_header(
    "Relearn", "Retrain the edited model and watch the concept come back and move. Runs live outside this page."
)
with shell.shown_errors():
    concept = shell.chosen_concept()

found = runs.list_runs()


@st.fragment
def new_run() -> None:
    """The form of a new run, a fragment: a choice in it redraws only the form."""
    form = st.expander("New run", expanded=not found, icon=":material/add:", key="new_run", on_change="rerun")
    with form, shell.shown_errors(stop=False):  # the runs below stay visible after an error
        config = run_form.run_form(concept)
        run_form.needs(config)
        ready = bool(concept.facts) or config.task == "tagging"
        if not ready:
            st.info("This concept has no facts, so there is nothing to retrain on. Choose another, or upload facts.")

        def start() -> None:
            run = runs.start(config, concepts={concept.name: concept}, owner=viewer_model.owner())
            shell.set_widgets_later(run=run.name, new_run=False)  # closes the form and shows the new run

        action_button(
            "Start relearning", start, key="start", type="primary", icon=":material/play_arrow:", disabled=not ready
        )


@st.fragment
def watch() -> None:
    """The chosen run, a fragment: a choice in it redraws only the run."""
    listed = runs.list_runs()
    if not listed:
        st.rerun()  # the last run was deleted
    with shell.shown_errors(stop=False):
        choice, table = st.columns([5, 1.3], vertical_alignment="bottom")
        with table:
            run_list.run_list(listed, key="run")
        with choice:
            run = runs.find(shell.select_existing("Run", [one.name for one in listed], key="run"))
        created = run.created.replace("T", " ")[:16]
        st.caption(
            f"{escaped(str(run.record.get('title', '')))} · model {escaped(run.config.model)} · seed {run.config.seed} · {created} UTC"
        )
        with st.container():  # always there, so that the buttons do not move the canvas
            run_controls.run_controls(run)
        live.run_view(run)


new_run()
with st.container():  # always there: the canvas below would be mounted anew if the elements above it moved
    queue_view.queue_list()
if found:
    watch()
else:
    st.info("No run yet. Press “Start relearning”: the default takes a few minutes on two CPU cores.")
