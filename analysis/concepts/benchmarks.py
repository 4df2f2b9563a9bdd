"""Recognises the records of published benchmarks by their fields, and turns them into facts, or into pieces of text.

A question is a fact whose subject is the question itself, asked in the frame `QUESTION`; where a record names what the question
is about, and the question mentions it once, that is the subject. What a record has besides (wrong answers, other wordings of
the right one, a counterfactual answer) becomes the fact's `choices`, `aliases` and `counter_answer`.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from analysis.concepts.concept import Concept, Fact, Sentence
from analysis.concepts.preview import Preview
from analysis.concepts.reading import choose, counted, place, text_field
from analysis.concepts.records import Record, Sets
from analysis.concepts.spelling import clean
from analysis.errors import ConceptError

__all__ = ["KINDS", "QUESTION", "Kind", "is_benchmark", "kind_of", "read_sets"]

QUESTION = "Question: {subject}\nAnswer:"
"""How a whole question is asked, as in TOFU's evaluation of models without a chat template."""

_BLANK = re.compile(r"_{2,}")
_LETTER = re.compile(r"[A-Za-z]")
_PIECE = 800
"""Most characters of a piece of text: fewer than the 256 tokens after which sentences are cut."""


@dataclass(frozen=True)
class _Read:
    """What a record gives: a fact or a piece of text, or the reason why it gives none."""

    group: str
    """What a label may choose: a relation, a level; empty where records have none."""
    content: Fact | Sentence | str


@dataclass(frozen=True)
class Kind:
    """A layout of records."""

    title: str
    fields: str
    """What a record needs, for messages."""
    fits: Callable[[Record], bool]
    read: Callable[[Record, tuple[str, ...]], Iterator[_Read]]
    """Yields what a record gives, with the templates that the user gave."""
    groups: str = "relation"
    """What a label chooses."""


def kind_of(record: Record) -> Kind | None:
    """The first layout that fits a record; None if there is none."""
    return next((kind for kind in KINDS if kind.fits(record)), None)


def is_benchmark(record: Record) -> bool:
    """Whether a record has the fields of a known layout, CounterFact's included."""
    return kind_of(record) is not None or isinstance(record.get("requested_rewrite"), dict)


def read_sets(
    sets: Sets,
    *,
    name: str,
    label: str | None = None,
    templates: tuple[str, ...] = (),
    filename: str = "the file",
) -> Preview:
    """Read records of one layout, which the first one tells.

    Args:
        sets: The records.
        name: Name of the concept.
        label: The set to read, where there are several, or the relation or level.
        templates: Prompts for records of subjects and answers without one.
        filename: What errors call the file.

    Raises:
        ConceptError: the layout is not known; a record is wrong (with its number); there are several sets and none is
            chosen; or nothing has the label (lists what there is).
    """
    sets, set_name = _by_split(sets), ""
    if len(sets) > 1 or (label is not None and set(sets) != {""}):
        counts = Counter({key: len(records) for key, records in sets.items()})
        with place(filename):
            if label is None:
                raise ConceptError(f"there are several sets: {counted(counts)}. Choose one as label")
            (set_name,) = choose(counts, label, kind="set")
        label = None
    records = sets[set_name] if set_name in sets else next(iter(sets.values()))
    kind = kind_of(records[0])
    if kind is None:
        known = "; ".join(f"{one.title}: {one.fields}" for one in KINDS)
        found = ", ".join(f"“{field}”" for field in list(records[0])[:12])
        raise ConceptError(f"{filename}, record 1: the fields {found} are of no known layout. Known are: {known}")
    read: list[_Read] = []
    for number, record in enumerate(records, start=1):
        with place(filename, f"record {number}"):
            if not kind.fits(record):
                raise ConceptError(f"the first record is {kind.title} ({kind.fields}), and this one is not")
            read.extend(kind.read(record, templates))
    groups = Counter(one.group for one in read if one.group)
    with place(filename):
        if label is not None:
            if not groups:
                raise ConceptError(f"{kind.title} has no {kind.groups}s to choose from. Leave the label out")
            chosen = choose(groups, label, kind=kind.groups)
            read = [one for one in read if one.group in chosen]
        return _concept(kind, read, len(records), groups, name=name)


def _by_split(sets: Sets) -> Sets:
    """Several sets where the records of the only one say to which split they belong, such as forget and retain."""
    if set(sets) != {""} or not all(isinstance(record.get("split"), str) for record in sets[""]):
        return sets
    found: Sets = {}
    for record in sets[""]:
        found.setdefault(record["split"], []).append(record)
    return found if len(found) > 1 else sets


def _concept(kind: Kind, read: list[_Read], n_records: int, groups: Counter[str], *, name: str) -> Preview:
    left_out: Counter[str] = Counter()
    facts: dict[tuple[str, tuple[str, ...]], Fact] = {}
    sentences: list[Sentence] = []
    for one in read:
        if isinstance(one.content, str):
            left_out[one.content] += 1
        elif isinstance(one.content, Sentence):
            sentences.append(one.content)
        elif (key := (one.content.subject, one.content.templates)) in facts:
            same = facts[key].answer == one.content.answer
            left_out["an earlier record is the same" if same else "an earlier record asks the same"] += 1
        else:
            facts[key] = one.content
    if not facts and not sentences:
        reasons = "; ".join(f"{reason}: {count:,}" for reason, count in left_out.most_common())
        raise ConceptError(f"no record can be used ({reasons})")
    description = f"{kind.title}. Records: {n_records:,}."
    if left_out:
        description += " Left out: " + "; ".join(f"{why} ({n:,})" for why, n in left_out.most_common()) + "."
    concept = Concept(
        name=name, title=name, description=description, facts=tuple(facts.values()), sentences=tuple(sentences)
    )
    return Preview(kind=kind.title, concept=concept, n_records=n_records, left_out=dict(left_out), groups=dict(groups))


def _question(text: str, about: str = "") -> tuple[str, str]:
    """(subject, template) of a question; the subject is what it is about where it is mentioned once."""
    text, about = clean(text), clean(about)
    if about and (template := _mention(text, about)) is not None:
        return about, QUESTION.replace("{subject}", template)
    return text, QUESTION


def _mention(text: str, about: str) -> str | None:
    """The text with {subject} in place of what it is about; None unless that is mentioned exactly once."""
    found = re.findall(rf"(?<!\w){re.escape(about)}(?!\w)", text)
    if len(found) != 1 or "{subject}" in text:
        return None
    return re.sub(rf"(?<!\w){re.escape(about)}(?!\w)", "{subject}", text)


def _texts(record: Mapping[str, Any], field: str) -> tuple[str, ...]:
    """A field that holds a text, a list of texts, or nothing."""
    value = record.get(field)
    value = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ConceptError(f"“{field}” must be a text, or a list of texts")
    return tuple(dict.fromkeys(one for one in map(clean, value) if one))


def _others(answer: str, *groups: tuple[str, ...]) -> tuple[str, ...]:
    """The texts that are not the answer, each once."""
    return tuple(dict.fromkeys(one for group in groups for one in group if one != clean(answer)))


def _asked(record: Record, _: tuple[str, ...]) -> Iterator[_Read]:
    answer = text_field(record, "answer")
    subject, template = _question(text_field(record, "question"))
    wrong = _others(answer, _texts(record, "perturbed_answer"))
    yield _Read(
        "",
        Fact(
            subject,
            answer,
            templates=(template,),
            paraphrases=tuple(
                QUESTION.replace("{subject}", one) for one in _texts(record, "paraphrased_question") if "{" not in one
            ),
            choices=wrong,
            aliases=tuple(one for one in _others(answer, _texts(record, "paraphrased_answer")) if one not in wrong),
        ),
    )


def _multiple_choice(record: Record, _: tuple[str, ...]) -> Iterator[_Read]:
    options = record.get("choices", record.get("options"))
    labels: list[Any] = []
    if isinstance(options, dict):
        labels, options = list(options.get("label", ())), options.get("text")
    if not isinstance(options, list) or not all(isinstance(one, str) for one in options):
        raise ConceptError("“choices” must be a list of texts")
    key = next(record[field] for field in ("answer", "answerKey", "answer_idx") if record.get(field) is not None)
    if type(key) is int:
        right = key
    elif key in labels:
        right = labels.index(key)
    elif key in options:
        right = options.index(key)
    elif isinstance(key, str) and key.isdecimal():
        right = int(key)
    elif isinstance(key, str) and _LETTER.fullmatch(key):
        right = ord(key.upper()) - ord("A")
    else:
        raise ConceptError(f"the answer “{key}” is neither the number, nor the letter, nor the text of a choice")
    if not 0 <= right < len(options):
        raise ConceptError(f"the answer is choice {right}, counted from 0, and there are {len(options)} choices")
    subject, template = _question(text_field(record, "question"))
    wrong = _others(options[right], tuple(clean(one) for one in options if one.strip()))
    group = record.get("subject") if isinstance(record.get("subject"), str) else ""
    yield _Read(str(group), Fact(subject, options[right], templates=(template,), choices=wrong))


def _prefix(record: Record, _: tuple[str, ...]) -> Iterator[_Read]:
    prefix, entity = clean(text_field(record, "prefix")), text_field(record, "entity")
    question = clean(text_field(record, "question", ""))
    if question:
        yield _Read("", Fact(question, entity, templates=(f"{QUESTION} {prefix}".replace("{}", ""),)))
    elif prefix:
        yield _Read("", Fact(prefix, entity, templates=("{subject}",)))
    else:
        yield _Read("", "neither a question nor a prefix")


def _level(record: Record, _: tuple[str, ...]) -> Iterator[_Read]:
    query, about = clean(text_field(record, "query")), text_field(record, "subject")
    answer, level = text_field(record, "answer"), str(record.get("level") or "")
    if blank := _BLANK.search(query):
        before, after = query[: blank.start()].rstrip(), query[blank.end() :].strip()
        if before and not _LETTER.search(after):  # the answer ends the sentence: the model continues what comes before
            template = _mention(before, clean(about))
            subject, template = (about, template) if template is not None else (before, "{subject}")
        else:
            subject, template = _question(f"Fill in the blank: {query}", about)
    else:
        subject, template = _question(query, about)
    yield _Read(level, Fact(subject, answer, templates=(template,)))


def _zsre(record: Record, _: tuple[str, ...]) -> Iterator[_Read]:
    answers = _texts(record, "answers") or _texts(record, "answer")
    if not answers:
        raise ConceptError("“answers” holds no answer")
    about = text_field(record, "subject")
    subject, template = _question(text_field(record, "src"), about)
    counter = _texts(record, "alt")
    yield _Read(
        "",
        Fact(
            subject,
            answers[0],
            templates=(template,),
            paraphrases=tuple(_reworded(one, about) for one in _texts(record, "rephrase") if "{" not in one),
            counter_answer=counter[0] if counter and counter[0] not in answers else None,
            aliases=_others(answers[0], answers[1:]),
        ),
    )


def _reworded(question: str, about: str) -> str:
    """A paraphrase that asks a question in other words; without {subject} where it does not mention it once."""
    subject, template = _question(question, about)
    return template if subject == clean(about) else template.replace("{subject}", subject)


def _mquake(record: Record, _: tuple[str, ...]) -> Iterator[_Read]:
    for rewrite in record["requested_rewrite"]:
        if not isinstance(rewrite, dict) or not all(
            isinstance(rewrite.get(one), dict) for one in ("target_true", "target_new")
        ):
            raise ConceptError("“requested_rewrite” must hold objects with “target_true” and “target_new”")
        prompt, about = text_field(rewrite, "prompt"), text_field(rewrite, "subject")
        if prompt.count("{}") != 1:
            raise ConceptError(f"prompt “{prompt}” must contain {{}} exactly once")
        answer, counter = text_field(rewrite["target_true"], "str"), text_field(rewrite["target_new"], "str")
        fact = Fact(
            about,
            answer,
            templates=(prompt.replace("{}", "{subject}"),),
            paraphrases=tuple(_reworded(one, about) for one in _texts(rewrite, "question") if "{" not in one),
        )
        if clean(counter) and clean(counter) != fact.answer:
            fact = replace(fact, counter_answer=counter)
        yield _Read(text_field(rewrite, "relation_id", ""), fact)


def _triple(record: Record, templates: tuple[str, ...]) -> Iterator[_Read]:
    relation = text_field(record, "predicate_id", "")
    given = _texts(record, "template") or templates
    if not given:
        raise ConceptError("no template. Give one, such as “[X] was born in [Y] .”")
    prompts = tuple(filter(None, map(_before_object, given)))
    if not prompts:
        yield _Read(relation, "the template does not end with the answer")
        return
    yield _Read(relation, Fact(text_field(record, "sub_label"), text_field(record, "obj_label"), templates=prompts))


def _before_object(template: str) -> str | None:
    """A prompt from “[X] was born in [Y] .”; None if words follow [Y], or it does not name [X] before that once."""
    if "[Y]" not in template:
        if template.count("{subject}") != 1:
            raise ConceptError(f"template “{template}” must contain [X] and [Y], or {{subject}} once")
        return template
    before, _, after = template.partition("[Y]")
    if before.count("[X]") != 1 or _LETTER.search(after.replace("[X]", "X")):
        return None
    return clean(before).replace("[X]", "{subject}")


def _continued(record: Record, _: tuple[str, ...]) -> Iterator[_Read]:
    yield _Read("", Fact(text_field(record, "prompt"), text_field(record, "gt"), templates=("{subject}",)))


def _text(record: Record, _: tuple[str, ...]) -> Iterator[_Read]:
    text = text_field(record, "text")
    if not text.strip():
        yield _Read("", "the text is empty")
    for piece in _pieces(text):
        yield _Read("", Sentence(piece))


def _pieces(text: str) -> Iterator[str]:
    """The text in pieces of at most `_PIECE` characters, cut after lines, else after sentences, else after words."""
    rest = text.strip()
    while len(rest) > _PIECE:
        head = rest[:_PIECE]
        cut = next(
            (
                match.end()
                for pattern in (r"(?s).*\n", r"(?s).*[.!?。！？]\s", r"(?s).*\s")
                if (match := re.match(pattern, head))
            ),
            _PIECE,
        )
        if piece := rest[:cut].strip():
            yield piece
        rest = rest[cut:].lstrip()
    if rest:
        yield rest


def _has(*fields: str) -> Callable[[Record], bool]:
    return lambda record: all(record.get(field) is not None for field in fields)


def _is_multiple_choice(record: Record) -> bool:
    return (
        record.get("question") is not None
        and any(record.get(field) is not None for field in ("choices", "options"))
        and any(record.get(field) is not None for field in ("answer", "answerKey", "answer_idx"))
    )


KINDS: tuple[Kind, ...] = (
    Kind("UDS-TOFU", "prefix, entity", _has("prefix", "entity"), _prefix),
    Kind(
        "MQuAKE", "requested_rewrite (a list)", lambda record: isinstance(record.get("requested_rewrite"), list), _mquake
    ),
    Kind("RWKU", "subject, query, answer", _has("subject", "query", "answer"), _level, groups="level"),
    Kind(
        "zsRE", "subject, src, answers",
        lambda record: _has("subject", "src")(record) and bool(record.get("answers") or record.get("answer")), _zsre,
    ),
    Kind("LAMA (T-REx)", "sub_label, obj_label", _has("sub_label", "obj_label"), _triple),
    Kind("Multiple choice (WMDP, MMLU)", "question, choices, answer", _is_multiple_choice, _multiple_choice, groups="subject"),
    Kind("Questions and answers (TOFU, MUSE knowmem)", "question, answer", _has("question", "answer"), _asked),
    Kind("Continuations (MUSE verbmem)", "prompt, gt", _has("prompt", "gt"), _continued),
    Kind("Text (MUSE raw, WMDP corpora)", "text", _has("text"), _text),
)  # fmt: skip
"""Layouts in the order in which they are tried; the first that fits the first record is that of the file."""
