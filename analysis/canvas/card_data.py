"""Computes the contents of a neuron's card on the canvas at one snapshot, as JSON values."""

from typing import Any

from analysis import migration
from analysis.canvas import run_cache, run_data
from analysis.canvas.run_cache import View
from analysis.components.neurons import Neuron
from analysis.relearning import RunFacts
from analysis.runs import RunDirectory
from analysis.saliency.carriers import carrier_threshold

__all__ = ["neuron_card"]


def neuron_card(run: RunDirectory, view: View, facts: RunFacts, neuron: Neuron, index: int) -> dict[str, Any]:
    """The neuron's role, its words before the edit and at `index`, and its scores before the edit, after it and at `index`.

    Args:
        run: The run.
        view: What is shown; its scale is that of the scores.
        facts: The run's facts.
        neuron: The neuron.
        index: The snapshot; the last one if there are fewer.
    """
    n_snapshots = run.n_snapshots()
    index = min(index, n_snapshots - 1)
    after_edit = run_data.beginning_index(run, n_snapshots)
    base, now = (run_cache.snapshot(run.path, at) for at in (0, index))
    flat = neuron.layer * facts.shape[1] + neuron.index
    titles = {name: concept.title for name, concept in run.concepts().items()}

    def score(at: int, name: str) -> float:
        return float(run_cache.scaled(run.path, at, name, view.scale)[neuron.layer, neuron.index])

    rows = []
    for name in run.config.tracked:
        threshold = carrier_threshold(run_cache.scaled(run.path, 0, name, view.scale))
        rows.append(
            {
                "title": titles[name],
                "place": run.config.tracked.index(name),
                "before": score(0, name),
                "edited": score(after_edit, name),
                "now": score(index, name),
                "threshold": threshold,
                "carries": score(index, name) >= threshold,
            }
        )
    return {
        "neuron": str(neuron),
        "hook": neuron.hook,
        "layer": neuron.layer,
        "index": neuron.index,
        "snapshot": index,
        "role": _role(run, view, facts, neuron, index, after_edit),
        "scores": rows,
        "followed": flat in facts.followed.flat,
        "words_before": list(base.words.get(flat, ())),
        "words_now": list(now.words.get(flat, ())),
        "similarity": now.similarity.get(flat),
    }


def _role(run: RunDirectory, view: View, facts: RunFacts, neuron: Neuron, index: int, after_edit: int) -> str:
    """The neuron's role for the first of the shown concepts."""
    name = view.concepts[0]
    if run_cache.snapshot(run.path, index).phase != "training":
        flat = neuron.layer * facts.shape[1] + neuron.index
        return run_data.edit_label(run) if flat in facts.edited.flat else "other"
    now_LN, then_LN, base_LN = (run_cache.scaled(run.path, at, name, view.scale) for at in (index, after_edit, 0))
    found = migration.roles(now_LN, then_LN, facts.edited, carrier_threshold(base_LN))
    return migration.role_of(neuron, found, facts.edited, run_data.edit_label(run))
