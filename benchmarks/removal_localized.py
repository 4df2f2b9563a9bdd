"""Part `localized` of the removal report: one objective, confined to what each localization found.

Eight known facts are trained away with the same objective and the same rule to stop: until both targets hold (P of the
removed facts is low enough, P of maintained ones is 90% of before or more), at most `STEPS` steps. Only the weights that
may move differ. The learning rate of each circuit is the lowest of `LADDER` with which the first seed's training reaches the
targets, or the last one; later seeds take it over. Nothing else is chosen.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from removal_bench import KEPT_SHARE, Bench, Cells, mean, pooled, shown

from analysis.components.circuit import Circuit
from analysis.edits import n_parameters
from analysis.edits.gradient.edit import KeepingEdit
from analysis.edits.gradient.objectives.inject import Inject
from analysis.edits.gradient.objectives.unlearn import Unlearn
from analysis.localization import control

FORGET = 8
STEPS = 50
TARGET = 0.05
LEARNED = 0.5
"""P(new answer) that ends an injection, together with the target."""
LADDER = (1e-4, 5e-4)
WATCHED = 16
"""Maintained facts that the rule to stop looks at; all are measured."""
OBJECTIVES: dict[str, type[KeepingEdit]] = {"unlearn": Unlearn, "inject": Inject}
FOUND = {
    "FLU, paths": "L0.MLP, L22.MLP, L21.MLP, L8.MLP, L19.MLP, L9.MLP, L20.MLP, L16.MLP, L7.MLP, L18.MLP, L5.MLP, L13.MLP, L2.MLP",
    "FLU, probe": "L1.MLP, L2.MLP",
    "CT": "L0.MLP, L23.H4, L29.H0, L29.MLP",
    "CT, MLP": "L0.MLP, L29.MLP",
}
"""What `localization.py` found for capitals (docs/localization.md)."""
CIRCUITS = ("nonlocalized", "FLU, paths", "all MLPs", "CT", "CT, MLP", "FLU, probe", "random MLPs", "random MLPs, 13")
PAPER = """\
| | FLU | CT | CT, MLP | nonlocalized | all MLPs |
|---|---|---|---|---|---|
| P(right sport), after editing → after relearning | .000 → **.199** | .009 → .469 | .008 → .631 | .000 → .291 | .001 → .275 |
| multiple choice, injected answer | **.86** | .15 | .37 | .33 | .25 |"""
"""Guo et al. 2024, sports, mean over three models and two sizes; from their released result files."""


def components(bench: Bench, name: str, seed: int) -> str:
    """The circuit as text; empty is the whole model. Random ones are drawn anew for every seed."""
    if name == "nonlocalized":
        return ""
    if name == "all MLPs":
        return control(bench.model, "all_mlps").format()
    if name.startswith("random"):
        like = FOUND["FLU, paths" if name.endswith("13") else "FLU, probe"]
        match = Circuit.parse(like, bench.model.component_shape)
        return control(bench.model, "random_mlps", match=match, seed=seed).format()
    return FOUND[name]


def run(bench: Bench, cells: Cells, seeds: Sequence[int], objectives: Sequence[str], circuits: Sequence[str]) -> None:
    """Measure every cell that is not there yet: all circuits of a seed before the next seed."""
    for seed in seeds:
        for objective in objectives:
            unedited = _unedited(bench, cells, objective, seed)
            for name in circuits:
                if seed != seeds[0]:
                    if (first := _chosen(cells, objective, name, seeds[0])) is not None:
                        rate = first["key"]["learning_rate"]
                        _cell(bench, cells, unedited, name, rate, attack=True)
                    continue
                for rate in LADDER:
                    row = _cell(bench, cells, unedited, name, rate, attack=rate == LADDER[-1])
                    if row["reached"]:
                        break


def _edit(objective: str, seed: int, only: str = "", rate: float = LADDER[0]) -> KeepingEdit:
    return OBJECTIVES[objective](
        forget_count=FORGET, steps=STEPS, learning_rate=rate, seed=seed, only=only, lambda_forget=1.0
    )


def _unedited(bench: Bench, cells: Cells, objective: str, seed: int) -> dict[str, Any]:
    key = {"part": "localized", "objective": objective, "circuit": "unedited", "seed": seed}

    def work() -> dict[str, Any]:
        choice = bench.plan(_edit(objective, seed)).facts
        found = _measure(bench, choice, seed)
        with bench.put_back():
            return found | bench.relearned(choice, seed)

    return cells.get(key, work)


def _cell(
    bench: Bench, cells: Cells, unedited: dict[str, Any], name: str, rate: float, *, attack: bool
) -> dict[str, Any]:
    """One training, measured; attacked where it reached the targets or `attack` says so."""
    objective, seed = unedited["key"]["objective"], unedited["key"]["seed"]
    only = components(bench, name, seed)
    key = {"part": "localized", "objective": objective, "circuit": name, "seed": seed, "learning_rate": rate}
    wanted = KEPT_SHARE * float(np.mean(unedited["maintained"][:WATCHED]))

    def work() -> dict[str, Any]:
        change = bench.plan(_edit(objective, seed, only, rate))
        choice = change.facts
        ((_, maintained),) = choice.maintain

        def enough() -> bool:
            gone = np.mean(bench.p(choice.removed)) <= TARGET
            learned = not choice.injected or np.mean(bench.p(choice.injected)) >= LEARNED
            return bool(gone and learned and np.mean(bench.p(maintained[:WATCHED])) >= wanted)

        with bench.put_back():
            done = bench.train(change, enough)
            reached = done < STEPS or enough()
            found = {"components": only, "weights": _size(bench, only), "steps": done, "reached": reached}
            found |= _measure(bench, choice, seed)
            if reached or attack:
                found |= bench.relearned(choice, seed)
        return found

    return cells.get(key | {"steps": STEPS, "target": TARGET, "kept": KEPT_SHARE}, work)


def _measure(bench: Bench, choice: Any, seed: int) -> dict[str, Any]:
    ((_, maintained),) = choice.maintain
    found: dict[str, Any] = {
        "forget": bench.p(choice.removed),
        "paraphrased": bench.p(choice.removed, paraphrased=True),
        "maintained": bench.p(maintained),
        "neutral_loss": bench.neutral_loss(),
        **bench.choices(choice.removed, choice.injected, seed),
    }
    if choice.injected:
        found["new"] = bench.p(choice.injected)
    return found


def _size(bench: Bench, only: str) -> int:
    if not only:
        return bench.model.n_parameters
    return n_parameters(bench.model, Circuit.parse(only, bench.model.component_shape))


def _chosen(cells: Cells, objective: str, name: str, seed: int) -> dict[str, Any] | None:
    """The cell whose learning rate counts: the first that reached the target, or the last of the ladder."""
    rows = [
        row
        for row in cells.of("localized", objective=objective, circuit=name, seed=seed, kept=KEPT_SHARE)
        if "relearned_held_out" in row
    ]
    return min(rows, key=lambda row: row["key"]["learning_rate"], default=None)


def report(cells: Cells, seeds: Sequence[int]) -> str:
    """The part as Markdown, from the cells that are there."""
    return "\n\n".join(
        [_table(cells, objective, seeds) for objective in OBJECTIVES if cells.of("localized", objective=objective)]
    )


def _table(cells: Cells, objective: str, seeds: Sequence[int]) -> str:
    columns = ["confined to", "weights", "learning rate", "steps", "P(forgotten)", "paraphrased"]
    columns += ["P(new answer)", "new answer chosen"] if objective == "inject" else []
    columns += ["true answer chosen", "maintained, share of before", "P after relearning, other half", "seeds"]
    lines = [f"`{objective}`:", "", _line(columns), _line(["---"] * len(columns))]
    unedited = cells.of("localized", objective=objective, circuit="unedited")
    base = {row["key"]["seed"]: mean(row["maintained"]) for row in unedited}
    for name in ("unedited", *CIRCUITS):
        rows = _rows(cells, objective, name, seeds)
        if not rows:
            continue
        if name == "unedited":
            how, kept = ["", "", ""], f"1 (P {mean(pooled(rows, 'maintained')):.2f})"
        else:
            steps = ", ".join(f"{row['steps']}" + ("" if row["reached"] else " (missed)") for row in rows)
            how = [f"{rows[0]['weights']:,}", f"{rows[0]['key']['learning_rate']:g}", steps]
            shares = [mean(row["maintained"]) / base[row["key"]["seed"]] for row in rows]
            kept = ", ".join(f"{share:.2f}" + ("" if share >= KEPT_SHARE else " (missed)") for share in shares)
        measured = ["forget", "paraphrased", *(["new", "choice_new"] if objective == "inject" else []), "choice_true"]
        values = [shown(pooled(rows, key)) for key in measured]
        after = shown(pooled(rows, "relearned_held_out"))
        lines.append(_line([name, *how, *values, kept, after, ", ".join(str(row["key"]["seed"]) for row in rows)]))
    return "\n".join(lines)


def _line(values: Sequence[str]) -> str:
    return "| " + " | ".join(values) + " |"


def _rows(cells: Cells, objective: str, name: str, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """The cells that count, one a seed: those with the learning rate that the first seed chose."""
    if name == "unedited":
        return [row for seed in seeds for row in cells.of("localized", objective=objective, circuit=name, seed=seed)]
    first = _chosen(cells, objective, name, seeds[0])
    if first is None:
        return []
    rate = first["key"]["learning_rate"]
    return [
        row
        for seed in seeds
        for row in cells.of(
            "localized", objective=objective, circuit=name, seed=seed, learning_rate=rate, kept=KEPT_SHARE
        )
    ]
