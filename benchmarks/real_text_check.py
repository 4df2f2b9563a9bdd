"""Does the library agree with a plain computation on real labelled text?

    python benchmarks/real_text_check.py --tokens tokens.txt --labels labels.txt [--model smollm2-135m] [--sentences 0]
        [--neurons 200] [--json]

The files hold a sentence a line: its tokens, and as many labels, “N/A” for none. The library's probeless scores (one
streamed pass over padded batches) and highest activating words (a trace) are compared with a computation that shares
nothing with them but the model: one sentence at a time, PyTorch's own hooks, numpy in float64, labels and words taken
from the files' tokens.
"""

import argparse
import json
import logging
import sys
import time
import unicodedata
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run from anywhere, without installing

from analysis import models, saliency
from analysis.components.neurons import NeuronSet
from analysis.concepts import Concept
from analysis.concepts.conll import from_token_lines
from analysis.models import LanguageModel
from analysis.models.catalog import DEFAULT_MODEL
from analysis.neuron_cards.token_activations import token_activations
from analysis.neuron_cards.top_words import word_scores


@dataclass
class Direct:
    """What the plain computation gathers."""

    sums: np.ndarray
    """Activations summed over labelled and other tokens, [2, L, N]."""
    counts: np.ndarray = field(default_factory=lambda: np.zeros(2))
    occurrences: list[tuple[str, np.ndarray]] = field(default_factory=list)
    """Every word with the chosen neurons' activations at its last token."""


def main() -> None:
    """Print the differences, as text or as one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=Path, required=True)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--sentences", type=int, default=0, help="use only the first so many; 0 = all")
    parser.add_argument("--neurons", type=int, default=200, help="half the most salient ones, half drawn at random")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    token_lines, label_lines = (
        [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        for path in (options.tokens, options.labels)
    )
    if options.sentences:
        token_lines, label_lines = token_lines[: options.sentences], label_lines[: options.sentences]
    concept = from_token_lines(
        *("\n".join(" ".join(line) for line in lines) for lines in (token_lines, label_lines)), name="real-text"
    )
    model = models.load(options.model, device="cpu")
    (ours, scored_seconds) = _timed(lambda: saliency.measure(model, [concept])[0])
    random = np.random.default_rng(0)
    half = options.neurons // 2
    chosen = NeuronSet(np.r_[ours.order[:half], random.choice(ours.order[half:], half, replace=False)], model.shape)
    words, traced_seconds = _timed(lambda: _words(model, concept, chosen))
    direct, direct_seconds = _timed(lambda: _direct(model, token_lines, label_lines, chosen))
    means = direct.sums / direct.counts[:, None, None]
    plain = np.abs(means[0] - means[1])
    top = ours.order[: plain.size // 100]
    figures = {
        "sentences": len(token_lines),
        "tokens_concept_other": [ours.n_concept_tokens, ours.n_other_tokens],
        "tokens_concept_other_direct": [int(count) for count in direct.counts],
        "probeless_max_relative_top_1_percent": _relative(ours.scores_LN.ravel()[top], plain.ravel()[top]),
        "probeless_max_difference_over_layer_maximum": float(
            (np.abs(ours.scores_LN - plain) / plain.max(axis=1, keepdims=True)).max()
        ),
        "probeless_spearman": float(_spearman(ours.scores_LN, plain)),
        "probeless_top_1_percent_shared": len(set(top) & set(np.argsort(-plain, axis=None)[: top.size])) / top.size,
        **_compare_words(words, direct, chosen),
        "seconds": {
            "streamed saliency": round(scored_seconds, 1),
            "trace and words": round(traced_seconds, 1),
            "direct": round(direct_seconds, 1),
        },
    }
    lines = [json.dumps(figures)] if options.json else [f"{name}: {value}" for name, value in figures.items()]
    print("\n".join(lines))


def _words(model: LanguageModel, concept: Concept, chosen: NeuronSet) -> tuple[Any, Any]:
    """Scores of all words, and the five best, of every chosen neuron."""
    traced = token_activations(model, concept.sentences, chosen, skip_first=True)
    return word_scores(traced, minimum=0.0, top=None), word_scores(traced)


def _direct(
    model: LanguageModel, token_lines: list[list[str]], label_lines: list[list[str]], chosen: NeuronSet
) -> Direct:
    found = Direct(np.zeros((2, *model.shape)))
    seen: dict[int, np.ndarray] = {}
    handles = []
    for layer in range(model.n_layers):

        def keep(module: object, arguments: tuple, layer: int = layer) -> None:
            seen[layer] = arguments[0][0].double().numpy()

        handles.append(model.blocks[layer].mlp_output.register_forward_pre_hook(keep))
    try:
        for tokens, labels in zip(token_lines, label_lines, strict=True):
            text = " ".join(tokens)
            encoded = model.encode(text)
            with torch.inference_mode():
                model.residual(torch.tensor([encoded.ids]))
            values_LPN = np.stack([seen[layer] for layer in range(model.n_layers)])
            _gather(found, text, tokens, labels, encoded.offsets, values_LPN, chosen)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _gather(
    found: Direct,
    text: str,
    tokens: list[str],
    labels: list[str],
    offsets: tuple[tuple[int, int], ...],
    values_LPN: np.ndarray,
    chosen: NeuronSet,
) -> None:
    """Add one sentence: its tokens to the sums, the words after the first to the occurrences."""
    labelled = np.zeros(len(text), dtype=bool)
    piece_of = np.full(len(text), -1)
    pieces: list[str] = []
    begin = 0
    for token, label in zip(tokens, labels, strict=True):
        labelled[begin : begin + len(token)] = label != "N/A"
        marks = "".join({char for char in token if unicodedata.category(char)[0] == "P"})
        lead = len(token) - len(token.lstrip(marks))
        core = token.strip(marks)
        at = begin
        for piece in (token[:lead], core, token[lead + len(core) :]):
            piece_of[at : at + len(piece)] = len(pieces)
            pieces.append(piece)
            at += len(piece)
        begin += len(token) + 1
    last_position: dict[int, int] = {}
    for position, (start, end) in enumerate(offsets):
        if end <= len(tokens[0]):
            continue
        group = 0 if labelled[start:end].any() else 1
        found.sums[group] += values_LPN[:, position]
        found.counts[group] += 1
        inside = piece_of[start:end]
        if (inside >= 0).any():
            last_position[int(inside[inside >= 0][0])] = position
    flat_PK = values_LPN.transpose(1, 0, 2).reshape(len(offsets), -1)[:, chosen.flat]
    for piece, position in sorted(last_position.items()):
        found.occurrences.append((pieces[piece], flat_PK[position]))


def _compare_words(words: tuple[Any, Any], direct: Direct, chosen: NeuronSet) -> dict[str, Any]:
    every, best = words
    values_OK = np.stack([values for _, values in direct.occurrences])
    sizes_OK = np.abs((values_OK - values_OK.mean(axis=0)) / values_OK.std(axis=0))
    rows = defaultdict(list)
    for row, (word, _) in enumerate(direct.occurrences):
        rows[word].append(row)
    means = {word: sizes_OK[own].mean(axis=0) for word, own in rows.items()}
    highest_K = np.max(list(means.values()), axis=0)
    names = {str(neuron): k for k, neuron in enumerate(chosen)}
    table = every.table
    plain = np.array([means[word][names[n]] / highest_K[names[n]] for word, n in zip(table["word"], table["neuron"])])
    scores = table["score"].to_numpy()
    strong = plain > 0.1
    lists = list(means)
    matrix_WK = np.stack([means[word] for word in lists])
    scaled_WK = matrix_WK / highest_K
    best_K = [
        [w for w in np.argsort(-scaled_WK[:, k], kind="stable")[:5] if scaled_WK[w, k] > 0.1] for k in names.values()
    ]
    same = [tuple(lists[w] for w in best_K[k]) == best.words_K[k] for k in names.values()]
    return {
        "different_words": every.n_words,
        "different_words_direct": len(means),
        "word_scores_max_relative_above_0.1": _relative(scores[strong], plain[strong]),
        "word_scores_max_difference": float(np.abs(scores - plain).max()),
        "neurons_with_the_same_top_words": float(np.mean(same)),
    }


def _relative(ours: np.ndarray, plain: np.ndarray) -> float:
    return float((np.abs(ours - plain) / np.abs(plain)).max())


def _spearman(a: np.ndarray, b: np.ndarray) -> Any:
    found: Any = stats.spearmanr(a.ravel(), b.ravel())
    return found.statistic


def _timed(way: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    return way(), time.perf_counter() - started


if __name__ == "__main__":
    main()
