"""Draws removals: a list of all, the chosen one live while it is active, and its result.

The page only reads the removal's folder. While the removal is active, a fragment reads it every second.
"""

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from analysis import removals
from analysis.concepts import Concept, Fact
from analysis.errors import PalimpsestError
from analysis.evaluation import compare
from analysis.figures.removal import training_loss
from analysis.jobs import JobStatus
from analysis.removals import board
from analysis.removals.board import Entry
from analysis.removals.layout import EVALUATION, RECIPE
from analysis.removals.removal import Removal
from ui.app import queue_view, shell, updates, viewer_model
from ui.app.actions import action_button
from ui.app.tokens import escaped
from ui.surgery import before_after, removal_result
from ui.surgery.removal_form import CHOSEN

__all__ = ["choose", "entry", "removal_view"]

_RESUMABLE = ("stopped", "crashed", "failed")
_ICONS = {"finished": ":material/check_circle:", "stopped": ":material/stop_circle:"}


def entry(removal: Removal) -> Entry:
    """A removal's entry for the board; cached until its evaluation changes."""
    file = removal.path / EVALUATION
    return _entry(str(removal.path), file.stat().st_mtime_ns if file.is_file() else 0)


@st.cache_data(show_spinner=False, max_entries=512)
def _entry(path: str, written: int) -> Entry:
    from pathlib import Path

    return board.entry(Removal(Path(path)))


def choose(found: Sequence[Removal]) -> Removal:
    """Draw the choice of a removal, and a table of all with their main numbers; a click on a row chooses one."""
    names = [removal.name for removal in found]
    chosen = shell.select_existing("Removal", names, key=CHOSEN)
    table = f"op_list {chosen}"  # a selection is a row number, so each choice gets its own table
    with st.expander(f"All removals ({len(names)})"):

        def pick() -> None:
            if rows := st.session_state[table]["selection"]["rows"]:
                st.session_state[CHOSEN] = names[rows[0]]

        st.dataframe(
            pd.DataFrame([_row(removal) for removal in found]),
            hide_index=True,
            key=table,
            on_select=pick,
            selection_mode="single-row",
            column_config={
                name: st.column_config.NumberColumn(format="%.3g")
                for name in ("P before", "P after", "KL median, nats", "perplexity after")
            },
        )
    return found[names.index(chosen)]


def removal_view(removal: Removal, concept: Concept, known: Sequence[Fact]) -> None:
    """Draw everything about one removal, live while it is active."""
    one = entry(removal)
    if one.error:
        st.error(escaped(one.error), icon=":material/error:")
        return
    st.caption(
        f"{escaped(one.concept)}: {escaped(one.settings)} · model {escaped(one.model)} · seed "
        f"{removal.settings['seed']} · {one.created}"
    )
    active = removal.status().active

    @st.fragment(run_every=1.0 if active else None)
    def panel() -> None:
        if not removal.path.is_dir():
            st.rerun()  # the removal was deleted: the page chooses another
        try:
            status = removal.status()
            if active and not status.active:
                st.rerun()  # the removal has ended: draw the page once more, without updates
            _progress(removal, status)
        except (PalimpsestError, OSError) as error:  # caught here: a fragment reruns without the page around it
            st.error(escaped(str(error)), icon=":material/error:")

    panel()
    if one.outcome is not None and not active:
        removal_result.show(removal.name, one.outcome)
        _downloads(removal)
        _apply(removal, concept, known)


def _progress(removal: Removal, status: JobStatus) -> None:
    text, button = st.columns([5, 1], vertical_alignment="center")
    if status.active:
        total = _steps(removal)
        share = min(status.step / total, 1.0) if total else 0.0
        steps = f" of {total}" if total and status.message.startswith("Training") else ""
        text.progress(share, text=escaped(updates.progress_text(status, (status.message or "Starting") + steps)))
        queue_view.stop_button(button, removal, "It stops after its current step; the weights stay as they were.")
    elif status.state in ("crashed", "failed"):
        text.error(f"{status.state.capitalize()}: {escaped(status.message)}", icon=":material/error:")
    else:
        text.markdown(f"{_ICONS.get(status.state, '')} {escaped(status.message)} · {status.seconds:.0f} s")
    if status.state in _RESUMABLE:
        action_button(
            "Go on", lambda: removals.resume(removal, owner=viewer_model.owner()), key=f"go on {removal.name}",
            place=button, width="stretch",
        )  # fmt: skip
    steps = [event for event in removal.events() if event["kind"] == "step"]
    if len(steps) > 1:
        st.plotly_chart(training_loss(steps), key=f"loss {removal.name}")


def _downloads(removal: Removal) -> None:
    recipe, evaluation = st.columns(2)
    recipe.download_button(
        "Recipe (JSON)",
        (removal.path / RECIPE).read_bytes,
        f"{removal.name}-recipe.json",
        "application/json",
        width="stretch",
    )
    evaluation.download_button(
        "Evaluation (CSV)", lambda: _csv(removal), f"{removal.name}.csv", "text/csv", width="stretch"
    )


def _csv(removal: Removal) -> str:
    outcome = removal.outcome()
    return "" if outcome is None else compare([outcome.before, outcome.after]).to_csv()


def _apply(removal: Removal, concept: Concept, known: Sequence[Fact]) -> None:
    def apply() -> None:
        ledger = viewer_model.workbench().ledger
        count = len(ledger.entries)
        try:
            for path in removal.deltas():
                ledger.replay(path)
        except PalimpsestError:
            ledger.undo_to(count)
            raise
        before_after.record(ledger.model, concept, known, f"weights after {removal.name}")

    action_button(
        "Apply to my copy", apply, key=f"apply {removal.name}", width="stretch",
        help="Puts exactly the weights that were measured into a copy of the model that only you use.",
    )  # fmt: skip


def _row(removal: Removal) -> dict:
    one, status = entry(removal), removal.status()
    before, after, left = {}, {}, "forget"
    if one.outcome is not None:
        before, after, left = one.outcome.before.summary(), one.outcome.after.summary(), one.outcome.forgetting
    return {
        "time (UTC)": one.created[:16].replace("T", " "),
        "concept": one.concept,
        "method": one.method,
        "state": "damaged" if one.error else "collapsed" if one.collapsed else status.state,
        "P before": before.get(left),
        "P after": after.get(left),
        "KL median, nats": (after.get("kl") or {}).get("median"),
        "perplexity after": after.get("neutral_perplexity"),
        "model": one.model,
        "settings": one.settings or one.error,
    }


def _steps(removal: Removal) -> int:
    """Steps of the training; 0 if the removal has no training, or several."""
    steps = [getattr(step.edit, "steps", 0) for step in removal.recipe.steps]
    return steps[0] if len(steps) == 1 else 0
