"""Parses CounterFact JSON into facts: each record has a true answer and a counterfactual one that an edit may inject.

Meng et al., Locating and Editing Factual Associations in GPT (arXiv 2202.05262), section 3.4.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from analysis.concepts.concept import Concept, Fact
from analysis.concepts.reading import choose, place, text_field, texts_field
from analysis.concepts.records import json_sets
from analysis.concepts.spelling import clean
from analysis.errors import ConceptError

__all__ = ["from_records", "parse_counterfact"]


def parse_counterfact(
    text: str, *, name: str = "uploaded", label: str | None = None, filename: str = "the file"
) -> Concept:
    """Parse CounterFact records from JSON or JSON lines; see `from_records`.

    Raises:
        ConceptError: the text is not such records, or as in `from_records`.
    """
    sets = json_sets(text, filename)
    if set(sets) != {""}:
        raise ConceptError(f"{filename}: expected a list of CounterFact records")
    return from_records(sets[""], name=name, label=label, filename=filename)


def from_records(
    records: Sequence[Any], *, name: str = "uploaded", label: str | None = None, filename: str = "the file"
) -> Concept:
    """Turn each CounterFact record into a fact with its own template.

    `requested_rewrite` gives template, subject, answer (`target_true`) and counter answer (`target_new`). Those
    `paraphrase_prompts` that name the subject exactly once become paraphrases. Neighbourhood, attribute and generation
    prompts are not kept. Of records with the same prompt the first is kept; the description counts
    the others.

    Args:
        records: at least one.
        name: name of the concept.
        label: keep only the records of this relation (`relation_id`, such as “P103”).
        filename: what errors call the file.

    Raises:
        ConceptError: a record is wrong (with its number, from 1), or none has the relation (lists the relations found).
    """
    read: list[tuple[str, Fact]] = []
    for number, record in enumerate(records, start=1):
        with place(filename, f"record {number}"):
            read.append(_fact(record))
    counts = Counter(relation for relation, _ in read)
    with place(filename):
        chosen = set(counts) if label is None else choose(counts, label, kind="relation")
        first: dict[tuple[str, str], Fact] = {}
        for relation, fact in read:
            if relation in chosen:
                first.setdefault((fact.subject, fact.templates[0]), fact)
        n_records = sum(counts[relation] for relation in chosen)
        description = f"CounterFact, {len(chosen)} relations." if len(chosen) > 1 else f"CounterFact, {min(chosen)}."
        description += f" Records: {n_records:,}."
        if n_records > len(first):
            description += f" Left out, because an earlier one asks the same: {n_records - len(first):,}."
        return Concept(name=name, title=name, description=description, facts=tuple(first.values()))


def _fact(record: Any) -> tuple[str, Fact]:
    """Returns (relation, fact) of a record."""
    if not isinstance(record, dict):
        raise ConceptError("expected an object")
    rewrite = _object(record, "requested_rewrite")
    prompt, subject = text_field(rewrite, "prompt"), clean(text_field(rewrite, "subject"))
    if prompt.count("{}") != 1:
        raise ConceptError(f"prompt “{prompt}” must contain {{}} exactly once")
    paraphrases = (_template(clean(paraphrase), subject) for paraphrase in texts_field(record, "paraphrase_prompts"))
    return text_field(rewrite, "relation_id"), Fact(
        subject,
        text_field(_object(rewrite, "target_true"), "str"),
        templates=(prompt.replace("{}", "{subject}"),),
        paraphrases=tuple(template for template in paraphrases if template is not None),
        counter_answer=text_field(_object(rewrite, "target_new"), "str"),
    )


def _object(row: dict[str, Any], field: str) -> dict[str, Any]:
    value = row.get(field)
    if not isinstance(value, dict):
        raise ConceptError(f"“{field}” must be an object")
    return value


def _template(prompt: str, subject: str) -> str | None:
    """The prompt with {subject} in place of the subject; None unless the subject occurs exactly once."""
    places = re.findall(rf"(?<!\w){re.escape(subject)}(?!\w)", prompt)
    if len(places) != 1 or "{subject}" in prompt:
        return None
    return re.sub(rf"(?<!\w){re.escape(subject)}(?!\w)", "{subject}", prompt)
