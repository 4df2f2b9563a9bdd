"""Which saliency method finds neurons that are known to read a concept, and which those that cause its answers?

    python benchmarks/planted_concept.py [--seeds 20] [--reading 1.0] [--json]

The neurons are known because they were planted (`tests/planted_model.py`): a new small model for every seed. Precision at k is
the share of a method's k highest scores that belong to the planted set, k being that set's size; given with the 95%
interval of its mean over seeds. Effects of single neurons show that the construction holds what it promises.
"""

import argparse
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run from anywhere, without installing

from analysis.scoring.factual_recall import known_facts
from tests.planted_model import plant, precision, score, variants

FAMILIES = ("causal", "reader", "booster", "loud", "ordinary")


def main() -> None:
    """Print the figures, as Markdown or as one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--reading", type=float, default=1.0, help="how strongly planted neurons read; 0.5 = half")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    torch.set_num_threads(1)  # the model is tiny: several threads would only wait for each other
    started = time.perf_counter()
    found = [_one_model(seed, options.reading) for seed in range(options.seeds)]
    first = found[0]
    figures = {
        "seeds": options.seeds,
        "reading": options.reading,
        "neurons": first["neurons"],
        "k": first["k"],
        "chance": {truth: round(k / first["neurons"], 3) for truth, k in first["k"].items()},
        "known_facts": _interval([one["known_facts"] for one in found]),
        "precision": {
            name: {
                truth: _interval([one["precision"][name][truth] for one in found], highest=1.0) for truth in first["k"]
            }
            for name in first["precision"]
        },
        "families": {
            family: {
                name: _interval([one["families"][family][name] for one in found]) for name in first["families"][family]
            }
            for family in FAMILIES
        },
        "seconds": round(time.perf_counter() - started),
    }
    print(json.dumps(figures) if options.json else _markdown(figures))


def _one_model(seed: int, reading: float) -> dict[str, Any]:
    planted = plant(seed, reading=reading)
    known, _ = known_facts(planted.model, planted.concept)
    scores = {name: score(planted, method, **options) for name, (method, options) in variants().items()}
    masks = planted.families | {"ordinary": ~np.any(list(planted.families.values()), axis=0)}
    return {
        "neurons": masks["ordinary"].size,
        "k": {truth: int(mask.sum()) for truth, mask in planted.truths.items()},
        "known_facts": len(known),
        "precision": {
            name: {truth: precision(found, mask) for truth, mask in planted.truths.items()}
            for name, found in scores.items()
        },
        "families": {
            family: {
                name: float(np.median(scores[name].scores_LN[masks[family]]))
                for name in ("probeless", "standardised", "ablation")
            }
            for family in FAMILIES
        },
    }


def _interval(values: list[float], highest: float = float("inf")) -> list[float]:
    """Mean, and the ends of its 95% interval over seeds (t), cut to what is possible."""
    mean = float(np.mean(values))
    reach = float(stats.sem(values) * stats.t.ppf(0.975, len(values) - 1)) if len(values) > 1 else float("nan")
    return [round(one, 4) for one in (mean, max(mean - reach, 0.0), min(mean + reach, highest))]


def _markdown(figures: dict[str, Any]) -> str:
    lines = [
        f"| method | {' | '.join(f'{truth} (k = {k})' for truth, k in figures['k'].items())} |",
        "|---" * (1 + len(figures["k"])) + "|",
        f"| chance | {' | '.join(f'{one:.2f}' for one in figures['chance'].values())} |",
    ]
    for name, row in figures["precision"].items():
        cells = (f"{mean:.2f} ({low:.2f} to {high:.2f})" for mean, low, high in row.values())
        lines.append(f"| {name} | {' | '.join(cells)} |")
    names = list(figures["families"]["causal"])
    lines += ["", f"| median score of a neuron | {' | '.join(names)} |", "|---" * (1 + len(names)) + "|"]
    for family, row in figures["families"].items():
        lines.append(f"| {family} | {' | '.join(f'{row[name][0]:.3g}' for name in names)} |")
    known = figures["known_facts"][0]
    return "\n".join(
        [*lines, "", f"{figures['seeds']} models, {known:.1f} facts known on average, {figures['seconds']} s"]
    )


if __name__ == "__main__":
    main()
