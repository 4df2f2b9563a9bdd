"""Parses tokens with tags into labelled sentences: CoNLL columns, or a file of tokens with a file of labels.

CoNLL has one token per line, with its tag in the last column (Tjong Kim Sang & De Meulder, 2003). Token files have one
sentence per line, and a second file has one label per token, the data format of Lo, Cohen & Barez (arXiv 2401.01814).
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from analysis.concepts.concept import Concept, Sentence
from analysis.concepts.conll_columns import BLANKS, Tagged, columns_of, looks_like_conll, sentences_of
from analysis.concepts.reading import choose, counted, place
from analysis.concepts.spelling import gap
from analysis.concepts.tags import Entity, entities, tags_of
from analysis.errors import ConceptError

__all__ = ["from_token_lines", "looks_like_conll", "parse_conll"]

_ENDS = " \t\r\n"


def parse_conll(text: str, *, name: str = "uploaded", label: str | None = None, filename: str = "the file") -> Concept:
    """Parse one token per line, in columns separated by tabs or blanks, with the tag last; a blank line ends a sentence.

    Tags: O, N/A, - and _ mean no label; a letter before or after a type is read as IOB1, IOB2, BIOES, BILOU, BMES or
    BMEWO (`analysis.concepts.tags`); any other tag is a type by itself, and its neighbours with the same tag belong to one
    name. Sentences are rebuilt with one space between tokens, and none between scripts that have none. `-DOCSTART-` lines
    and comments (see docs/concepts.md) are skipped. If the first column counts the tokens of every sentence (1, 2, 3, …),
    the token is in the second (`analysis.concepts.conll_columns`).

    Args:
        text: the file's content.
        name: name of the concept.
        label: the type whose tokens are labelled, without regard to case; may be left out if there is only one.
        filename: what errors call the file.

    Raises:
        ConceptError: a row is wrong (with its line number); there are several types and none is chosen, or the chosen
            one does not occur (lists the types with their counts).
    """
    return _concept(sentences_of(text, filename), name=name, label=label, filename=filename)


def from_token_lines(
    tokens_text: str,
    labels_text: str,
    *,
    name: str,
    label: str | None = None,
    filename: str = "the files",
) -> Concept:
    """Parse two texts with one sentence per line: its tokens, and one label per token. Labels are read like CoNLL tags.

    Args:
        tokens_text: tokens separated by blanks.
        labels_text: labels separated by blanks.
        name: name of the concept.
        label: the type whose tokens are labelled, without regard to case; may be left out if there is only one.
        filename: what errors call the files.

    Raises:
        ConceptError: a line has unequal numbers of labels and tokens (with its number), or as in `parse_conll`.
    """
    token_lines, label_lines = tokens_text.rstrip(_ENDS).split("\n"), labels_text.rstrip(_ENDS).split("\n")
    sentences: list[list[Tagged]] = []
    for number, (token_line, label_line) in enumerate(zip(token_lines, label_lines), start=1):
        tokens, labels = columns_of(token_line, BLANKS), columns_of(label_line, BLANKS)
        if len(tokens) != len(labels):
            raise ConceptError(f"{filename}, line {number}: {len(tokens)} tokens but {len(labels)} labels")
        if tokens:
            sentences.append(list(zip(tokens, labels)))
    if len(token_lines) != len(label_lines):
        raise ConceptError(f"{filename}: {len(token_lines)} lines of tokens but {len(label_lines)} lines of labels")
    return _concept(sentences, name=name, label=label, filename=filename)


def _concept(sentences: Sequence[list[Tagged]], *, name: str, label: str | None, filename: str) -> Concept:
    with place(filename):
        known = tags_of(tag for tagged in sentences for _, tag in tagged)
        found = [(tagged, list(entities([tag for _, tag in tagged], known))) for tagged in sentences]
        counts = Counter(one.label for _, named in found for one in named)
        if not counts:
            raise ConceptError("no token has a label; tag the words of the concept, such as “B-LOC”")
        if label is None and len(counts) > 1:
            first = counts.most_common(1)[0][0]
            raise ConceptError(
                f"there are several types of label: {counted(counts)}. Choose one as label, such as “{first}”."
            )
        chosen = set(counts) if label is None else choose(counts, label, kind="type")
        return Concept(
            name=name,
            title=name,
            description=f"Sentences: {len(found):,}. Names labelled {min(chosen)}: {sum(counts[one] for one in chosen):,}.",
            sentences=tuple(
                _sentence([token for token, _ in tagged], [one for one in named if one.label in chosen])
                for tagged, named in found
            ),
        )


def _sentence(tokens: Sequence[str], named: Iterable[Entity]) -> Sentence:
    """The tokens as a text, with a space between two of them unless their script has none between words."""
    text, starts = "", []
    for token in tokens:
        text += gap(text, token) if text else ""
        starts.append(len(text))
        text += token
    spans = ((starts[one.start], starts[one.end - 1] + len(tokens[one.end - 1])) for one in named)
    return Sentence(text, tuple(spans))
