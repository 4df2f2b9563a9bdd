"""Draws the parts of the Board page: active removals, the ranked table with collapsed removals apart, the choice for the radar."""

from collections.abc import Sequence, Set

import pandas as pd
import streamlit as st

from analysis.removals.board import Entry
from analysis.removals.removal import Removal
from ui.app.tokens import escaped

__all__ = ["chosen", "ranked", "under_way"]

_HIDDEN = ["collapsed", "created", "model", "concept"]
_LABELS = {
    "perplexity ratio": "perplexity ÷ before",
    "kl_median": "KL median, nats",
    "edited_parameters": "edited parameters",
    "multiple_choice": "multiple choice",
    "multiple_choice before": "multiple choice before",
    "labelled_words": "P(word)",
    "labelled_words before": "P(word) before",
}
_PRECISE = ("forget", "paraphrase", "multiple_choice", "labelled_words", "neighbours")
_AT_ONCE = 4


def under_way(found: Sequence[Removal], names: Set[str]) -> None:
    """Draw a live line for each of the named removals that is active."""
    mine = [removal for removal in found if removal.name in names and removal.status().active]
    if not mine:
        return

    @st.fragment(run_every=2.0)
    def lines() -> None:
        states = [(removal, removal.status()) for removal in mine]
        if not all(status.active for _, status in states):
            st.rerun()
        for removal, status in states:
            st.caption(f":material/progress_activity: {escaped(removal.name)}: {escaped(status.message or 'Starting')}")

    lines()


def ranked(table: pd.DataFrame) -> None:
    """Draw the removals by how much they forgot, and below them those that collapsed, which have no rank."""
    ranked_rows, collapsed = table.loc[~table["collapsed"]], table.loc[table["collapsed"]]
    if len(ranked_rows):
        _draw(ranked_rows, "board_ranked")
        st.caption(
            "After the edit; the values before it are in the last columns. P(answer) is the mean over the facts, P(word) over "
            "the concept's own sentences. A click on a column's head sorts by it."
        )
    if len(collapsed):
        st.markdown(f"**Collapsed: not ranked** (n = {len(collapsed)})")
        _draw(collapsed, "board_collapsed")
        st.caption(
            "Perplexity on neutral text rose so far that the model broke down. Forgetting by collapse does not count."
        )


def chosen(entries: Sequence[Entry], table: pd.DataFrame) -> dict[str, Entry]:
    """Draw the choice of removals for the radar; label -> entry, in the table's order."""
    by_name = {one.name: one for one in entries}
    labels = {f"{by_name[name].method} · {name[:15]}": by_name[name] for name in table["removal"]}
    picked = st.multiselect("Shown", list(labels), default=list(labels)[:_AT_ONCE], key="board_shown", max_selections=6)
    return {label: labels[label] for label in labels if label in picked}


def _draw(table: pd.DataFrame, key: str) -> None:
    numbers = [name for name in table.columns if name.startswith(_PRECISE) or name in ("perplexity ratio", "kl_median")]
    config = {name: st.column_config.NumberColumn(_LABELS.get(name, name), format="%.3g") for name in numbers}
    config["edited_parameters"] = st.column_config.NumberColumn(_LABELS["edited_parameters"], format="localized")
    config["seconds"] = st.column_config.NumberColumn("seconds, without evaluation", format="%.1f")
    # the main measures come first, to be seen without scrolling; what was measured for no removal is left out
    measured = [name for name in table.columns if not table[name].isna().all() and name not in _HIDDEN]
    last = ["settings", *(name for name in measured if name.endswith(" before"))]
    first = [name for name in measured if name not in last]
    st.dataframe(table, hide_index=True, key=key, column_config=config, column_order=[*first, *last])
