"""Saves and loads the state of a training run, so that it resumes exactly as if it had not been interrupted.

Each state is one safetensors file, `step-000010.safetensors`. Its tensors are the trained parameters, the optimiser's
moments and the random generators' states; its metadata holds, as JSON, the step, the number of texts drawn from each
deck, and the identity that a resumed training must match. Files are written atomically, and the previous state is
removed only afterwards, so a crash while saving leaves the previous state intact.
"""

import errno
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from analysis.errors import EditError
from analysis.training.schedule import Deck

__all__ = [
    "State",
    "copy_values",
    "load_state",
    "load_values",
    "save_state",
    "save_values",
    "saved_steps",
    "state_path",
]

_FORMAT = "palimpsest training 1"


@dataclass(frozen=True)
class State:
    """Step and details of a stored state, besides its weights and moments."""

    step: int
    """Training steps done."""
    details: Mapping[str, Any]
    """The `details` given to `save_state`."""


def state_path(folder: Path, step: int) -> Path:
    """Path of the file that holds the state after `step`."""
    return folder / f"step-{step:06d}.safetensors"


def saved_steps(folder: Path) -> tuple[int, ...]:
    """The steps with a stored state, ascending."""
    names = (path.stem.removeprefix("step-") for path in folder.glob("step-*.safetensors"))
    return tuple(sorted(int(name) for name in names if name.isdecimal()))


def save_state(
    folder: Path,
    step: int,
    parameters: Sequence[nn.Parameter],
    optimiser: torch.optim.Optimizer,
    decks: Mapping[str, Deck[Any]],
    identity: Mapping[str, Any],
    *,
    details: Mapping[str, Any] | None = None,
    keep: bool = False,
) -> None:
    """Write the state after `step` to `folder`.

    Args:
        folder: Created if missing.
        step: Training steps done.
        parameters: The parameters that the optimiser steps, in its order.
        optimiser: Its moments are stored.
        decks: By name; the number of texts drawn from each is stored.
        identity: JSON values that a resumed training must match, such as edit, texts and weights.
        details: Further JSON values to store.
        keep: Keep earlier states; otherwise they are removed.

    Raises:
        OSError: the file cannot be written; earlier states are unchanged.
    """
    tensors = _named(parameters)
    for i, moments in optimiser.state_dict()["state"].items():
        tensors |= {f"{i}.moment.{name}": one.detach() for name, one in moments.items() if one is not None}
    tensors["random.cpu"] = torch.get_rng_state()
    if parameters[0].device.type == "cuda":
        tensors["random.cuda"] = torch.cuda.get_rng_state(parameters[0].device)
    state = {
        "format": _FORMAT,
        "step": step,
        "drawn": {kind: deck.drawn for kind, deck in decks.items()},
        "identity": dict(identity),
        "details": dict(details or {}),
    }
    folder.mkdir(parents=True, exist_ok=True)
    _write(state_path(folder, step), tensors, state)
    for old in () if keep else saved_steps(folder):
        if old != step:
            state_path(folder, old).unlink(missing_ok=True)


def load_state(
    folder: Path,
    parameters: Sequence[nn.Parameter],
    optimiser: torch.optim.Optimizer,
    decks: Mapping[str, Deck[Any]],
    identity: Mapping[str, Any],
) -> State | None:
    """Restore parameters, optimiser, decks and random generators from the newest stored state; None if there is none.

    Raises:
        EditError: the state is damaged, or belongs to another edit, other texts or other weights.
    """
    steps = saved_steps(folder)
    if not steps:
        return None
    path = state_path(folder, steps[-1])
    advice = f"Choose another folder, or delete {path} to begin anew."
    with _opened(path, advice) as (file, state):
        for key, value in json.loads(json.dumps(identity)).items():
            if key in state["identity"] and state["identity"][key] != value:  # older versions stored fewer keys
                raise EditError(
                    f"The state in {folder} belongs to another {key.replace('_', ' ')}, so training cannot go on from it. {advice}"
                )
        values = _values(file, parameters)
        moments: dict[int, dict[str, Tensor]] = {}
        for name in file.keys():  # noqa: SIM118 (not a dict)
            index, _, moment = name.partition(".moment.")
            if moment:
                moments.setdefault(int(index), {})[moment] = file.get_tensor(name)
        found = State(int(state["step"]), dict(state["details"]))
        drawn = {kind: int(state["drawn"][kind]) for kind in decks}
        random = file.get_tensor("random.cpu")
        on_device = file.get_tensor("random.cuda") if "random.cuda" in file.keys() else None  # noqa: SIM118
    with torch.no_grad():
        for parameter, value in zip(parameters, values):
            parameter.copy_(value)
    optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})
    for kind, deck in decks.items():
        deck.draw(drawn[kind] - deck.drawn)
    torch.set_rng_state(random)
    if on_device is not None and parameters[0].device.type == "cuda":
        torch.cuda.set_rng_state(on_device, parameters[0].device)
    return found


def save_values(path: Path, step: int, parameters: Sequence[nn.Parameter], *, weights: str = "") -> None:
    """Write the trained parameters alone to a file that `load_values` reads.

    Args:
        path: New file.
        step: Training steps done.
        parameters: What was trained.
        weights: Digest of the model's weights before the training.

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, _named(parameters), {"format": _FORMAT, "step": step, "weights": weights})


def load_values(path: Path, parameters: Sequence[nn.Parameter], *, weights: str = "") -> None:
    """Restore the trained parameters from a stored state, without moments and decks.

    Args:
        path: The file.
        parameters: What was trained; their values change.
        weights: Digest of the model's weights now; where the file names others, it is refused.

    Raises:
        EditError: the file is damaged, or belongs to another training or another model.
    """
    with _opened(path, "Make the branch or the run anew.") as (file, state):
        if weights and state.get("weights", "") not in ("", weights):
            raise EditError(
                f"{path} was trained from another model's weights. Bring that model back, or start a new run."
            )
        values = _values(file, parameters)
    with torch.no_grad():
        for parameter, value in zip(parameters, values):
            parameter.copy_(value)


def copy_values(source: Path, target: Path) -> None:
    """Copy the parameters of a stored state, without its moments, as the start of a branch.

    Raises:
        EditError: the file is damaged.
        OSError: the copy cannot be written.
    """
    with _opened(source, "Choose another checkpoint.") as (file, state):
        tensors = {name: file.get_tensor(name) for name in file.keys() if name.endswith(".value")}  # noqa: SIM118
    _write(target, tensors, state)


class _opened:
    """Opens a state's file and yields (file, its JSON); read errors inside become an `EditError`."""

    def __init__(self, path: Path, advice: str):
        self.path, self.advice = path, advice

    def __enter__(self) -> tuple[Any, dict[str, Any]]:
        try:
            self.file: Any = safe_open(self.path, framework="pt")
            file = self.file.__enter__()
            state = json.loads((file.metadata() or {})["state"])
            if state["format"] != _FORMAT:
                raise EditError(f"{self.path} is not a training state of this version. {self.advice}")
        except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
            raise self._damaged(error) from error
        return file, state

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.file.__exit__(kind, error, trace)
        if isinstance(error, (OSError, SafetensorError, KeyError, ValueError, TypeError, AttributeError)):
            raise self._damaged(error) from error

    def _damaged(self, error: BaseException) -> EditError:
        return EditError(f"The training state in {self.path} is damaged ({error}). {self.advice}")


def _named(parameters: Sequence[nn.Parameter]) -> dict[str, Tensor]:
    return {f"{i}.value": one.detach() for i, one in enumerate(parameters)}


def _values(file: Any, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    values = [file.get_tensor(f"{i}.value") for i in range(len(parameters))]
    if any(value.shape != one.shape or value.dtype != one.dtype for value, one in zip(values, parameters)):
        raise ValueError("shapes differ")
    return values


def _write(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        save_file(dict(_owned(tensors)), temporary, metadata={"state": json.dumps(state, ensure_ascii=False)})
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except SafetensorError as error:  # only its text says that the disk is full
        number = errno.ENOSPC if "No space left" in str(error) or "os error 28" in str(error) else errno.EIO
        raise OSError(number, str(error), str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def _owned(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Tensors on the CPU without shared memory: safetensors refuses the shared memory of fused projections' parts."""
    seen: set[int] = set()
    for name, tensor in tensors.items():
        plain = tensor.cpu().contiguous()
        begin = plain.untyped_storage().data_ptr()
        yield name, plain.clone() if begin in seen else plain
        seen.add(begin)
