"""The table of two runs side by side."""

from typing import Any

from ui.compare.tables import comparison_table


def summary(**changes: Any) -> dict[str, Any]:
    """Summary of a run that was stopped before its first training step."""
    moment = {"retrained": 0.75, "held_out": 0.5, "neutral_loss": 3.0}
    found = {
        "state": "stopped",
        "edit": None,
        "seed": 3,
        "base": moment,
        "edited": None,
        "final": None,
        "half_life_steps": None,
        "center_of_mass_standardised": {"edited": None, "final": 1.25},
        "steps": 8,
    }
    return found | changes


def test_each_run_is_a_column_and_what_was_not_measured_is_a_dash():
    table = comparison_table({"A: one": summary(), "B: two": summary(edit="prune", half_life_steps=2.0)})
    assert list(table.columns) == ["A: one", "B: two"]
    assert table["A: one"]["edit"] == "none"
    assert table["B: two"]["edit"] == "prune"
    assert table["A: one"]["P retrained: before"] == "0.750"
    assert table["A: one"]["P retrained: at the end"] == "–"
    assert list(table.loc["half-life (steps)"]) == ["–", "2.000"]
    assert table["A: one"]["centre of mass, d': at the end (layer)"] == "1.250"
    assert table["A: one"]["steps"] == "8"
