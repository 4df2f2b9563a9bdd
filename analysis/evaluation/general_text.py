"""Provides general text for KL and perplexity: built-in sentences, and text sampled from the model at temperature 1.

A hub corpus is not available offline, so text is sampled from the unedited model with a fixed seed and fixed openers.
Sampled text is more predictable for the model than human text, so its source is named wherever numbers are shown.

Axes: `B` text, `V` vocabulary.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import torch

from analysis import concepts, paths
from analysis.concepts.general_text import MAX_TEXTS, GeneralText
from analysis.errors import ConceptError, ConfigError
from analysis.models import LanguageModel
from analysis.models.finite import check_finite
from analysis.progress import Progress
from analysis.scoring.batches import pad

__all__ = ["neutral_text", "offline_text", "sampled_text", "weights_digest"]

OPENERS = tuple("The In I A It When There We If She He For Some After They On".split())
"""First words of the sampled texts, in turn."""
NEUTRAL, SAMPLED = "built-in neutral sentences", "sampled from the unedited model"


def offline_text(model: LanguageModel, *, seed: int = 0, progress: Progress | None = None) -> GeneralText:
    """Text that needs no download: the neutral sentences never trained on, and 16 sampled texts of 48 tokens.

    Call it on the unedited model.
    """
    return neutral_text() + sampled_text(model, n_texts=16, n_tokens=48, seed=seed, progress=progress)


def neutral_text() -> GeneralText:
    """Every fifth built-in neutral sentence: those that relearning and retain sets never train on."""
    _, measured = concepts.split_neutral(concepts.neutral_sentences())
    return GeneralText(tuple(sentence.text for sentence in measured), (NEUTRAL,) * len(measured))


def sampled_text(
    model: LanguageModel,
    *,
    n_texts: int = 16,
    n_tokens: int = 48,
    seed: int = 0,
    progress: Progress | None = None,
) -> GeneralText:
    """Sample text from the model at temperature 1, or read it from the cache, keyed by the model's weights and the seed.

    Args:
        model: The unedited model.
        n_texts: Number of texts.
        n_tokens: New tokens of each text, without the opening word; a text may end earlier.
        seed: Draws the tokens, on the CPU, so that a seed means the same draws on every device.
        progress: Called with the share done.

    Raises:
        ConfigError: a number is out of range.
        ModelFileError: logits are not finite.
    """
    longest = model.context_length - 8
    if not (1 <= n_texts <= MAX_TEXTS and 1 <= n_tokens <= longest):
        raise ConfigError(f"Sample 1 to {MAX_TEXTS} texts of 1 to {longest} tokens, not {n_texts} of {n_tokens}.")
    settings = (weights_digest(model), n_texts, n_tokens, seed, OPENERS)
    path = paths.home() / "general_text" / f"{hashlib.sha256(repr(settings).encode()).hexdigest()[:16]}.json"
    texts = _cached(path) or _sample(model, n_texts, n_tokens, seed, progress)
    if not path.is_file():
        path.parent.mkdir(exist_ok=True)
        paths.write_atomically(path, json.dumps({"model": model.name, "seed": seed, "texts": texts}).encode())
    return GeneralText(tuple(texts), (SAMPLED,) * len(texts))


def weights_digest(model: LanguageModel) -> str:
    """Digest of the model's current weights and precision, whatever its name is: any edit changes it."""
    return hashlib.sha256(repr((model.dtype, model.weights_hash())).encode()).hexdigest()[:16]


def _cached(path: Any) -> list[str] | None:
    try:
        texts = json.loads(path.read_text(encoding="utf-8"))["texts"]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not sampled yet, or damaged: the text is sampled again
    return texts if isinstance(texts, list) and all(isinstance(text, str) for text in texts) else None


def _sample(model: LanguageModel, n_texts: int, n_tokens: int, seed: int, progress: Progress | None) -> list[str]:
    generator = torch.Generator().manual_seed(seed)
    groups: dict[int, list[tuple[int, ...]]] = {}
    for i in range(n_texts):
        ids = model.encode(OPENERS[i % len(OPENERS)]).ids
        groups.setdefault(len(ids), []).append(ids)  # equally long prompts need no padding on the left
    texts: list[str] = []
    for rows in groups.values():
        texts += _continue(
            model, rows, n_tokens, generator, lambda share: progress and progress("Sampling text", share)
        )
    if not any(text.strip() for text in texts):
        raise ConceptError(f"“{model.name}” sampled no text at all. Use a hub corpus.")
    return [text for text in texts if text.strip()]


def _continue(
    model: LanguageModel, rows: Sequence[tuple[int, ...]], n_tokens: int, generator: torch.Generator, report: Any
) -> list[str]:
    tokens_BP = pad(rows, model)
    seen, cache = tokens_BP, None
    with torch.inference_mode(), model.lock:
        for step in range(n_tokens):
            logits_BPV, cache = model.logits_and_cache(tokens_BP, cache)
            last_BV = logits_BPV[:, -1].float().cpu()
            check_finite(model, last_BV)
            drawn_B1 = torch.multinomial(last_BV.softmax(-1), 1, generator=generator)
            tokens_BP = drawn_B1.to(model.device)
            seen = torch.cat([seen, tokens_BP], dim=1)
            report((step + 1) / n_tokens)
    return [_readable(model, row) for row in seen.tolist()]


def _readable(model: LanguageModel, ids: list[int]) -> str:
    """Decode the tokens up to the first special token after the opening ones."""
    special = set(model.tokenizer.all_special_ids)
    begin = next((i for i, token in enumerate(ids) if token not in special), len(ids))
    end = next((i for i in range(begin, len(ids)) if ids[i] in special), len(ids))
    # a token may end in the middle of a character
    return model.decode(ids[begin:end]).replace("�", "")
