"""Runs a batch of prompt pairs once and resumes the forward pass at any layer, with hooks.

Patching needs hundreds of passes that differ from one base pass only from some layer on. A `Run` keeps the input of every
block, so that each pass starts at that layer, and unembeds only positions that predict an answer. One batch is held at a
time, so memory does not grow with the number of prompts.

Axes: `B` batch, `P` position, `W` position that a score needs, `K` last position, `H` attention head, `D` d_model,
`V` vocabulary, `S` residual stream.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from analysis.components.circuit import Component
from analysis.errors import UnsupportedArchitectureError
from analysis.models import LanguageModel
from analysis.models.finite import check_finite
from analysis.scoring.contrast_pairs import Metric, PairBatch, score

__all__ = ["Hooks", "Run", "patch_hooks", "require_heads", "site"]

Hooks = Sequence[tuple[str, Callable]]

_LOGITS_AT_ONCE = 2**26
"""256 MiB in float32."""


class Run:
    """The clean or the corrupted pass over a batch.

    Args:
        model: The model.
        batch: Pairs of clean and corrupted prompts.
        metric: One of `contrast_pairs.METRICS`.
        corrupted: Run the corrupted prompts instead of the clean ones.
        keep: Names of the hooks whose activations are kept.

    Raises:
        MissingHookError: the model lacks one of these hooks.
    """

    def __init__(
        self, model: LanguageModel, batch: PairBatch, metric: Metric, *, corrupted: bool, keep: Iterable[str] = ()
    ):
        self.kept: dict[str, Tensor] = {}
        """Activations at the hooks named in `keep`."""
        self._model = model
        self._metric: Metric = metric
        self._tokens_BP = batch.corrupted_BP if corrupted else batch.clean_BP
        self._corruption = batch.corruption_hooks() if corrupted else []
        self._where_BW, self._answers = _answer_windows(batch, metric)
        # of a whole pass, only the last positions that hold all answers go through the unembedding
        self._n_last = int(batch.clean_BP.shape[1] - batch.last_B.min())
        names = list(dict.fromkeys(keep))
        model.require_hooks(names, "this localization")
        recorders = [(name, self._recorder(name)) for name in names]
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            stack.enter_context(model.hooks([*self._corruption, *recorders]))
            self._inputs = stack.enter_context(model.record_block_inputs())
            self.score_B: Float[Tensor, " B"] = self._score_whole()
        """The metric of each prompt in this run, without patches."""
        self.resumes = self._is_resumable()
        """Whether passes can be resumed; if not, they are run from the embedding on."""

    def score(self, hooks: Hooks, layer: int = 0) -> Float[Tensor, " B"]:
        """The metric of each prompt with `hooks`, none of which may be below `layer`."""
        with torch.inference_mode():
            if self.resumes:
                return self.score_of(self._resumed(hooks, layer, self._model.n_layers))
            with self._model.hooks([*self._corruption, *hooks]):
                return self._score_whole()

    def record(self, hooks: Hooks, names: Iterable[str], first: int, last: int) -> dict[str, Tensor]:
        """Return activations at the hooks `names` under `hooks`; all of them lie in layers `first` to `last`."""
        kept: dict[str, Tensor] = {}
        recorders = [(name, self._recorder(name, kept)) for name in names]
        with torch.inference_mode():
            if self.resumes:
                self._resumed([*hooks, *recorders], first, last + 1)
            else:
                with self._model.hooks([*self._corruption, *hooks, *recorders]):
                    self._model.residual(self._tokens_BP)
        return kept

    def score_of(self, residual_BPD: Float[Tensor, "B P D"]) -> Float[Tensor, " B"]:
        """The metric of each prompt, given the residual stream after the last layer."""
        return self.scores_of([residual_BPD])[0]

    def scores_of(self, residuals: Sequence[Float[Tensor, "B P D"]]) -> Float[Tensor, "S B"]:
        """The metric of each prompt for several residual streams, which share passes through the unembedding."""
        at_once = max(_LOGITS_AT_ONCE // (self._where_BW.numel() * self._model.vocabulary_size), 1)
        scores = []
        with torch.inference_mode():
            for begin in range(0, len(residuals), at_once):
                windows = [self._at_answers(residual_BPD) for residual_BPD in residuals[begin : begin + at_once]]
                logits = self._model.readout.unembed(torch.stack(windows))
                scores += [score(logits_BWV, self._answers, self._metric) for logits_BWV in logits]
        check_finite(self._model, torch.stack(scores))
        return torch.stack(scores)

    def _score_whole(self) -> Float[Tensor, " B"]:
        """The metric after a pass from the embedding on, under the installed hooks."""
        logits_BKV = self._model.logits(self._tokens_BP, keep=self._n_last)
        check_finite(self._model, logits_BKV)
        return score(self._at_answers(logits_BKV), self._answers, self._metric)

    def _at_answers(self, values: Tensor) -> Tensor:
        """Select the answers' positions from values at all positions or at the last ones: [B, W, ...]."""
        where_BW = self._where_BW - (self._tokens_BP.shape[1] - values.shape[1])
        return values[torch.arange(len(where_BW), device=where_BW.device)[:, None], where_BW]

    def _resumed(self, hooks: Hooks, first: int, end: int) -> Float[Tensor, "B P D"]:
        """Run the blocks `first` to `end - 1` on this run's input of block `first`; return the residual stream."""
        with self._model.hooks(hooks):
            return self._inputs.run(first, end)

    def _is_resumable(self) -> bool:
        """Whether resuming the unpatched run half way gives the scores of the whole run.

        It does not if an architecture passes more than the residual stream from block to block, or has more after the
        last block than norm and unembedding.
        """
        if not self._inputs.is_complete:
            return False
        with torch.inference_mode():
            resumed_B = self.score_of(self._resumed([], self._model.n_layers // 2, self._model.n_layers))
        noise = 1e-4 if self._model.dtype == "float32" else 5e-2
        return bool(torch.allclose(resumed_B, self.score_B, rtol=noise, atol=noise))

    def _recorder(self, name: str, kept: dict[str, Tensor] | None = None) -> Callable:
        into = self.kept if kept is None else kept

        def record(activation: Tensor, hook: object) -> None:
            into[name] = activation.detach().clone()

        return record


def site(part: Component) -> str:
    """Name of the hook at which a component's output is patched."""
    hooks = {"mlp": "hook_mlp_out", "head": "attn.hook_z", "neuron": "mlp.hook_post"}
    return f"blocks.{part.layer}.{hooks[part.kind]}"


def patch_hooks(
    parts: Iterable[Component], donor: Mapping[str, Tensor], positions_BP: Bool[Tensor, "B P"]
) -> list[tuple[str, Callable]]:
    """Hooks that replace these components' activations by the donor's where `positions_BP` is True."""
    grouped: dict[str, list[int] | None] = {}
    for part in parts:
        indices = grouped.setdefault(site(part), None if part.kind == "mlp" else [])
        if indices is not None:
            indices.append(part.index)
    return [(name, _patcher(donor[name], positions_BP, indices)) for name, indices in grouped.items()]


def require_heads(model: LanguageModel, z_BPHD: Tensor) -> None:
    """Raise `UnsupportedArchitectureError` if the hook before the output projection is not split into heads."""
    if tuple(z_BPHD.shape[2:]) != (model.n_heads, model.d_head):
        raise UnsupportedArchitectureError(
            f"The attention of “{model.name}” gives {tuple(z_BPHD.shape[2:])} values a position where "
            f"({model.n_heads} heads, {model.d_head}) were expected. Localize MLP layers only."
        )


def _patcher(donor: Tensor, positions_BP: Tensor, indices: list[int] | None) -> Callable:
    where = positions_BP.reshape(*positions_BP.shape, *[1] * (donor.ndim - 2))

    def patch(activation: Tensor, hook: object) -> Tensor:
        if indices is None:
            return torch.where(where, donor, activation)
        patched = activation.clone()
        patched[:, :, indices] = torch.where(where, donor[:, :, indices], activation[:, :, indices])
        return patched

    return patch


def _answer_windows(batch: PairBatch, metric: Metric) -> tuple[Int[Tensor, "B W"], PairBatch]:
    """Return the positions a score needs, from the prompt's last token on, and the batch cut to them.

    The unembedding is the largest matrix of a small model, so it is applied only to positions that are needed.
    """
    n_positions = batch.clean_BP.shape[1]
    length = int(batch.answer_BP.sum(1).max()) if metric == "log_p" else 1
    offsets_W = torch.arange(length + 1, device=batch.clean_BP.device)
    wanted_BW = batch.last_B[:, None] + offsets_W
    where_BW = wanted_BW.clamp(max=n_positions - 1)
    cut = replace(
        batch,
        clean_BP=batch.clean_BP.gather(1, where_BW),
        corrupted_BP=batch.corrupted_BP.gather(1, where_BW),
        noise_BPD=None,
        subject_BP=batch.subject_BP.gather(1, where_BW),
        # beyond the end the last position is repeated, and must not count again
        answer_BP=batch.answer_BP.gather(1, where_BW) & (wanted_BW < n_positions),
    )
    return where_BW, cut
