"""Buttons for a run that is not active: continue it, give it more steps, or branch from one of its checkpoints."""

import streamlit as st

from analysis.runs import execution
from analysis.runs.directory import RunDirectory
from ui.app import shell, viewer_model
from ui.app.actions import action_button
from ui.app.tokens import escaped
from ui.surgery import edit_form

__all__ = ["run_controls"]


def run_controls(run: RunDirectory) -> None:
    """Draw the buttons that fit the run's state; none while it is active."""
    status, control = run.status(), run.control
    if status.active or (control is not None and control.status().active):
        return
    left, middle, right = st.columns(3)
    incomplete = not run.is_complete() or (not control.is_complete() if control is not None else run.has_control())
    if incomplete:
        action_button(
            "Go on", lambda: execution.restart(run, owner=viewer_model.owner()), key=f"go on {run.name}", place=left,
            icon=":material/play_arrow:", width="stretch", help=_starting_point(run),
        )  # fmt: skip
    if not incomplete:
        with left.popover("More steps", icon=":material/fast_forward:", width="stretch"):
            _more(run)
    if run.checkpoints():
        # drawn when it opens, because it names the edit chosen in the form, which is another fragment
        opened = middle.popover(
            "Branch", icon=":material/call_split:", width="stretch", key=f"branch {run.name}", on_change="rerun"
        )
        with opened:
            _branch(run)
    if run.config.origin is not None:
        right.caption(f"A branch of **{escaped(run.config.origin.run)}** after step {run.config.origin.step}")


def _starting_point(run: RunDirectory) -> str:
    last = max(run.checkpoints(), default=0)
    return f"From the checkpoint after step {last}." if last else "From the edited model: there is no checkpoint yet."


def _more(run: RunDirectory) -> None:
    st.caption("It continues from the last checkpoint. The learning-rate schedule covers all steps.")
    now = run.config.steps
    steps = int(st.number_input("Steps in all", now + 1, 1_000_000, 2 * now, key=f"more {run.name}"))
    action_button(
        "Go on", lambda: execution.restart(run, steps=steps, owner=viewer_model.owner()), key=f"more of {run.name}",
        type="primary",
    )  # fmt: skip


def _branch(run: RunDirectory) -> None:
    edit = edit_form.chosen_edit(run.config.seed)
    st.caption(
        "A new run that begins with the weights of a checkpoint, with the edit chosen above under “New run” on top: "
        f"**{escaped(edit.describe())}**."
    )
    step = int(st.selectbox("Checkpoint after step", run.checkpoints()[::-1], key=f"branch at {run.name}") or 0)
    steps = int(st.number_input("Steps", 1, 1_000_000, run.config.steps, key=f"branch steps {run.name}"))
    edited = st.toggle(
        "With the edit", edit != run.config.edit, key=f"branch edit {run.name}",
        help="Off: only train on. The run's own edit is in its checkpoints already.",
    )  # fmt: skip

    def start() -> None:
        new = execution.branch(run, step, edit=edit if edited else None, steps=steps)
        execution.restart(new, owner=viewer_model.owner())
        shell.set_widgets_later(run=new.name)

    action_button("Start the branch", start, key=f"branch of {run.name}", type="primary")
