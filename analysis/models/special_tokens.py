"""Special tokens of a tokenizer: those it appends to a text, those that end one, and one to pad with."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

__all__ = ["SpecialTokens"]


@dataclass(frozen=True)
class SpecialTokens:
    """What a model's tokenizer and configuration say about special tokens."""

    n_appended: int
    """Tokens, such as EOS, that the tokenizer puts after every text; what follows them is another text."""
    ends: frozenset[int]
    """Tokens at which a generated text ends: those of the generation config, the config and the tokenizer."""
    padding: int
    """A token that has an embedding; in a right-padded batch no real token sees it."""

    @classmethod
    def of(cls, tokenizer: Any, inner: Any, n_embeddings: int) -> "SpecialTokens":
        """Read them.

        Args:
            tokenizer: A fast tokenizer of transformers.
            inner: The transformers model.
            n_embeddings: Rows of its embedding table; a tokenizer may have tokens beyond it.
        """
        added = tokenizer("a", return_special_tokens_mask=True)["special_tokens_mask"]
        n_appended = next((i for i, is_added in enumerate(reversed(added)) if not is_added), 0)
        text_config = inner.config.get_text_config()
        named = (getattr(inner, "generation_config", None), text_config, inner.config, tokenizer)
        ends = frozenset(token for one in named for token in _tokens(getattr(one, "eos_token_id", None)))
        wanted = (tokenizer.pad_token_id, *sorted(ends), 0)
        padding = next(token for token in wanted if token is not None and 0 <= token < n_embeddings)
        return cls(n_appended=n_appended, ends=ends, padding=padding)


def _tokens(value: int | Iterable[int] | None) -> list[int]:
    """A configuration names none, one or several tokens."""
    if value is None:
        return []
    return [value] if isinstance(value, int) else [int(token) for token in value]
