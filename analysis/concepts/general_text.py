"""General text with the source of each text, and a reader that streams the first texts of a hub data set.

Only `from_hub` uses the network.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from analysis.errors import ConfigError, FetchError

__all__ = ["MAX_TEXTS", "GeneralText", "from_hub"]

MAX_TEXTS = 2000
"""Most texts that can be read or sampled at once."""


@dataclass(frozen=True)
class GeneralText:
    """Texts, each with the name of its source."""

    texts: tuple[str, ...]
    sources: tuple[str, ...]
    """Source of each text."""

    def __add__(self, other: "GeneralText") -> "GeneralText":
        return GeneralText(self.texts + other.texts, self.sources + other.sources)

    def describe(self) -> str:
        """“66 built-in neutral sentences, 16 sampled from the unedited model”."""
        return ", ".join(f"{count} {source}" for source, count in Counter(self.sources).items())

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "GeneralText":
        return cls(tuple(data["texts"]), tuple(data["sources"]))


def from_hub(
    name: str, *, n_texts: int = 64, config: str | None = None, split: str = "train", field: str = "text"
) -> GeneralText:
    """Streams the first `n_texts` texts of at least 100 characters from a hub data set; uses the network.

    Args:
        name: The data set, such as “Salesforce/wikitext”.
        n_texts: Number of texts.
        config: Configuration of the data set, such as “wikitext-2-raw-v1”.
        split: Split to read.
        field: The column that holds the text.

    Raises:
        ConfigError: the number is out of range.
        FetchError: the data set cannot be read (offline, unknown, or no such column).
    """
    if not 1 <= n_texts <= MAX_TEXTS:
        raise ConfigError(f"Take 1 to {MAX_TEXTS} texts, not {n_texts}.")
    texts: list[str] = []
    try:
        from datasets import load_dataset

        for row in load_dataset(name, config, split=split, streaming=True):
            text = row[field].strip()  # type: ignore[index,call-overload]
            if len(text) >= 100:
                texts.append(text)
            if len(texts) == n_texts:
                break
    except Exception as error:  # datasets, the hub client and the network each raise types of their own
        raise FetchError(
            f"The corpus “{name}” cannot be read ({type(error).__name__}: {str(error)[:200]}). Check the name, the "
            "configuration and the network, or use the text that comes with Palimpsest."
        ) from error
    if not texts:
        raise FetchError(f"“{name}” has no text of 100 characters in “{field}”. Name another column or split.")
    return GeneralText(tuple(texts), (f"from {name}",) * len(texts))
