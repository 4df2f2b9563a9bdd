"""Which settings of each gradient method forget most and break least, on the default model: docs/unlearning.md's table.

    python benchmarks/gradient_ablation.py [--methods npo rmu] [--seeds 0 1 2] [--out docs/unlearning.jsonl]
        [--page docs/unlearning.md] [--write-only]

For every method a short list of settings, its default among them: from the unedited model each time, forget eight facts
drawn by the seed, then measure P(answer) of the forgotten facts (trained templates, paraphrases), of up to 16 maintained
facts, of up to 16 facts of each other built-in concept, of the new answers where there are some, and the loss on neutral
sentences. Other concepts and these sentences are not trained on.

Best is, among the settings that with every seed keep P(maintained) and P(other concepts) at 90% of before or more and raise
the neutral loss by at most 0.1 nats a token, the lowest P(forget), trained and paraphrased together, less P(new) where there
are new answers, in the mean over seeds; where none keeps that much, none is best. Every measurement is a line of `--out` as soon as it is made;
what is found there is not measured again, so the command can be stopped and taken up. The table goes between the markers
in `--page`. Progress goes to stderr.
"""

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.utils import logging

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run from anywhere, without installing

from analysis import concepts, models
from analysis.concepts import Fact, split_neutral
from analysis.edits import Materials
from analysis.edits.gradient.edit import GradientEdit
from analysis.edits.gradient.objectives import GRADIENT_METHODS
from analysis.edits.gradient.training import Training, plan_gradient
from analysis.errors import PalimpsestError
from analysis.evaluation.keep import choose_others
from analysis.models.catalog import DEFAULT_MODEL
from analysis.scoring import factual_recall

GRIDS: dict[str, list[dict[str, Any]]] = {
    "unlearn": [
        {"learning_rate": 5e-5},
        {"learning_rate": 2e-5, "lambda_forget": 5.0},
        {"learning_rate": 1e-4},
        {"learning_rate": 2e-4},
    ],
    "inject": [
        {"learning_rate": 5e-5},
        {"learning_rate": 1e-4},
        {"learning_rate": 2e-4},
    ],
    "llm_surgery": [
        {"learning_rate": 1e-4},
        {"learning_rate": 1e-4, "lambda_forget": 0.1, "lambda_retain": 0.5, "cap": None},
        {"learning_rate": 1e-4, "lambda_forget": 0.1},
        {"learning_rate": 1e-4, "lambda_retain": 5.0},
        {"learning_rate": 5e-5},
        {"learning_rate": 1e-4, "batch_size": 16},
    ],
    "gradient_ascent": [
        {"learning_rate": 1e-5},
        {"learning_rate": 5e-6},
        {"learning_rate": 2e-6},
    ],
    "grad_diff": [
        {"learning_rate": 2e-5, "cap": None},
        {"learning_rate": 1e-4, "cap": None},
        {"learning_rate": 1e-4, "cap": 4.0},
        {"learning_rate": 1e-4, "cap": None, "lambda_maintain": 5.0},
    ],
    "npo": [
        {"learning_rate": 2e-5, "lambda_maintain": 1.0},
        {"learning_rate": 1e-4, "lambda_maintain": 1.0},
        {"learning_rate": 5e-5, "lambda_maintain": 5.0},
        {"learning_rate": 1e-4, "lambda_maintain": 5.0},
        {"learning_rate": 2e-4, "lambda_maintain": 5.0},
    ],
    "simnpo": [
        {"learning_rate": 5e-5},
        {"learning_rate": 1e-4},
        {"learning_rate": 2e-4},
    ],
    "rmu": [
        {"learning_rate": 3e-4},
        {"learning_rate": 1e-3},
        {"learning_rate": 3e-3},
        {"learning_rate": 1e-3, "steering": 20.0},
        {"learning_rate": 1e-3, "steering": 20.0, "lambda_retain": 10.0},
        {"learning_rate": 1e-3, "layer": 15},
        {"learning_rate": 1e-3, "layer": 15, "steering": 20.0},
        {"learning_rate": 1e-3, "layer": 22},
        {"learning_rate": 1e-3, "layer": 22, "steering": 20.0},
    ],
}
"""What each setting says; all else is the method's default."""
SURGERY = "llm_surgery"
FORGOTTEN = 8
"""Facts to forget; LLM Surgery gives as many others another answer."""
MAINTAINED = 16
NEUTRAL = 24
KEPT_SHARE = 0.9
KEPT_LOSS = 0.1
CONCEPT = "capitals"
BEGIN, END = "<!-- ablation -->", "<!-- end of the ablation -->"

Row = dict[str, Any]


def main() -> None:
    """Measure what is not in the file yet, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    docs = Path(__file__).resolve().parent.parent / "docs"
    parser.add_argument("--methods", nargs="+", choices=list(GRIDS), default=list(GRIDS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=docs / "unlearning.jsonl", help="finished measurements")
    parser.add_argument("--page", type=Path, default=docs / "unlearning.md", help="gets the table, between its markers")
    parser.add_argument("--write-only", action="store_true", help="measure nothing, write the table")
    options = parser.parse_args()
    logging.disable_progress_bar()
    page = options.page.read_text(encoding="utf-8")
    if page.count(BEGIN) != 1 or END not in page.partition(BEGIN)[2]:
        parser.error(f"{options.page} has no {BEGIN} … {END} for the table")
    rows = _read(options.out)
    if not options.write_only:
        _measure_missing(options, rows)
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    options.page.write_text(f"{head}{BEGIN}\n{table(rows, options.seeds)}\n{END}{tail}", encoding="utf-8")


def edit_of(method: str, setting: dict[str, Any], seed: int) -> GradientEdit:
    """The edit that a row of the table is about."""
    counts = {"forget_count": FORGOTTEN} | ({"update_count": FORGOTTEN} if method == SURGERY else {})
    return replace(GRADIENT_METHODS[method](), **counts, **setting, seed=seed)


def table(rows: list[Row], seeds: list[int]) -> str:
    """All settings over `seeds` as Markdown, mean and range; those that lack a seed are left out."""
    lines = [
        "| method | setting | P(forget) | paraphrased | P(maintained) | P(other concepts) | neutral loss | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for method, settings in GRIDS.items():
        befores = _found(rows, {"before": _given(method)}, seeds)
        if befores is None:
            continue
        lines.append(f"| `{method}` | *before* | {_cells(befores)} |  |")
        measured = {number: _found(rows, _key(method, settings[number]), seeds) for number in range(len(settings))}
        sound = {
            number: float(np.mean([_remains(row) for row in found]))
            for number, found in measured.items()
            if found is not None and all(_kept(row, before) for row, before in zip(found, befores))
        }
        best = min(sound, key=lambda number: sound[number], default=None)
        default = [number for number, one in enumerate(settings) if edit_of(method, one, 0) == edit_of(method, {}, 0)]
        for number, found in measured.items():
            if found is None:
                continue
            words = ", ".join(f"{_SHORT.get(name, name)} {_plain(value)}" for name, value in settings[number].items())
            marks = ["default"] * (number in default) + ["best"] * (number == best)
            lost = sum(not _kept(row, before) for row, before in zip(found, befores))
            marks += [f"keeps too little with {lost} of {len(seeds)}"] if lost else []
            lines.append(f"|  | {words} | {_cells(found)} | {', '.join(marks)} |")
    return "\n".join(lines)


def _measure_missing(options: argparse.Namespace, rows: list[Row]) -> None:
    bench = None
    for seed in options.seeds:
        wanted = [{"before": given} for given in dict.fromkeys(_given(method) for method in options.methods)]
        wanted += [_key(method, setting) for method in options.methods for setting in GRIDS[method]]
        for key in wanted:
            if _found(rows, key, [seed]) is not None:
                continue
            bench = bench or _Bench()
            row = key | {"seed": seed} | bench.measure(key, seed)
            rows.append(row)
            with options.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), file=sys.stderr, flush=True)


class _Bench:
    """The unedited model, and what is measured on it after each edit."""

    def __init__(self) -> None:
        self.model = models.load(DEFAULT_MODEL)
        self.concept = concepts.load(CONCEPT)
        self.train_text, measured = split_neutral(concepts.neutral_sentences())
        self.neutral = factual_recall.prepare_neutral(self.model, measured[:NEUTRAL])
        others = choose_others(self.model, self.concept)
        self.other = tuple(fact for facts in others.values() for fact in facts)
        self.known = tuple(factual_recall.known_facts(self.model, self.concept)[0])
        self.saved = {name: weight.detach().clone() for name, weight in self.model.weights.items()}

    def measure(self, key: Row, seed: int) -> Row:
        """What `key` names, from the unedited model and back to it."""
        if "before" in key:
            # any method that is given these facts: none is written
            return self._scores(self._plan(edit_of(SURGERY if key["before"] == SURGERY else "npo", {}, seed)))
        change = self._plan(edit_of(key["method"], key["setting"], seed))
        started = time.monotonic()
        try:
            change.write(self.model)
            found = self._scores(change)
        except PalimpsestError as error:
            found = {"error": str(error)}
        finally:
            with torch.no_grad():
                for name, weight in self.model.weights.items():
                    weight.copy_(self.saved[name])
        return found | {"seconds": round(time.monotonic() - started, 1)}

    def _plan(self, edit: GradientEdit) -> Training:
        materials = Materials(concept=self.concept, forget=self.known, neutral=self.train_text)
        return plan_gradient(edit, self.model, materials)

    def _scores(self, change: Training) -> Row:
        facts, ((_, maintained),) = change.facts, change.facts.maintain
        asked = facts.forget or facts.update
        found = {
            "p_forget": self._p(asked),
            "p_paraphrased": self._p(asked, paraphrased=True),
            "p_maintained": self._p(maintained[:MAINTAINED]),
            "p_other": self._p(self.other),
            "neutral_loss": factual_recall.neutral_loss(self.model, self.neutral, precision="bf16"),
        }
        if facts.injected:
            found |= {"p_old": self._p(facts.update), "p_new": self._p(facts.injected)}
        return {name: round(value, 4) for name, value in found.items()}

    def _p(self, facts: tuple[Fact, ...], *, paraphrased: bool = False) -> float:
        probe = factual_recall.prepare_facts(self.model, self.concept, facts, paraphrased=paraphrased)
        return float(np.mean(factual_recall.score_facts(self.model, probe, precision="bf16")))


_SHORT = {
    "learning_rate": "rate",
    "lambda_forget": "λf",
    "lambda_maintain": "λm",
    "lambda_retain": "λr",
    "batch_size": "batch",
    "steering": "c",
}


def _key(method: str, setting: dict[str, Any]) -> Row:
    """What a measurement is found by: everything that the edit says, but the seed."""
    edit = json.loads(json.dumps(edit_of(method, setting, 0).to_dict()))
    return {"method": method, "setting": setting, "edit": {name: edit[name] for name in edit if name != "seed"}}


def _given(method: str) -> str:
    """Which facts the method is given: LLM Surgery updates further ones, so it maintains fewer."""
    return SURGERY if method == SURGERY else "others"


def _found(rows: list[Row], key: Row, seeds: list[int]) -> list[Row] | None:
    """The measurement with every seed; None if one is missing."""
    name = "edit" if "edit" in key else "before"
    by_seed = {row["seed"]: row for row in rows if row.get(name) == key[name]}
    return [by_seed[seed] for seed in seeds] if {*seeds} <= {*by_seed} else None


def _kept(row: Row, before: Row) -> bool:
    return (
        "error" not in row
        and all(row[name] >= KEPT_SHARE * before[name] for name in ("p_maintained", "p_other"))
        and row["neutral_loss"] <= before["neutral_loss"] + KEPT_LOSS
    )


def _remains(row: Row) -> float:
    return row["p_forget"] + row["p_paraphrased"] - row.get("p_new", 0.0)


def _cells(found: list[Row]) -> str:
    """Mean and range of each measure, as table cells."""
    if errors := [row["error"] for row in found if "error" in row]:
        return f"{' '.join(errors[0].replace('|', '/').split())} |  |  |  | "
    parts = []
    for name in ("p_forget", "p_paraphrased", "p_maintained", "p_other", "neutral_loss"):
        values = [row[name] for row in found]
        parts.append(f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})")
    if "p_new" in found[0] and "before" not in found[0]:
        parts[0] += f"; new answer {np.mean([row['p_new'] for row in found]):.3f}"
    return " | ".join(parts)


def _plain(value: Any) -> str:
    return "none" if value is None else f"{value:g}"


def _read(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


if __name__ == "__main__":
    main()
