"""What the localizations find on the default model, how they agree, and how well the cheap one stands in for the exact.

    python benchmarks/localization.py [--athletes FILE.csv] [--prompts 48] [--only capitals] [--json]

For capitals and for athletes' sports: the probe's curve over depth and the layers it gives; the circuit of every
localization, sizes matched to the probe's, with what restoring or breaking it as a whole does and how circuits overlap;
the correlation of attribution patching with exact activation patching over the MLP layers; wall time. Progress goes to
stderr. `--athletes` adds a table with the columns athlete, sport to the built-in athletes' facts.
"""

import argparse
import csv
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from scipy.stats import rankdata
from transformers.utils import logging

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run from anywhere, without installing

from analysis import concepts, models
from analysis.components.circuit import Circuit, Component
from analysis.concepts import Concept, Fact
from analysis.edits import n_parameters
from analysis.errors import PalimpsestError
from analysis.localization import (
    CONTROLS,
    activation_patching,
    control,
    direct_effects,
    joint_effect,
    lookup_by_probe,
    matched,
    measure_curve,
    overlap_table,
    path_effects,
)
from analysis.localization.patching import Direction, all_components, causal_tracing
from analysis.localization.paths import Receivers
from analysis.models import LanguageModel
from analysis.models.catalog import DEFAULT_MODEL
from analysis.saliency.attribution import attribution_patching
from analysis.scoring import factual_recall
from analysis.scoring.contrast_pairs import Corruption, Metric, pair_prompts

STEPS = (1, 5)


def main() -> None:
    """Print the figures, as text or as one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--athletes", type=Path, help="a table with the columns athlete, sport")
    parser.add_argument("--prompts", type=int, default=48)
    parser.add_argument("--only", choices=("capitals", "athletes"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    logging.disable_progress_bar()
    model = models.load(DEFAULT_MODEL)
    names = [options.only] if options.only else ["capitals", "athletes"]
    figures = {"model": model.name, "device": str(model.device), "prompts": options.prompts}
    for name in names:
        concept = concepts.load(name)
        if name == "athletes":
            concept = _with_table(concept, options.athletes)
        figures[name] = _figures(model, concept, options.prompts)
    if options.json:
        print(json.dumps(figures))
    else:
        print(json.dumps(figures, indent=1))


def _figures(model: LanguageModel, concept: Concept, prompts: int) -> dict[str, Any]:
    clock = _Clock(concept.name)
    facts, _ = factual_recall.known_facts(model, concept)
    clock.lap("known_facts")
    curve = measure_curve(model, concept, facts)
    clock.lap("probe")
    try:
        lookup = lookup_by_probe(curve, model.component_shape)
    except PalimpsestError as error:
        lookup, refused = None, str(error)
    else:
        refused = None
    circuits = _circuits(model, concept, facts, prompts, lookup, clock)
    pairs = pair_prompts(model, concept, facts, max_prompts=prompts)
    carried = {
        name: {
            direction: round(joint_effect(model, pairs, circuit, direction=direction), 3)
            for direction in get_args(Direction)
        }
        for name, circuit in circuits.items()
    }
    clock.lap("joint_effects")
    return {
        "facts_known": len(facts),
        "facts_asked": len(concept.facts),
        "probe": {
            "kind": curve.kind,
            "subjects": curve.n_subjects,
            "prompts": curve.n_prompts,
            "chance": round(curve.chance, 3),
            "refused": refused,
            **{c: [round(float(x), 3) for x in curve.table()[c]] for c in ("accuracy", "low", "high", "control")},
        },
        "circuits": {
            name: {
                "components": circuit.format(),
                "effects": [round(effect, 3) for effect in circuit.effects],
                "parameters": n_parameters(model, circuit),
                **carried[name],
            }
            for name, circuit in circuits.items()
        },
        "overlap": overlap_table(circuits).round(3).to_dict("records"),
        "attribution_against_exact": _correlations(model, concept, facts, prompts, clock),
        "seconds": clock.seconds,
    }


def _circuits(
    model: LanguageModel, concept: Concept, facts: list[Fact], prompts: int, lookup: Circuit | None, clock: "_Clock"
) -> dict[str, Circuit]:
    """Every localization; those with a free size have that of the probe's circuit, or of six MLP layers without one."""
    random = pair_prompts(model, concept, facts, corruption="random", max_prompts=prompts)
    noisy = pair_prompts(model, concept, facts, corruption="noise", max_prompts=prompts)
    swapped = pair_prompts(model, concept, facts, max_prompts=prompts)
    circuits = {} if lookup is None else {"FLU, probe": lookup}
    six = Circuit(shape=model.component_shape, components=tuple(Component(layer, "mlp") for layer in range(6)))
    size = n_parameters(model, lookup or six)
    direct = direct_effects(model, random, progress=clock.progress)
    clock.lap("direct_effects")
    heads = direct.circuit(top=10, kinds=("head",))
    circuits["extraction heads"] = heads
    for receivers in get_args(Receivers):
        effects = path_effects(model, random, heads.heads, receivers=receivers, progress=clock.progress)
        clock.lap(f"path_effects_{receivers}")
        circuits[f"FLU, paths to {receivers}"] = effects.circuit(threshold=0.02, kinds=("mlp",))
    exact = {
        "CT": causal_tracing(model, noisy, progress=clock.progress),
        "exact patching": activation_patching(model, swapped, progress=clock.progress),
    }
    clock.lap("two_exact_passes_over_all_components")
    exact["AP"] = attribution_patching(model, swapped)
    clock.lap("attribution_patching")
    for name, effects in exact.items():
        circuits[name] = matched(model, effects, size)
        circuits[f"{name}, MLP"] = matched(model, effects, size, kinds=("mlp",))
    match = circuits["exact patching, MLP"]
    return circuits | {name: control(model, name, match=match) for name in CONTROLS}


def _correlations(
    model: LanguageModel, concept: Concept, facts: list[Fact], prompts: int, clock: "_Clock"
) -> list[dict[str, Any]]:
    """Attribution patching against exact restoring, over MLP layers, for each corruption, metric and number of steps."""
    mlps = [part for part in all_components(model) if part.kind == "mlp"]
    rows = []
    for corruption in get_args(Corruption):
        pairs = pair_prompts(model, concept, facts, corruption=corruption, max_prompts=prompts)
        for metric in get_args(Metric):
            exact = activation_patching(model, pairs, metric=metric, components=mlps, progress=clock.progress).mlps_L
            for steps in STEPS:
                estimate = attribution_patching(model, pairs, metric=metric, steps=steps).mlps_L
                rows.append(
                    {
                        "corruption": corruption,
                        "metric": metric,
                        "steps": steps,
                        "n": pairs.n_prompts,
                        "pearson": _correlation(exact, estimate),
                        "spearman": _correlation(rankdata(exact), rankdata(estimate)),
                        "exact": [round(float(x), 3) for x in exact],
                        "estimate": [round(float(x), 3) for x in estimate],
                    }
                )
    clock.lap("correlations")
    return rows


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    return round(float(np.corrcoef(a, b)[0, 1]), 3)


def _with_table(concept: Concept, path: Path | None) -> Concept:
    """The concept with the facts of a table added, except subjects it has already; only its first template is asked."""
    facts = list(concept.facts)
    if path is not None:
        known = {fact.subject for fact in facts}
        with path.open(newline="", encoding="utf-8") as file:
            rows = [(row["athlete"].strip(), row["sport"].strip()) for row in csv.DictReader(file)]
        facts += [Fact(subject, answer) for subject, answer in dict(rows).items() if subject not in known]
    return replace(concept, facts=tuple(facts), templates=concept.templates[:1])


class _Clock:
    """Seconds of each part, and progress on stderr."""

    def __init__(self, concept: str) -> None:
        self.concept = concept
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = round(now - self._last, 1)
        self._last = now
        print(f"\n{self.concept}: {name} {self.seconds[name]} s", file=sys.stderr)

    def progress(self, stage: str, share: float) -> None:
        print(f"\r{self.concept}: {stage} {share:4.0%}", end="", file=sys.stderr)


if __name__ == "__main__":
    main()
