"""Computes KL(base ‖ edited) of the next-token distribution at every token of general text.

Edits are made in place, so base and edited model are seldom in memory together: `remember` writes the base model's
log-probabilities to disk, and `against` compares any later state with them. If both are loaded, `between` streams.

All log-probabilities are stored as float32, normalised in float64 first: 4 bytes x vocabulary x tokens. Smaller formats
lose accuracy: bfloat16, or only the 1,024 most probable tokens, changes a median by more than 1e-5; float16 changes
single tokens by up to 1e-4 (docs/evaluation.md has the measurement).

Axes: `T` token, `V` vocabulary, `S` text.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from analysis import paths
from analysis.errors import ConceptError, ConfigError, EditError
from analysis.evaluation import intervals
from analysis.evaluation.result import Histogram, Measure
from analysis.models import LanguageModel
from analysis.models.finite import check_finite
from analysis.scoring.batches import MAX_LENGTH, bucket, pad

__all__ = ["KL", "Reference", "against", "between", "remember"]

EDGES = (0.0, *(float(edge) for edge in np.logspace(-8, 2, 41)))
"""Bins of the histogram, nats: four per decade, and one for everything below 1e-8."""
_TOKENS_PER_BATCH = 512
_CHUNK = 2**22
"""Largest number of elements in one float64 array: 32 MiB."""
_KEPT = 4
"""Number of reference files kept in the home folder; older ones are deleted."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The base model's log-probabilities on a text."""

    path: str
    """A raw float32 file, [T, V], texts one after the other."""
    rows: tuple[tuple[int, ...], ...]
    """Token ids of each text."""
    vocabulary: int
    model: str

    @property
    def n_tokens(self) -> int:
        return sum(len(row) for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Reference":
        """Rebuild from `to_dict`, also after a round trip through JSON.

        Raises:
            ConfigError: a field is missing or unknown.
        """
        try:
            return cls(**{**data, "rows": tuple(tuple(int(token) for token in row) for row in data["rows"])})
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"This is not a KL reference ({error}).") from error


@dataclass(frozen=True, kw_only=True, eq=False)
class KL:
    """KL of every token."""

    kl_T: np.ndarray
    """Nats, float64, at least 0."""
    text_T: np.ndarray
    """The text each token belongs to."""

    def measures(self) -> tuple[Measure, ...]:
        """Return kl_median, kl_mean and kl_p95; their intervals resample whole texts."""
        order = np.argsort(self.kl_T, kind="stable")
        sorted_T, text_T = self.kl_T[order], self.text_T[order]
        n_texts = int(self.text_T.max()) + 1

        def statistic(weights_S: np.ndarray) -> list[float]:
            drawn = np.repeat(sorted_T, weights_S[text_T])
            return [*np.quantile(drawn, [0.5, 0.95]).tolist(), float(drawn.mean())]

        point = statistic(np.ones(n_texts, dtype=np.int64))
        low, high = intervals.blocks(statistic, n_texts, n_resamples=1000)
        return tuple(
            Measure(
                name=f"kl_{name}",
                value=point[i],
                low=float(low[i]),
                high=float(high[i]),
                n=n_texts,
                counts="texts",
                unit="nats",
                note=f"{len(self.kl_T)} tokens",
            )
            for name, i in (("median", 0), ("mean", 2), ("p95", 1))
        )

    def histogram(self) -> Histogram:
        """Count tokens in log-spaced bins; values above the last edge are counted in the last bin."""
        counts, _ = np.histogram(np.minimum(self.kl_T, EDGES[-1]), bins=np.array(EDGES))
        return Histogram(edges=EDGES, counts=tuple(int(count) for count in counts))


def remember(model: LanguageModel, texts: Sequence[str], *, folder: Path | None = None) -> Reference:
    """Write the model's log-probabilities at every token of `texts` to disk.

    Args:
        model: The unedited model.
        texts: At least two; long ones are cut after `MAX_LENGTH` tokens.
        folder: Default: `references/` in the home folder, where only the newest files are kept.

    Raises:
        ConceptError: there are fewer than two texts with a token.
        ConfigError: the file cannot be written (disk full?); nothing is left behind.
        ModelFileError: logits are not finite.
    """
    limit = min(MAX_LENGTH, model.context_length)
    rows = tuple(ids for ids in (model.encode(text).ids[:limit] for text in texts) if ids)
    if len(rows) < 2:
        raise ConceptError("KL needs at least two texts: one has no interval. Add texts.")
    rows = tuple(rows[i] for chosen in _batches(rows) for i in chosen)  # in the order in which they are run
    root = folder or paths.home() / "references"
    # one file for each model, told by its weights and not by its name, for each text, and for each process: a second
    # server must not overwrite what this one still compares with
    key = (model.weights_hash(), model.dtype, rows, os.getpid())
    digest = hashlib.sha256(repr(key).encode()).hexdigest()[:16]
    path, partial = root / f"{digest}.f32", root / f".{digest}.partial"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            for logits_PV in _logits(model, rows):
                for chunk in _chunks(logits_PV):
                    file.write(_double(chunk).log_softmax(-1).float().cpu().numpy().tobytes())
        partial.replace(path)
    except OSError as error:
        size = sum(len(row) for row in rows) * model.vocabulary_size * 4 / 2**20
        raise ConfigError(
            f"{path} cannot be written ({error.strerror}). It needs {size:,.0f} MiB: free some space."
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    if folder is None:
        _forget_old(root)
    return Reference(path=str(path), rows=rows, vocabulary=model.vocabulary_size, model=model.name)


def against(model: LanguageModel, reference: Reference) -> KL:
    """KL(reference ‖ model) at every token of the reference's text.

    Raises:
        ConfigError: the reference's file is gone or cut short.
        EditError: the model has another vocabulary.
        ModelFileError: logits are not finite.
    """
    if model.vocabulary_size != reference.vocabulary:
        raise EditError(
            f"The reference has a vocabulary of {reference.vocabulary:,}, “{model.name}” of {model.vocabulary_size:,}: "
            "they are different models. Measure the unedited model again."
        )
    shape = (reference.n_tokens, reference.vocabulary)
    try:
        stored = np.memmap(reference.path, dtype=np.float32, mode="r", shape=shape)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"The unedited model's log-probabilities are gone from {reference.path} ({error}). Measure that model again."
        ) from error

    def base() -> Iterator[Tensor]:
        start = 0
        for row in reference.rows:
            yield torch.from_numpy(np.array(stored[start : start + len(row)]))
            start += len(row)

    return _compare(base(), _logits(model, reference.rows), reference.rows)


def between(base: LanguageModel, model: LanguageModel, texts: Sequence[str]) -> KL:
    """KL(base ‖ model) with both models in memory, batch by batch; nothing is stored.

    Raises:
        ConceptError: there are fewer than two texts with a token.
        EditError: the vocabularies differ.
        ModelFileError: logits are not finite.
    """
    if base.vocabulary_size != model.vocabulary_size:
        raise EditError("The two models have different vocabularies, so their predictions cannot be compared.")
    limit = min(MAX_LENGTH, base.context_length)
    rows = [ids for ids in (base.encode(text).ids[:limit] for text in texts) if ids]
    if len(rows) < 2:
        raise ConceptError("KL needs at least two texts: one has no interval. Add texts.")
    rows = [rows[i] for chosen in _batches(rows) for i in chosen]
    return _compare(_logits(base, rows), _logits(model, rows), rows)


def _compare(base: Iterator[Tensor], edited: Iterator[Tensor], rows: Sequence[Sequence[int]]) -> KL:
    values = [
        _kl(p_PV, q_PV)
        for base_PV, edited_PV in zip(base, edited)
        for p_PV, q_PV in zip(_chunks(base_PV), _chunks(edited_PV))
    ]
    text_T = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    return KL(kl_T=np.concatenate(values), text_T=text_T)


def _kl(p_PV: Float[Tensor, "P V"], q_PV: Float[Tensor, "P V"]) -> np.ndarray:
    """KL from logits, or log-probabilities up to a constant; both are normalised in float64, so that it is not negative."""
    log_q = _double(q_PV).log_softmax(-1)
    log_p = p_PV.to(log_q.device).double().log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1).clamp_min(0).cpu().numpy()


def _double(values: Tensor) -> Tensor:
    return (values.cpu() if values.device.type == "mps" else values).double()  # MPS has no float64


def _batches(rows: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    return bucket([len(row) for row in rows], _TOKENS_PER_BATCH)


def _logits(model: LanguageModel, rows: Sequence[Sequence[int]]) -> Iterator[Tensor]:
    """Yield each text's logits [P, V]; the texts must be in the order of their batches."""
    for chosen in _batches(rows):
        with torch.inference_mode(), model.lock:
            logits_BPV = model.logits(pad([rows[i] for i in chosen], model)).float()
        for b, i in enumerate(chosen):  # outside the lock, which would stay held while the caller uses a yielded value
            row_PV = logits_BPV[b, : len(rows[i])]
            check_finite(model, row_PV)
            yield row_PV


def _chunks(values_PV: Tensor) -> Iterator[Tensor]:
    yield from values_PV.split(max(_CHUNK // values_PV.shape[1], 1))


def _forget_old(root: Path) -> None:
    files = sorted(root.glob("*.f32"), key=lambda path: path.stat().st_mtime)
    for path in files[:-_KEPT]:
        path.unlink(missing_ok=True)
