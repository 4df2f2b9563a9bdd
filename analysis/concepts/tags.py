"""Reads the tags of tokens into names: IOB1, IOB2, IOE, BIOES, BILOU, BMES, BMEWO, with the letter before or after the type.

Which of these forms a file uses is decided once for all of its tags, because a tag alone does not tell: “LOC-B” may be a
letter after a type, or a type of its own. IOB: Ramshaw & Marcus (1995); BIOES and BILOU: Ratinov & Roth (2009).
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from analysis.errors import ConceptError

__all__ = ["Entity", "Tags", "entities", "is_tag", "tags_of", "types_before"]

_NO_LABEL = {"O", "o", "N/A", "n/a", "-", "_"}
_OPENING, _CLOSING = set("BUSW"), set("LUESW")
_LETTERS = "BILUESMW"
_SEPARATOR = r"[-_:./|]"
_SHORT_END = re.compile(rf"(\S+){_SEPARATOR}\w{{1,2}}")
_BARE = re.compile(rf"[{_LETTERS}{_LETTERS.lower()}]")
_BEFORE = re.compile(rf"([{_LETTERS}{_LETTERS.lower()}])({_SEPARATOR})(\S.*)")
_AFTER = re.compile(rf"(\S.*)({_SEPARATOR})([{_LETTERS}{_LETTERS.lower()}])")
_WORD = r"begin|beginning|beg|start|first|inside|in|middle|mid|intermediate|cont|end|last|single|singleton|unit|whole"
_WORDS = (
    re.compile(rf"({_WORD}){_SEPARATOR}(?P<type>\S.*)", re.IGNORECASE),
    re.compile(rf"(?P<type>\S.*){_SEPARATOR}({_WORD})", re.IGNORECASE),
)
_BRACKETS = re.compile(r"\*|\(.*|.*\*\)|\d+\)")
_TWICE = re.compile(rf"[{_LETTERS}]-[^|,;]+[|,;][{_LETTERS}]-.+")
_UNTYPED = "entity"
"""The type of the names in a file whose tags are letters without a type."""


@dataclass(frozen=True, kw_only=True)
class Entity:
    """Tokens [start, end) of a sentence that carry one label."""

    label: str
    start: int
    end: int


@dataclass(frozen=True)
class Tags:
    """How each tag of a file is read."""

    scheme: str
    """Name of the scheme, such as “BIOES”; “plain labels” where no tag has a letter."""
    read: dict[str, tuple[str, str]]
    """Tag -> (letter in upper case, or nothing; type, which is empty where there is no label)."""


@dataclass(frozen=True)
class _Form:
    """A way to write a letter with a type: “B-LOC”, “b_loc”, “LOC-B”, “B”."""

    place: str
    """“before”, “after” or “alone”."""
    separator: str
    lower: bool


_USUAL = _Form("before", "-", lower=False)


def is_tag(column: str) -> bool:
    """Whether a column could be the tag of a token: no label, or a letter of a scheme with a type."""
    return column in _NO_LABEL or any(pattern.fullmatch(column) for pattern in (_BEFORE, _AFTER))


def types_before(tags: Iterable[str]) -> set[str]:
    """The types of those tags that are like “B-LOC”."""
    return {match[3] for match in map(_BEFORE.fullmatch, set(tags)) if match and match[2] == "-"}


def tags_of(tags: Iterable[str]) -> Tags:
    """Decide how the tags of a file are read.

    The form that most tags have is taken if its letters make a scheme; tags of no form are types by themselves.

    Raises:
        ConceptError: the tags are those of a scheme that cannot be read, or of two forms (names both).
    """
    labelled = Counter(tag for tag in tags if tag not in _NO_LABEL)
    _refuse_other_schemes(labelled)
    read = dict.fromkeys(_NO_LABEL, ("", ""))
    forms = {tag: list(_forms(tag)) for tag in labelled}
    candidates = {form for found in forms.values() for form, _, _ in found}
    accepted = [form for form in candidates if _makes_scheme(form, forms)]
    if not accepted:
        _refuse_joined_letters(labelled)
        return Tags("plain labels", read | {tag: ("", tag) for tag in labelled})

    def weight(form: _Form) -> tuple[int, bool, bool, str]:
        fitting = sum(labelled[tag] for tag, found in forms.items() if any(one == form for one, _, _ in found))
        return fitting, form == _USUAL, form.place == "before", form.separator

    form = max(accepted, key=weight)
    own: dict[str, tuple[str, str]] = {}
    for tag, found in forms.items():
        match = next(((letter, kind) for one, letter, kind in found if one == form), None)
        if match is None and any(one in accepted or one == _USUAL or one.place == "alone" for one, _, _ in found):
            usual = max((one for one in forms if any(each[0] == form for each in forms[one])), key=labelled.__getitem__)
            raise ConceptError(
                f"the tags have two forms: most are like “{usual}”, but there is “{tag}” too. Write all of them like “B-LOC”"
            )
        own[tag] = match or ("", tag)
    _refuse_foreign_letters(own)
    return Tags(_scheme({letter for letter, _ in own.values() if letter}), read | own)


def entities(tags: Sequence[str], known: Tags) -> Iterator[Entity]:
    """The labelled stretches of a sentence, in order."""
    label, start, closed = "", 0, True
    for i, tag in enumerate((*tags, "O")):
        letter, kind = known.read[tag]
        if label and (kind.casefold() != label.casefold() or closed or letter in _OPENING):
            yield Entity(label=label, start=start, end=i)
            label = ""
        if kind and not label:
            label, start = kind, i
        closed = letter in _CLOSING


def _forms(tag: str) -> Iterator[tuple[_Form, str, str]]:
    """Every (form, letter, type) as which a tag can be read."""
    if _BARE.fullmatch(tag):
        yield _Form("alone", "", tag.islower()), tag.upper(), _UNTYPED
    if match := _BEFORE.fullmatch(tag):
        yield _Form("before", match[2], match[1].islower()), match[1].upper(), match[3]
    if match := _AFTER.fullmatch(tag):
        yield _Form("after", match[2], match[3].islower()), match[3].upper(), match[1]


def _makes_scheme(form: _Form, forms: dict[str, list[tuple[_Form, str, str]]]) -> bool:
    """Whether the letters that tags of this form carry are those of a scheme, rather than parts of types (“e-mail”)."""
    letters = {letter for found in forms.values() for one, letter, _ in found if one == form}
    if form == _USUAL:
        return bool(letters - {"M", "W"})
    if form.place == "before":
        return bool(letters & {"B", "I"})
    if form.place == "alone":
        return bool(letters & {"B", "I"}) and all(one[0].place == "alone" for found in forms.values() for one in found)
    return ("B" in letters and len(letters) > 1) or letters == {"I"}


def _refuse_foreign_letters(own: Mapping[str, tuple[str, str]]) -> None:
    """Refuse a tag without a letter of the scheme that holds one of its types, such as “X-LOC” or “LOC” beside “B-LOC”.

    As a type by itself it would break a name in two.
    """
    lettered = {kind.casefold(): tag for tag, (letter, kind) in own.items() if letter}
    for tag in (tag for tag, (letter, _) in own.items() if not letter):
        first, *behind = re.split(_SEPARATOR, tag.casefold(), maxsplit=1)
        kinds = {tag.casefold()}
        if behind and len(first) <= 2:
            kinds.add(behind[0])
        if match := _SHORT_END.fullmatch(tag.casefold()):
            kinds.add(match[1])
        if kind := next((one for one in kinds if one in lettered), None):
            raise ConceptError(
                f"“{tag}” is of the type of “{lettered[kind]}”, but has no letter of its scheme. Write all tags in one scheme, "
                "such as B-LOC, I-LOC and O"
            )


def _refuse_joined_letters(labelled: Iterable[str]) -> None:
    """Refuse “BLOC” and “ILOC”: letters joined to a type, which as types by themselves would break every name in two."""
    tags = set(labelled)
    for tag in sorted(tags):
        if len(tag) > 2 and tag[0] == "B" and tag[1].isalpha():
            other = next((letter + tag[1:] for letter in "IME" if letter + tag[1:] in tags), None)
            if other is not None:
                raise ConceptError(
                    f"“{tag}” and “{other}” look like letters of a scheme joined to a type. Write B-LOC, I-LOC and O"
                )


def _scheme(letters: set[str]) -> str:
    if letters <= {"B", "I"}:
        return "IOB"
    if "W" in letters:
        return "BMEWO"
    if "M" in letters:
        return "BMES"
    return "BILOU" if letters & {"L", "U"} else "BIOES"


def _refuse_other_schemes(labelled: Iterable[str]) -> None:
    """Refuse the tags of schemes that would otherwise be taken for types, and split every name."""
    words: dict[str, set[str]] = {}
    for tag in labelled:
        if _BRACKETS.fullmatch(tag):
            raise ConceptError(
                f"“{tag}” looks like the bracketed spans of CoNLL-2012 (OntoNotes). Convert them to tags such as B-LOC, "
                "I-LOC and O"
            )
        if _TWICE.fullmatch(tag):
            raise ConceptError(f"“{tag}” looks like two tags in one column (nested names). Keep one tag a token")
        for pattern in _WORDS:
            if match := pattern.fullmatch(tag):
                words.setdefault(match["type"].casefold(), set()).add(tag)
    if split := next((sorted(found) for found in words.values() if len(found) > 1), None):
        raise ConceptError(
            f"“{split[0]}” and “{split[1]}” look like a scheme that marks begin and inside by words. Write B-, I-, E- "
            "and S- before the type"
        )
