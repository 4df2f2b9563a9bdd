"""Compares two runs: a table of their summaries, and the saliency of each from the edit to the end.

Axes: `L` layer, `N` neuron.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis import migration
from analysis.relearning import Snapshot

__all__ = ["comparison_table", "start_and_end"]


def comparison_table(summaries: Mapping[str, dict[str, Any]]) -> pd.DataFrame:
    """One column for each run, as text; a dash stands for what was not measured.

    Args:
        summaries: Title of the column -> `analysis.runs.summary.summarise` of the run.
    """
    columns = {title: _column(summary) for title, summary in summaries.items()}
    return pd.DataFrame(columns).map(
        lambda value: "–" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
    )


def start_and_end(snapshots: Sequence[Snapshot], concept: str, scale: str) -> tuple[np.ndarray, np.ndarray]:
    """The saliency of a concept right after the edit (without an edit: at the start) and at the end, both [L, N]."""
    start = next((one for one in snapshots if one.phase == "edited"), snapshots[0])
    return migration.scaled(start, concept, scale), migration.scaled(snapshots[-1], concept, scale)


def _column(summary: dict[str, Any]) -> dict[str, Any]:
    base, edited, final = (summary[moment] or {} for moment in ("base", "edited", "final"))
    return {
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
