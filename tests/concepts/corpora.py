"""Makes random annotated sentences, and writes them in the formats in which corpora are published.

Tokens, sentences and names are known by construction, so a reader can be held to their numbers.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

TYPES = ("LOC", "MISC", "ORG", "PER")
WORDS = (
    "Leeds",
    "beat",
    "in",
    "the",
    "of",
    "a",
    "UEFA",
    "Cup",
    "#",
    "3",
    "é",
    "New",
    "York",
    "co-op",
    "U.S.",
    '"',
    "O",
    "B-cell",
)
NUMBERS = ("2-1", "1996-97", "3.25", "1", "12", "0-0", "7.1", "2.1")
CHARACTERS = "我去乌鲁木齐玩他叫王小明在北京。"


@dataclass
class Annotated:
    """A sentence: its tokens, and the names in it as (type, first token, token after the last)."""

    tokens: list[str]
    names: list[tuple[str, int, int]] = field(default_factory=list)


def corpus(
    n_sentences: int,
    *,
    seed: int,
    vocabulary: Sequence[str] = (*WORDS, *NUMBERS, *NUMBERS),
    types: Sequence[str] = TYPES,
    longest_name: int = 4,
) -> list[Annotated]:
    """Random sentences of 1 to 14 tokens; names of 1 to `longest_name` tokens, which may follow each other at once."""
    draw = random.Random(seed)
    sentences = []
    for _ in range(n_sentences):
        sentence = Annotated([])
        for _ in range(draw.randint(1, 7)):
            start = len(sentence.tokens)
            named = draw.random() < 0.4
            sentence.tokens += draw.choices(vocabulary, k=draw.randint(1, longest_name if named else 2))
            if named:
                sentence.names.append((draw.choice(types), start, len(sentence.tokens)))
        sentences.append(sentence)
    return sentences


def name_counts(sentences: Sequence[Annotated]) -> Counter[str]:
    return Counter(kind for sentence in sentences for kind, _, _ in sentence.names)


def names_of(sentence: Annotated, kind: str) -> list[tuple[str, ...]]:
    return [tuple(sentence.tokens[start:end]) for one, start, end in sentence.names if one == kind]


def tags(sentence: Annotated, scheme: str = "IOB2") -> list[tuple[str, str]]:
    """(letter, type) of every token; (“O”, “”) where there is none."""
    found = [("O", "")] * len(sentence.tokens)
    before: tuple[str, int] | None = None
    for kind, start, end in sentence.names:
        for i in range(start, end):
            found[i] = (_letter(scheme, i - start, end - start, touching=before == (kind, start)), kind)
        before = (kind, end)
    return found


def _letter(scheme: str, place: int, length: int, *, touching: bool) -> str:
    if scheme == "IOB1":
        return "B" if place == 0 and touching else "I"
    if scheme == "IOB2":
        return "B" if place == 0 else "I"
    begin, inside, end, single = {"BIOES": "BIES", "BILOU": "BILU", "BMES": "BMES", "BMEWO": "BMEW"}[scheme]
    if length == 1:
        return single
    return begin if place == 0 else end if place == length - 1 else inside


def usual(letter: str, kind: str) -> str:
    return f"{letter}-{kind}" if kind else letter


def conll2003(sentences: Sequence[Annotated], *, scheme: str = "IOB1", write: Callable[[str, str], str] = usual) -> str:
    """Four columns between blanks, as in `eng.train`: token, part of speech, chunk, tag; a document every ten sentences."""
    lines = []
    for i, sentence in enumerate(sentences):
        if i % 10 == 0:
            lines += ["-DOCSTART- -X- O O", ""]
        for token, (letter, kind) in zip(sentence.tokens, tags(sentence, scheme)):
            lines.append(f"{token} NN {'I-NP' if token.isalpha() else 'O'} {write(letter, kind)}")
        lines.append("")
    return "\n".join(lines) + "\n"


def wnut17(sentences: Sequence[Annotated], *, scheme: str = "IOB2", write: Callable[[str, str], str] = usual) -> str:
    """Two columns between tabs, without document lines."""
    blocks = [
        "".join(f"{token}\t{write(*tag)}\n" for token, tag in zip(sentence.tokens, tags(sentence, scheme)))
        for sentence in sentences
    ]
    return "\n".join(blocks)


def conll_u(sentences: Sequence[Annotated], *, seed: int, key: str = "") -> str:
    """Ten columns between tabs, with comments, contractions and empty nodes.

    The tag is MISC itself, or, with a `key`, one of its values, beside SpaceAfter.
    """
    draw = random.Random(seed)
    lines = ["# newdoc id = d1"]
    for number, sentence in enumerate(sentences, start=1):
        lines += [f"# sent_id = {number}", f"# text = {' '.join(sentence.tokens)}"]
        if draw.random() < 0.1:
            lines.append("0.1\t_\t_\t_\t_\t_\t_\t_\t0:root\t_")
        for i, (token, tag) in enumerate(zip(sentence.tokens, tags(sentence)), start=1):
            if i < len(sentence.tokens) and draw.random() < 0.1:
                lines.append(f"{i}-{i + 1}\txy\t_\t_\t_\t_\t_\t_\t_\t_")
            misc = usual(*tag) if not key else "|".join(
                ([f"{key}={usual(*tag)}"] if tag[1] or draw.random() < 0.5 else [])
                + (["SpaceAfter=No"] if draw.random() < 0.2 else [])
            )  # fmt: skip
            lines.append("\t".join([str(i), token, token, "NOUN", "_", "_", "0", "root", "_", misc or "_"]))
            if draw.random() < 0.1:
                lines.append(f"{i}.1\tdropped\t_\tVERB\t_\t_\t_\t_\t0:x\t_")
        lines.append("")
    return "\n".join(lines) + "\n"
