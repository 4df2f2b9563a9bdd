"""Fingerprints a model by some logits for a fixed input, stored once and compared at every load.

The comparison catches silent faults: weights that did not load, a folder that changed, a library version that computes
something else.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from analysis.errors import FingerprintError, ModelFileError

__all__ = ["LOGIT_TOLERANCE", "Fingerprint"]

_N_TOKENS, _N_LOGITS = 16, 256
LOGIT_TOLERANCE = {"float32": 0.02, "bfloat16": 0.3, "float16": 0.1}
"""By dtype, the largest difference between logits that is accepted as rounding, in standard deviations."""


@dataclass(frozen=True)
class Fingerprint:
    """Logits at the last position of a fixed token sequence."""

    tokens: list[int]
    """Input ids, spread over the vocabulary."""
    vocabulary: list[int]
    """Token ids whose logits are kept."""
    logits: list[float]
    """Values of these logits, as float32."""

    @classmethod
    def of(cls, model: torch.nn.Module) -> "Fingerprint":
        """Compute the fingerprint of a causal language model from transformers (or one inside a bridge)."""
        size = int(model.config.get_text_config().vocab_size)  # type: ignore[operator]
        longest = int(getattr(model.config.get_text_config(), "max_position_embeddings", None) or _N_TOKENS)  # type: ignore[operator]
        tokens = [(7919 * (i + 1)) % size for i in range(min(_N_TOKENS, longest))]
        vocabulary = np.unique(np.linspace(0, size - 1, _N_LOGITS).astype(int)).tolist()
        device = next(model.parameters()).device
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([tokens], device=device)).logits[0, -1].float().cpu()
        return cls(tokens=tokens, vocabulary=vocabulary, logits=[round(v, 6) for v in logits[vocabulary].tolist()])

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, path: Path) -> "Fingerprint":
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise ModelFileError(
                f"{path} is damaged ({error}). Delete it; it is recomputed at the next load."
            ) from error

    def check(self, other: "Fingerprint", *, dtype: str, name: str) -> None:
        """Raise `FingerprintError` unless `other`, computed at `dtype`, agrees with this one."""
        difference = self.difference(other)
        if not difference <= LOGIT_TOLERANCE[dtype]:  # also true for NaN
            raise FingerprintError(
                f"“{name}” loaded, but its logits differ from the stored fingerprint by {difference:.2f} standard "
                f"deviations (at most {LOGIT_TOLERANCE[dtype]} expected in {dtype}). The files changed or a library "
                "computes something else: fetch or convert the model again."
            )

    def difference(self, other: "Fingerprint") -> float:
        """Largest difference between the logits, in standard deviations of this one's; infinite for other inputs."""
        a, b = np.array(self.logits), np.array(other.logits)
        if self.tokens != other.tokens or a.shape != b.shape:
            return float("inf")
        return float(np.max(np.abs(a - b)) / max(float(a.std()), 1e-9))
