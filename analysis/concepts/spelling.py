"""Normalises the texts of facts (NFC, no blanks at the ends), and decides where a space stands between two texts.

The constructors of `Fact`, `Translation` and `Concept` use it, so facts of every file format, and those built in Python,
are spelled alike.
"""

import unicodedata

from analysis.errors import ConceptError

__all__ = ["clean", "clean_template", "composed", "gap", "joined"]

_INVISIBLE = "\ufeff\u200b"
"""Byte order mark and zero-width space, which spreadsheets and web pages leave at the ends of texts."""

_UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x0F00, 0x0FFF),  # Tibetan
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x2E80, 0x2FDF),  # radicals
    (0x3000, 0x30FF),  # punctuation, Hiragana, Katakana
    (0x3100, 0x312F),  # Bopomofo
    (0x31A0, 0x31FF),
    (0x3200, 0x4DBF),
    (0x4E00, 0x9FFF),  # Han
    (0xF900, 0xFAFF),
    (0xFE30, 0xFE4F),
    (0xFF00, 0xFF9F),  # full-width forms, half-width Katakana
    (0x20000, 0x3FFFF),
)
"""Ranges of characters whose scripts put no space between words."""


def clean(text: str) -> str:
    """The text in Unicode's composed form (NFC), without white space at its ends.

    White space at an end would double the space that stands between a prompt and its answer, so that a tokenizer reads
    another word: “ Paris” after “the city of ” is not “Paris”.
    """
    before, text = "", unicodedata.normalize("NFC", text)
    while before != text:
        before, text = text, text.strip().strip(_INVISIBLE)
    return text


def clean_template(text: str) -> str:
    """A template as `clean` gives it, but with its line breaks: a template that ends in one is followed by no space."""
    return unicodedata.normalize("NFC", text).strip(f" \t\u00a0\u3000{_INVISIBLE}")


def composed(text: str, spans: tuple[tuple[int, int], ...]) -> tuple[str, tuple[tuple[int, int], ...]]:
    """A sentence in NFC, and its spans moved to the same words.

    Raises:
        ConceptError: a span begins or ends inside a character that is written in several parts.
    """
    whole = unicodedata.normalize("NFC", text)
    if whole == text:
        return text, spans

    def moved(offset: int) -> int:
        head = unicodedata.normalize("NFC", text[:offset])
        if head + unicodedata.normalize("NFC", text[offset:]) != whole:
            raise ConceptError(
                f"a span begins or ends at {offset}, inside a character. Give the offsets of whole characters"
            )
        return len(head)

    return whole, tuple((moved(start), moved(end)) for start, end in spans)


def gap(left: str, right: str) -> str:
    """What stands between two texts: a space; nothing after a line break, or between scripts without spaces."""
    return "" if left.endswith("\n") or (_unspaced(left[-1:]) and _unspaced(right[:1])) else " "


def joined(prompt: str, answer: str) -> str:
    """The prompt without spaces at its end, followed by the answer."""
    prompt = prompt.rstrip(" ")
    return f"{prompt}{gap(prompt, answer)}{answer}"


def _unspaced(char: str) -> bool:
    return bool(char) and ord(char) >= _UNSPACED[0][0] and any(first <= ord(char) <= last for first, last in _UNSPACED)
