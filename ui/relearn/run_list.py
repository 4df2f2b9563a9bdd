"""Lists all runs with edit, state and steps in a table; a click on a row chooses the run."""

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from analysis.errors import PalimpsestError
from analysis.runs import RunDirectory

__all__ = ["run_list"]

_WIDTH = 660
"""Width of the table in pixels, that of a popover."""


def run_list(runs: Sequence[RunDirectory], key: str) -> None:
    """Draw the table in a popover.

    Args:
        runs: The runs in the order of the rows.
        key: Key of the widget that chooses a run.
    """
    # a selection is a row number, which means another run once the choice changes: each choice gets its own table
    table = f"{key} list {st.session_state.get(key)}"

    def pick() -> None:
        if rows := st.session_state[table]["selection"]["rows"]:
            st.session_state[key] = runs[rows[0]].name

    label = f"All runs ({len(runs)})"
    opened = st.popover(label, icon=":material/list:", width="stretch", key=f"{key} list", on_change="rerun")
    if not opened.open:
        return
    with opened:
        st.dataframe(
            pd.DataFrame([_row(run) for run in runs]),
            width=_WIDTH,
            hide_index=True,
            key=table,
            on_select=pick,
            selection_mode="single-row",
        )


def _row(run: RunDirectory) -> dict[str, object]:
    try:
        config, status = run.config, run.status()
        return {
            "run": run.name,
            "edit": run.record.get("title", ""),
            "state": status.state,
            "steps": f"{status.step} of {config.steps}",
        }
    except (PalimpsestError, OSError) as error:  # the page shows the whole message if the run is chosen
        return {"run": run.name, "edit": str(error)}
