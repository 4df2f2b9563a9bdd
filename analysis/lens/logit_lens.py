"""The logit lens: decodes the residual stream after every layer with the model's own final norm and unembedding.

Source: nostalgebraist 2020, "interpreting GPT: the logit lens". It is not causal evidence: the model need not use what
the lens decodes, and information that it cannot decode may be present in another basis.

Axes: `R` depth row (row 0 the embedding, row l + 1 the residual stream after layer l), `P` position, `K` top prediction,
`B` batch, `D` d_model, `V` vocabulary. A layer is counted as in `blocks.{l}`; -1 stands for the embedding.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from analysis.concepts import Concept, Fact
from analysis.concepts.spelling import joined
from analysis.errors import (
    ConceptError,
    ConfigError,
    UnsupportedArchitectureError,
)
from analysis.lens.unembedding import token_text
from analysis.models import LanguageModel
from analysis.models.finite import check_finite
from analysis.scoring.batches import bucket, pad, span_tokens

__all__ = [
    "DECODABLE_RANK",
    "MAX_POSITIONS",
    "LogitLens",
    "depths",
    "layer_label",
    "logit_lens",
]

MAX_POSITIONS = 64
"""Most positions shown: the last ones of a longer prompt, which the model still reads whole."""

DECODABLE_RANK = 10
"""An answer counts as decodable at a layer if it is among this many top predictions."""

_TOKENS_PER_BATCH = 1024


@dataclass(frozen=True, kw_only=True, eq=False)
class LogitLens:
    """Predictions decoded at each layer and position of one prompt."""

    model: str
    prompt: str
    """The text as given, without trailing spaces if an answer was given."""
    tokens: tuple[str, ...]
    """The tokens of the positions shown, with visible white space."""
    layers: tuple[str, ...]
    """Labels of the rows: "embed", "0", "1", ..."""
    top_RPK: np.ndarray
    """The most probable next tokens, best first, with visible white space: strings (object array)."""
    p_top_RPK: np.ndarray
    """Their probabilities, float32."""
    entropy_RP: np.ndarray
    """Entropy of the prediction, nats, float32."""
    kl_RP: np.ndarray
    """KL divergence KL(final ‖ row) of the row from the model's output distribution, nats, float32."""
    n_cut: int
    """Number of leading tokens that the model reads but that are not shown."""
    answer: str | None
    """The answer as given, without spaces around it; None without an answer, as are the four fields that follow."""
    answer_tokens: tuple[str, ...] | None
    """The answer's tokens after the prompt, with visible white space; probability and rank are those of the first."""
    p_answer_RP: np.ndarray | None
    """Probability of the answer's first token, float32."""
    rank_answer_RP: np.ndarray | None
    """Its rank among all tokens, 1 = top, int64."""
    depth: int | None
    """First layer from which on the answer stays the top prediction at the last position; None = never."""
    first_decodable: int | None
    """First layer at which the answer is among the top `DECODABLE_RANK` at the last position; None = never."""

    def table(self) -> pd.DataFrame:
        """One row a layer and position: layer, position, token, prediction, probability, entropy, kl[, p_answer, rank].

        Positions are counted from 0 in the whole prompt; white space in tokens is visible (`visible`).
        """
        n_rows, n_positions = self.entropy_RP.shape
        columns = {
            "layer": np.repeat(np.array(self.layers, dtype=object), n_positions),
            "position": np.tile(np.arange(self.n_cut, self.n_cut + n_positions), n_rows),
            "token": np.tile(np.array(self.tokens, dtype=object), n_rows),
            "prediction": self.top_RPK[:, :, 0].ravel(),
            "probability": self.p_top_RPK[:, :, 0].ravel(),
            "entropy": self.entropy_RP.ravel(),
            "kl": self.kl_RP.ravel(),
        }
        if self.p_answer_RP is not None and self.rank_answer_RP is not None:
            columns |= {"p_answer": self.p_answer_RP.ravel(), "rank": self.rank_answer_RP.ravel()}
        return pd.DataFrame(columns)


def logit_lens(model: LanguageModel, text: str, *, answer: str | None = None, top: int = 5) -> LogitLens:
    """Read every layer's residual stream at every position of `text` through the final norm and the unembedding.

    Runs one forward pass, and checks that the last row equals the model's own output.

    Args:
        model: The model.
        text: The prompt.
        answer: Looked for after the prompt and one space, as in `Concept.statements`; if it has several tokens, only
            the first is looked for.
        top: Number of predictions kept in each cell.

    Raises:
        ConceptError: the prompt or the answer is empty, or longer than the model's context.
        ConfigError: `top` is out of range.
        MissingHookError: the model has no residual stream that can be hooked.
        ModelFileError: logits are not finite.
        UnsupportedArchitectureError: the last row differs from the model's own output.
    """
    if not 1 <= top <= model.vocabulary_size:
        raise ConfigError(f"top is {top}; it must lie between 1 and the vocabulary's {model.vocabulary_size:,} tokens.")
    if not text.strip():
        raise ConceptError("The prompt is empty. Type the beginning of a sentence.")
    if answer is None:
        prompt, ids, answer_ids = text, model.encode(text).ids, ()
    else:
        answer, prompt = answer.strip(), text.rstrip(" ")
        if not answer:
            raise ConceptError("The answer is empty. Type the word the prompt asks for, or leave the answer out.")
        statement = joined(prompt, answer)
        ids, answer_ids = _split_statement(model, statement, len(statement) - len(answer))
    _check_length(model, ids)
    shown = min(len(ids), MAX_POSITIONS)
    tokens = torch.tensor([ids], device=model.device)
    residual_RPD, output_PV = _residuals(model, tokens, [(0, p) for p in range(len(ids) - shown, len(ids))])
    with torch.inference_mode():
        final_PV = output_PV.log_softmax(-1)
        rows = [
            _read(model.readout.unembed(row_PD).log_softmax(-1), final_PV, top, answer_ids) for row_PD in residual_RPD
        ]
    top_ids, p_top, entropy, kl, p_answer, rank = (np.stack(parts) for parts in zip(*rows))
    names = {int(i): token_text(model, int(i)) for i in np.unique(top_ids)}
    asked = bool(answer_ids)
    return LogitLens(
        model=model.name,
        prompt=prompt,
        tokens=tuple(token_text(model, i) for i in ids[-shown:]),
        layers=("embed", *map(str, range(model.n_layers))),
        top_RPK=np.array([names[int(i)] for i in top_ids.flat], dtype=object).reshape(top_ids.shape),
        p_top_RPK=p_top,
        entropy_RP=entropy,
        kl_RP=kl,
        n_cut=len(ids) - shown,
        answer=answer,
        answer_tokens=tuple(token_text(model, i) for i in answer_ids) if asked else None,
        p_answer_RP=p_answer if asked else None,
        rank_answer_RP=rank if asked else None,
        depth=_depth(rank[:, -1]) if asked else None,
        first_decodable=_first_decodable(rank[:, -1]) if asked else None,
    )


def depths(model: LanguageModel, concept: Concept, facts: Sequence[Fact]) -> pd.DataFrame:
    """Depth at which each fact's answer appears: one row per fact, at the last position of its first template's prompt.

    Columns: subject, answer, depth and first_decodable (as in `LogitLens`, missing = never), p_answer and rank of the
    answer's first token at the model's output.

    Raises:
        ConceptError: there are no facts, or a prompt is longer than the model's context.
    """
    if not facts:
        raise ConceptError(f"“{concept.name}” has no facts here, so there is no answer to look for. Choose some facts.")
    prompts = [_split_statement(model, *next(concept.statements(fact))) for fact in facts]
    for ids, _ in prompts:
        _check_length(model, ids)
    rank_BR = np.zeros((len(facts), model.n_layers + 1), dtype=np.int64)
    p_B = np.zeros(len(facts), dtype=np.float32)
    for chosen in bucket([len(ids) for ids, _ in prompts], _TOKENS_PER_BATCH):
        tokens = pad([prompts[i][0] for i in chosen], model)
        last = [(b, len(prompts[i][0]) - 1) for b, i in enumerate(chosen)]
        answer_B = torch.tensor([prompts[i][1][0] for i in chosen], device=model.device)
        residual_RBD, output_BV = _residuals(model, tokens, last)
        with torch.inference_mode():
            ranks = [_rank(model.readout.unembed(row_BD), answer_B) for row_BD in residual_RBD]
            p_B[chosen] = output_BV.softmax(-1).gather(1, answer_B[:, None])[:, 0].cpu().numpy()
        rank_BR[chosen] = torch.stack(ranks, dim=1).cpu().numpy()
    return pd.DataFrame(
        {
            "subject": [fact.subject for fact in facts],
            "answer": [fact.answer for fact in facts],
            "depth": pd.array([_depth(row) for row in rank_BR], dtype="Int64"),
            "first_decodable": pd.array([_first_decodable(row) for row in rank_BR], dtype="Int64"),
            "p_answer": p_B,
            "rank": rank_BR[:, -1],
        }
    )


def layer_label(layer: int) -> str:
    """ "layer 7"; -1 is "the embedding"."""
    return "the embedding" if layer < 0 else f"layer {layer}"


def _split_statement(model: LanguageModel, statement: str, start: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Token ids of a statement's prompt and of its answer, which starts at character `start`."""
    encoded = model.encode(statement)
    positions = [p for p in span_tokens(encoded, start, len(statement)) if p > 0]
    if not positions:
        raise ConceptError(f"The answer of “{statement[:60]}” has no token after the prompt. Lengthen the prompt.")
    first, last = positions[0], positions[-1]
    return encoded.ids[:first], encoded.ids[first : last + 1]


def _check_length(model: LanguageModel, ids: Sequence[int]) -> None:
    if len(ids) > model.context_length:
        raise ConceptError(
            f"The prompt has {len(ids):,} tokens; the model's context is {model.context_length:,}. Shorten it."
        )


def _residuals(
    model: LanguageModel, tokens_BP: Int[Tensor, "B P"], where: Sequence[tuple[int, int]]
) -> tuple[Float[Tensor, "R W D"], Float[Tensor, "W V"]]:
    """Residual stream of every row, and the model's own logits, at the (text, position) pairs `where`, in one pass."""
    names = ["blocks.0.hook_resid_pre", *(f"blocks.{layer}.hook_resid_post" for layer in range(model.n_layers))]
    model.require_hooks(names, "the logit lens")
    texts, positions = (list(parts) for parts in zip(*where))
    kept: dict[str, Tensor] = {}

    def keep(name: str) -> Callable:
        def hook(activation: Tensor, hook: object) -> None:
            kept[name] = activation[texts, positions]

        return hook

    # logits are as large as the vocabulary, so only those from the first wanted position on are computed
    n_last = tokens_BP.shape[1] - min(positions)
    with model.hooks([(name, keep(name)) for name in names]), torch.inference_mode():
        logits_BKV = model.logits(tokens_BP, keep=n_last)
        output_WV = logits_BKV[texts, [p - tokens_BP.shape[1] + n_last for p in positions]].float()
        del logits_BKV
        residual_RWD = torch.stack([kept[name] for name in names])
        last_WV = model.readout.unembed(residual_RWD[-1])
    check_finite(model, output_WV)
    noise = 1e-3 if model.dtype == "float32" else 5e-2
    if float((last_WV - output_WV).abs().max()) > noise * float(output_WV.std()):
        raise UnsupportedArchitectureError(
            f"Reading the last layer of “{model.name}” through its final norm and unembedding does not give the "
            "model's own logits, so a logit lens would mislead. Choose a model of another architecture."
        )
    return residual_RWD, output_WV


def _read(
    log_p_PV: Float[Tensor, "P V"], final_PV: Float[Tensor, "P V"], top: int, answer_ids: Sequence[int]
) -> tuple[np.ndarray, ...]:
    """Reduces a row to top ids and their probabilities [P, K], entropy, KL, and the answer's p and rank [P]."""
    best = log_p_PV.topk(top)
    entropy_P = -(log_p_PV.exp() * log_p_PV).sum(-1)
    kl_P = (final_PV.exp() * (final_PV - log_p_PV)).sum(-1).clamp_min(0)
    answer_P = torch.full((len(log_p_PV),), answer_ids[0] if answer_ids else 0, device=log_p_PV.device)
    p_P = log_p_PV.gather(1, answer_P[:, None])[:, 0].exp()
    parts = (best.indices, best.values.exp(), entropy_P, kl_P, p_P, _rank(log_p_PV, answer_P))
    return tuple(part.cpu().numpy() for part in parts)


def _rank(logits_BV: Float[Tensor, "B V"], answer_B: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
    """1 + the number of tokens with a larger logit than the answer's."""
    return 1 + (logits_BV > logits_BV.gather(1, answer_B[:, None])).sum(-1)


def _depth(rank_R: np.ndarray) -> int | None:
    """First layer from which on the rank stays 1; None if it is not 1 at the end."""
    missed = np.flatnonzero(rank_R != 1)
    first = int(missed[-1]) + 1 if missed.size else 0
    return first - 1 if first < len(rank_R) else None


def _first_decodable(rank_R: np.ndarray) -> int | None:
    """First layer with a rank of at most `DECODABLE_RANK`; None if there is none."""
    found = np.flatnonzero(rank_R <= DECODABLE_RANK)
    return int(found[0]) - 1 if found.size else None
