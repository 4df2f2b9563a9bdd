"""Which settings of each gradient method forget most and break least, on the default model.

    python benchmarks/gradient_ablation.py [--methods npo rmu] [--concept capitals] [--forget 8] [--steps 24] [--seed 0]
        [--at-most N] [--defaults] [--out FILE.jsonl] [--json]

For every method a short list of settings, the most telling first: from the unedited model each time, forget the same
facts (drawn by the seed), then measure P(answer) of the forgotten facts (trained templates, paraphrases), of up to 16
maintained facts, of the new answers where there are some, and the loss on neutral sentences that were not trained on.
Chosen is, among the settings that keep P(maintained) at 90% of before or more and raise the neutral loss by at most 0.1
nats a token, the lowest P(forget), trained and paraphrased together, less P(new) where there are new answers; where none
keeps that much, none is chosen. `--defaults` measures each method's defaults instead, steps included: with another
`--seed`, on facts that took no part in the choice. Every setting is a line of `--out` as soon as it is measured; settings
found there are not run again. Progress goes to stderr.
"""

import argparse
import itertools
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

from analysis import concepts, measure, models
from analysis.catalog import DEFAULT_MODEL
from analysis.concepts import Fact
from analysis.edits import Materials
from analysis.edits.descent import Training, plan_gradient
from analysis.edits.gradient import GradientEdit
from analysis.edits.gradient_methods import GRADIENT_METHODS
from analysis.errors import PalimpsestError
from analysis.models import LanguageModel
from analysis.relearn import split_neutral

GRIDS: dict[str, list[dict[str, Any]]] = {
    "llm_surgery": [
        {"learning_rate": 1e-4, "lambda_retain": 0.5, "cap": 10.0},
        {"learning_rate": 1e-4, "lambda_retain": 5.0, "cap": 4.0},
        {"learning_rate": 1e-4, "lambda_retain": 50.0, "cap": 4.0},
        {"learning_rate": 1e-4, "lambda_retain": 5.0, "cap": 4.0, "steps": 60},
    ],
    "npo": [
        {"learning_rate": 2e-5},
        {"learning_rate": 5e-5, "lambda_maintain": 5.0},
        {"learning_rate": 1e-4, "lambda_maintain": 5.0},
        {"learning_rate": 1e-4},
    ],
    "unlearn": [
        {"learning_rate": 5e-5},
        {"learning_rate": 2e-5, "lambda_forget": 5.0},
        {"learning_rate": 1e-4},
    ],
    "grad_diff": [
        {"learning_rate": 2e-5},
        {"learning_rate": 1e-4, "cap": 4.0},
        {"learning_rate": 1e-4},
    ],
    "simnpo": [
        {"learning_rate": 5e-5},
        {"learning_rate": 1e-4},
    ],
    "rmu": [
        {"learning_rate": 1e-3, "lambda_retain": 100.0},
        {"learning_rate": 1e-3, "lambda_retain": 10.0, "steering": 20.0},
        {"learning_rate": 1e-3, "lambda_retain": 100.0, "steering": 20.0},
    ],
    "gradient_ascent": [
        {"learning_rate": 1e-5},
        {"learning_rate": 5e-6},
        {"learning_rate": 2e-6},
    ],
    "inject": [
        {"learning_rate": 1e-4},
    ],
}
"""What each setting changes; all else is the method's default, and `--steps` where it names no steps."""
SURGERY = "llm_surgery"
MAINTAINED = 16
NEUTRAL = 24
KEPT_SHARE = 0.9
KEPT_LOSS = 0.1


def main() -> None:
    """Measure every setting that is not in the file yet, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=list(GRIDS), default=list(GRIDS))
    parser.add_argument("--concept", default="capitals")
    parser.add_argument("--forget", type=int, default=8, help="facts to forget; LLM Surgery updates as many others")
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--at-most", type=int, default=sys.maxsize, help="settings of each grid, the first ones")
    parser.add_argument("--defaults", action="store_true", help="measure each method's defaults, steps included")
    parser.add_argument("--out", type=Path, help="keep every result here as it is found")
    parser.add_argument("--json", action="store_true", help="one JSON line instead of tables")
    options = parser.parse_args()
    logging.disable_progress_bar()
    bench = _Bench(options)
    tables: dict[str, list[dict[str, Any]]] = {method: [] for method in options.methods}
    queues = [[(method, one) for one in _settings(method, options)] for method in options.methods]
    for turn in itertools.zip_longest(*queues):  # every method's first setting before any second one
        for method, setting in filter(None, turn):
            tables[method].append(bench.result(method, setting))
    chosen = {method: _best(rows, bench.before[method == SURGERY]) for method, rows in tables.items()}
    if options.json:
        before = {method: bench.before[method == SURGERY] for method in options.methods}
        print(json.dumps({"before": before, "results": tables, "chosen": chosen}))
        return
    for method, rows in tables.items():
        print(f"\n{method}\n  before: {_line(bench.before[method == SURGERY])}")
        for row in rows:
            mark = "*" if row is chosen[method] else " "
            print(f"{mark} {row['setting']}: {_line(row) if 'error' not in row else row['error']}")


class _Bench:
    """The unedited model, and what is measured on it after each edit."""

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.model = models.load(DEFAULT_MODEL)
        self.concept = concepts.load(options.concept)
        self.train_text, measured = split_neutral(concepts.neutral_sentences())
        self.neutral = measure.prepare_neutral(self.model, measured[:NEUTRAL])
        self.found = _read(options.out)
        facts, _ = measure.known_facts(self.model, self.concept)
        self.known = tuple(facts)
        # LLM Surgery removes as many facts as the others and updates further ones, so it maintains others
        self.before = {surgery: self._before(SURGERY if surgery else "inject") for surgery in (False, True)}
        self.saved = {name: weight.detach().clone() for name, weight in self.model.weights.items()}

    def _before(self, method: str) -> dict[str, float]:
        """The measures of the unedited model on the facts that `method` is given."""
        return self._measure(self._plan(method, {}))

    def result(self, method: str, setting: dict[str, Any]) -> dict[str, Any]:
        """One row, measured or read."""
        edit = json.loads(json.dumps(self._edit(method, setting).to_dict()))
        key = {"concept": self.options.concept, "edit": edit}
        for row in self.found:
            if all(row.get(name) == value for name, value in key.items()):
                return row
        key = {"method": method, "setting": setting, "seed": self.options.seed} | key
        change = self._plan(method, setting)
        started = time.monotonic()
        try:
            change.write(self.model)
            row = key | self._measure(change)
        except PalimpsestError as error:
            row = key | {"error": str(error)}
        row["seconds"] = round(time.monotonic() - started, 1)
        with torch.no_grad():
            for name, weight in self.model.weights.items():
                weight.copy_(self.saved[name])
        if self.options.out is not None:
            with self.options.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        print(json.dumps(row), file=sys.stderr, flush=True)
        return row

    def _edit(self, method: str, setting: dict[str, Any]) -> GradientEdit:
        fields = {"seed": self.options.seed, "forget_count": self.options.forget}
        if not self.options.defaults:
            fields["steps"] = self.options.steps
        if method == SURGERY:
            fields["update_count"] = self.options.forget
        return replace(GRADIENT_METHODS[method](), **(fields | setting))  # type: ignore[arg-type]

    def _plan(self, method: str, setting: dict[str, Any]) -> Training:
        materials = Materials(concept=self.concept, forget=self.known, neutral=self.train_text)
        return plan_gradient(self._edit(method, setting), self.model, materials)

    def _measure(self, change: Training) -> dict[str, float]:
        model, facts = self.model, change.facts
        ((_, maintained),) = facts.maintain
        found = {
            "p_forget": _p(model, self.concept, facts.forget or facts.update),
            "p_paraphrased": _p(model, self.concept, facts.forget or facts.update, paraphrased=True),
            "p_maintained": _p(model, self.concept, maintained[:MAINTAINED]),
            "neutral_loss": measure.neutral_loss(model, self.neutral, precision="bf16"),
        }
        if facts.injected:
            found["p_old"] = _p(model, self.concept, facts.update)
            found["p_new"] = _p(model, self.concept, facts.injected)
        return {name: round(value, 4) for name, value in found.items()}


def _p(model: LanguageModel, concept: Any, facts: tuple[Fact, ...], *, paraphrased: bool = False) -> float:
    probe = measure.prepare_facts(model, concept, facts, paraphrased=paraphrased)
    return float(np.mean(measure.score_facts(model, probe, precision="bf16")))


def _settings(method: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    return [{}] if options.defaults else GRIDS[method][: options.at_most]


def _best(rows: list[dict[str, Any]], before: dict[str, float]) -> dict[str, Any] | None:
    kept = [
        row
        for row in rows
        if "error" not in row
        and row["p_maintained"] >= KEPT_SHARE * before["p_maintained"]
        and row["neutral_loss"] <= before["neutral_loss"] + KEPT_LOSS
    ]
    return min(kept, key=_remains, default=None)


def _remains(row: dict[str, Any]) -> float:
    return row["p_forget"] + row["p_paraphrased"] - row.get("p_new", 0.0)


def _line(row: dict[str, Any]) -> str:
    names = ("p_forget", "p_paraphrased", "p_maintained", "neutral_loss", "p_old", "p_new", "seconds")
    return ", ".join(f"{name} {row[name]:.3f}" for name in names if name in row)


def _read(path: Path | None) -> list[dict[str, Any]]:
    if path is None or not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    main()
