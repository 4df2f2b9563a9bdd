"""Sums a run up in numbers: what the command line prints and the dashboard offers as a file."""

import math
from dataclasses import asdict
from typing import Any

from analysis.components.neurons import NeuronSet
from analysis.migration.measures import centre_of_carriers, centre_of_mass, scaled
from analysis.migration.recovery import half_life
from analysis.migration.roles import roles
from analysis.relearning import Snapshot, epoch_steps
from analysis.runs.record import RunRecord
from analysis.saliency.carriers import carrier_threshold, rank_normalise

__all__ = ["summarise"]


def summarise(run: RunRecord) -> dict[str, Any]:
    """The numbers of a run, as plain JSON (what the command line prints); None for parts that it has not reached.

    Raises:
        RunError: a snapshot is damaged.
    """
    config, status, facts = run.config, run.status(), run.facts()
    snapshots = run.snapshots()
    summary: dict[str, Any] = {
        "run": str(run.path) if run.path else None,
        "state": status.state,
        "message": status.message,
        "model": config.model,
        "concept": config.concept,
        "task": config.task,
        "origin": {"run": config.origin.run, "step": config.origin.step} if config.origin else None,
        "edit": config.edit.describe() if config.edit else None,
        "train_only": config.train_only or None,
        "seed": config.seed,
        "precision": {"name": config.precision, "reason": ""} if config.precision != "auto" else None,
        "known_facts": None,
        "tagging": None,
        **_outcome(snapshots, config.concept, facts.edited if facts else None),
        "steps": snapshots[-1].step if snapshots else 0,
        "snapshots": len(snapshots),
        "seconds": round(status.seconds, 1),
        "control": None,
    }
    if facts and config.task == "tagging":
        summary["tagging"] = {
            "fine_tune_steps": config.fine_tune_steps,
            "sizes": dict(facts.sizes),
            "stages": _stages(run, snapshots),
        }
    elif facts:
        summary["known_facts"] = {
            "retrained": len(facts.table.retrained),
            "held_out": len(facts.table.held_out),
            "set_aside": facts.table.n_set_aside,
            "threshold": facts.table.threshold,
        }
    if facts and facts.precision:
        summary["precision"] = asdict(facts.precision)
    if facts:
        summary["edited_neurons"] = len(facts.edited)
        summary["edited_heads"] = len(facts.edited_heads)
    if (control := run.control) is not None:
        taken, before = control.snapshots(), control.facts()
        # in the control of a branch, the neurons of earlier edits count as edited
        summary["control"] = _outcome(taken, config.concept, before.edited if before else None)
        if config.task == "tagging":
            summary["control"]["stages"] = _stages(run, taken)
        summary["control"]["seconds"] = round(control.status().seconds, 1)
        summary["seconds"] = round(status.seconds + control.status().seconds, 1)
    return summary


def _outcome(snapshots: list[Snapshot], concept: str, edited: NeuronSet | None) -> dict[str, Any]:
    by_phase = {snapshot.phase: snapshot for snapshot in snapshots}
    base, after = by_phase.get("base"), by_phase.get("edited")
    final = by_phase.get("training")
    moments = {"base": base, "edited": after, "final": final}
    curve = [after or base, *(s for s in snapshots if s.phase == "training")] if base else []
    outcome: dict[str, Any] = {name: _knowledge(snapshot) for name, snapshot in moments.items()}
    for key, scale, measure in (
        ("center_of_mass", "raw", centre_of_mass),
        ("center_of_mass_standardised", "standardised", centre_of_mass),
        ("center_of_carriers", "raw", centre_of_carriers),
        ("center_of_carriers_standardised", "standardised", centre_of_carriers),
    ):
        outcome[key] = {
            name: _finite(measure(scaled(snapshot, concept, scale))) if snapshot else None
            for name, snapshot in moments.items()
        }
    for key, attribute in (("half_life_steps", "retrained"), ("half_life_steps_held_out", "held_out")):
        value = None
        if after and base and final:
            steps = [s.step for s in curve if s]
            value = half_life(steps, [getattr(s, attribute) for s in curve if s], before=getattr(base, attribute))
        outcome[key] = None if value is None else round(value, 2)
    outcome["recruits"] = None
    if base and final and edited is not None:
        outcome["recruits"] = {
            scale: _recruits(base, after or base, final, concept, edited, scale) for scale in ("raw", "standardised")
        }
    return outcome


def _stages(run: RunRecord, snapshots: list[Snapshot]) -> list[dict[str, Any]]:
    """Tagging scores at every snapshot; an epoch is the number of steps that draw every labelled sentence once."""
    epoch = epoch_steps(run.config, run.concepts()[run.config.concept])
    names = {"base": "fine-tuned", "edited": "edited", "training": "retrained"}
    return [
        {
            "stage": names[one.phase],
            "step": one.step,
            "epoch": round(one.step / epoch, 2),
            **{name: round(value, 4) for name, value in one.metrics.items()},
            "p_held_out": _finite(one.held_out),
        }
        for one in snapshots
    ]


def _knowledge(snapshot: Snapshot | None) -> dict[str, float | None] | None:
    if snapshot is None:
        return None
    return {
        "retrained": _finite(snapshot.retrained),
        "held_out": _finite(snapshot.held_out),
        "neutral_loss": _finite(snapshot.neutral_loss),
    }


def _finite(value: float) -> float | None:
    """Rounded to 4 digits; None for NaN and infinity, which JSON lacks."""
    return round(value, 4) if math.isfinite(value) else None


def _recruits(
    base: Snapshot, reference: Snapshot, final: Snapshot, concept: str, edited: NeuronSet, scale: str
) -> dict[str, Any]:
    base_LN = scaled(base, concept, scale)
    threshold = carrier_threshold(base_LN)
    found = roles(scaled(final, concept, scale), scaled(reference, concept, scale), edited, threshold)
    ranks = {name: rank_normalise(scaled(base, name, scale)).ravel() for name in base.saliency}
    layers = found.recruits.flat // found.recruits.shape[1]
    return {
        "threshold": round(threshold, 4),
        "recruits": len(found.recruits),
        "survivors": len(found.survivors),
        "mean_layer": round(float(layers.mean()), 2) if len(found.recruits) else None,
        # 1 = the most salient neuron before the edit, 0.5 = chance
        "mean_rank_before": {
            name: round(float(rank[found.recruits.flat].mean()), 3) if len(found.recruits) else None
            for name, rank in ranks.items()
        },
    }
