"""The table of the gradient methods' settings: what counts as kept, which is best, and that every default is in it."""

import sys
from pathlib import Path
from typing import Any

import pytest

from analysis.edits.gradient.objectives import GRADIENT_METHODS

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import gradient_ablation as ablation

BEFORE = {"p_forget": 0.6, "p_paraphrased": 0.6, "p_maintained": 0.5, "p_other": 0.4, "neutral_loss": 4.0}
GOOD = BEFORE | {"p_forget": 0.1, "p_paraphrased": 0.1}


@pytest.fixture
def grid(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Three settings of one method, the first its default."""
    settings = [{"learning_rate": GRADIENT_METHODS["npo"]().learning_rate}, {"beta": 0.5}, {"beta": 1.0}]
    monkeypatch.setattr(ablation, "GRIDS", {"npo": settings})
    return settings


def rows(settings: list[dict[str, Any]], *found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows as the benchmark keeps them: for each setting what was found with seeds 0, 1, …"""
    kept = [{"before": "others", "seed": seed} | BEFORE for seed in range(3)]
    for setting, by_seed in zip(settings, found):
        kept += [ablation._key("npo", setting) | {"seed": seed} | one for seed, one in enumerate(by_seed)]
    return kept


def marks(table: str) -> list[str]:
    """The last cell of every row of a setting."""
    return [line.rsplit("|", 2)[1].strip() for line in table.splitlines() if line.startswith("|  |")]


def test_every_default_is_in_its_grid():
    for method, settings in ablation.GRIDS.items():
        edits = [ablation.edit_of(method, setting, 0) for setting in settings]
        assert edits.count(ablation.edit_of(method, {}, 0)) == 1, method
        assert len({*edits}) == len(edits), method
    assert {*ablation.GRIDS} <= {*GRADIENT_METHODS}


def test_the_best_keeps_with_every_seed(grid):
    forgets_more = GOOD | {"p_forget": 0.0}
    table = ablation.table(
        rows(grid, [GOOD, GOOD], [forgets_more, forgets_more | {"p_other": 0.3}], [GOOD, GOOD | {"p_forget": 0.2}]),
        [0, 1],
    )
    assert marks(table) == ["default, best", "keeps too little with 1 of 2", ""]
    assert "0.100 (0.100 to 0.100)" in table


@pytest.mark.parametrize(
    "lost", [{"p_maintained": 0.44}, {"p_other": 0.35}, {"neutral_loss": 4.11}, {"error": "It | diverged."}]
)
def test_what_is_no_longer_kept(grid, lost: dict):
    table = ablation.table(rows(grid, [GOOD | lost], [GOOD]), [0])
    assert marks(table) == ["default, keeps too little with 1 of 1", "best"]
    assert all(line.count("|") == 9 for line in table.splitlines())


def test_a_setting_that_lacks_a_seed_is_left_out(grid):
    assert marks(ablation.table(rows(grid, [GOOD, GOOD], [GOOD]), [0, 1])) == ["default, best"]


def test_new_answers_count(grid):
    learned, not_learned = GOOD | {"p_new": 0.9}, GOOD | {"p_new": 0.1}
    assert marks(ablation.table(rows(grid, [not_learned], [learned]), [0])) == ["default", "best"]


def test_a_page_without_a_place_for_the_table_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    page = tmp_path / "page.md"
    page.write_text("Nothing here.")
    monkeypatch.setattr(sys, "argv", ["ablation", "--write-only", "--page", str(page), "--out", str(tmp_path / "no")])
    with pytest.raises(SystemExit):
        ablation.main()
    assert "has no <!-- ablation -->" in capsys.readouterr().err
    assert page.read_text() == "Nothing here."
    page.write_text(f"Above.\n{ablation.BEGIN}\nold\n{ablation.END}\nBelow.\n")
    ablation.main()
    assert page.read_text().startswith(f"Above.\n{ablation.BEGIN}\n| method |")
    assert page.read_text().endswith(f"\n{ablation.END}\nBelow.\n")
