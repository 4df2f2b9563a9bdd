"""Writes a run's facts and snapshots to files, and reads them back.

Axes: `L` layer, `N` neuron in a layer, `F` fact or labelled word.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_safetensors

from analysis import paths
from analysis.components.neurons import NeuronSet
from analysis.concepts import Fact
from analysis.errors import EditError, RunError
from analysis.jobs.job import read_json
from analysis.relearning import FactTable, Phase, RunFacts, Snapshot
from analysis.training.precision import ChosenPrecision

__all__ = ["Moment", "read_facts", "read_moment", "read_snapshot", "write_facts", "write_snapshot"]

_NUMBERS = ("index", "phase", "step", "seconds", "loss", "neutral_loss")


@dataclass(frozen=True)
class Moment:
    """The phase, step and time of a snapshot."""

    phase: Phase
    step: int
    """Training steps done."""
    seconds: float
    """Since the start of the run."""


def read_facts(path: Path, facts: Mapping[str, Fact]) -> RunFacts | None:
    """The facts, components and digests of a run; None if the file does not exist yet.

    Args:
        path: The file.
        facts: The concept's facts by name.

    Raises:
        RunError: the file is damaged.
    """
    try:
        data = read_json(path)
    except FileNotFoundError:
        return None
    try:
        shape = (data["shape"][0], data["shape"][1])
        return RunFacts(
            shape=shape,
            table=FactTable(
                retrained=tuple(facts[name] for name in data["retrained"]),
                held_out=tuple(facts[name] for name in data["held_out"]),
                n_set_aside=data["n_set_aside"],
                threshold=data["threshold"],
            ),
            edited=NeuronSet([int(one) for one in data["edited"]], shape),
            n_neutral_train=data["n_neutral_train"],
            n_neutral_measured=data["n_neutral_measured"],
            ledger=data["ledger"],
            edited_heads=tuple((pair[0], pair[1]) for pair in data.get("edited_heads", ())),
            followed=NeuronSet([int(one) for one in data.get("followed", ())], shape),
            sizes={str(name): int(count) for name, count in data.get("sizes", {}).items()},
            digests={str(what): str(one) for what, one in data.get("digests", {}).items()},
            precision=ChosenPrecision(**found) if (found := data.get("precision")) else None,
        )
    except (KeyError, TypeError, IndexError, ValueError, AttributeError, EditError) as error:
        raise RunError(f"{path} is damaged ({error!r}).") from error


def write_facts(path: Path, found: RunFacts, facts: Mapping[str, Fact]) -> None:
    """Store the facts of a run for `read_facts`.

    Raises:
        OSError: the file cannot be written.
    """
    names = {fact: name for name, fact in facts.items()}
    data = {
        "shape": found.shape,
        "retrained": [names[fact] for fact in found.table.retrained],
        "held_out": [names[fact] for fact in found.table.held_out],
        "n_set_aside": found.table.n_set_aside,
        "threshold": found.table.threshold,
        "edited": found.edited.flat.tolist(),
        "edited_heads": found.edited_heads,
        "n_neutral_train": found.n_neutral_train,
        "n_neutral_measured": found.n_neutral_measured,
        "ledger": found.ledger,
        "followed": found.followed.flat.tolist(),
        "sizes": dict(found.sizes),
        "digests": dict(found.digests),
        "precision": asdict(found.precision) if found.precision else None,
    }
    paths.write_atomically(path, json.dumps(data).encode())


def read_snapshot(path: Path, concepts: Sequence[str]) -> Snapshot:
    """Read a snapshot, with the saliency of `concepts` in this order.

    Raises:
        RunError: the file does not exist or is damaged.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            numbers = _numbers(file)
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        words = {int(neuron): tuple(found) for neuron, found in numbers.pop("words", {}).items()}
        similarity = {int(neuron): float(value) for neuron, value in numbers.pop("similarity", {}).items()}
        metrics = {str(name): float(value) for name, value in numbers.pop("metrics", {}).items()}
        saliency: dict[str, dict[str, np.ndarray]] = {}
        for key, array in arrays.items():
            if key.startswith("saliency/"):
                _, concept, method = key.split("/")
                saliency.setdefault(concept, {})[method] = array
        return Snapshot(
            **numbers,
            p_retrained_F=arrays["p_retrained"],
            p_held_out_F=arrays["p_held_out"],
            saliency={name: saliency[name] for name in concepts},
            words=words,
            similarity=similarity,
            metrics=metrics,
        )
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise _unreadable(path, error) from error


def read_moment(path: Path) -> Moment:
    """Read only the phase, step and time of a snapshot, without its arrays.

    Raises:
        RunError: the file does not exist or is damaged.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            numbers = _numbers(file)
        return Moment(numbers["phase"], int(numbers["step"]), float(numbers["seconds"]))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: BaseException) -> RunError:
    """The error with advice: a resumed run retakes the snapshots after its newest checkpoint."""
    return RunError(
        f"Snapshot {path} cannot be read ({error}). Delete it and all later ones in {path.parent}, then resume the run: it "
        "takes new ones from its newest checkpoint on. One that is not the first may also be deleted alone: the run is then "
        "shown without it."
    )


def _numbers(file: Any) -> dict[str, Any]:
    return json.loads(file.metadata()["snapshot"])


def write_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Store a snapshot for `read_snapshot`; the file is written atomically.

    Raises:
        OSError: the file cannot be written.
    """
    arrays = {"p_retrained": snapshot.p_retrained_F, "p_held_out": snapshot.p_held_out_F}
    for concept, methods in snapshot.saliency.items():
        arrays |= {f"saliency/{concept}/{method}": scores for method, scores in methods.items()}
    numbers = {name: getattr(snapshot, name) for name in _NUMBERS}
    numbers["words"] = snapshot.words
    numbers["metrics"] = snapshot.metrics
    numbers["similarity"] = {neuron: value for neuron, value in snapshot.similarity.items() if math.isfinite(value)}
    content = to_safetensors(arrays, metadata={"snapshot": json.dumps(numbers)})
    path.parent.mkdir(exist_ok=True)
    paths.write_atomically(path, content)
