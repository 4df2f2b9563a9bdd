"""Runs the evaluation: measures a baseline on the unedited model, and any later state against it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from analysis.concepts import Concept, Fact, digest
from analysis.errors import ConceptError, ConfigError, MissingHookError, UnsupportedArchitectureError
from analysis.evaluation import forget, keep, kl
from analysis.evaluation.base import Baseline
from analysis.evaluation.collapse import collapse_warning
from analysis.evaluation.general_text import GeneralText, offline_text, weights_digest
from analysis.evaluation.parts import ALL, PARTS, QUICK, WITHOUT_FACTS, Session
from analysis.evaluation.result import Evaluation
from analysis.models import LanguageModel
from analysis.progress import Progress, none
from analysis.scoring.factual_recall import KNOWN_THRESHOLD, known_facts

__all__ = ["baseline", "evaluate", "parts_of"]

_NOT_MEASURABLE = (ConceptError, ConfigError, MissingHookError, UnsupportedArchitectureError)
"""Errors of a part that are recorded as the reason why it is absent; any other error (such as NaN) ends the evaluation."""


def parts_of(what: str | Sequence[str]) -> tuple[str, ...]:
    """Resolve names of parts, in the order of `PARTS`; perplexity is always included, because it detects collapse.

    Args:
        what: “quick”, “all”, or names.

    Raises:
        ConfigError: a part is unknown.
    """
    chosen = (
        {"quick": QUICK, "all": ALL}[what] if what in ("quick", "all") else (what,) if isinstance(what, str) else what
    )
    for name in chosen:
        if name not in PARTS:
            raise ConfigError(
                f"“{name}” is not a part of an evaluation. Use quick, all, or some of {', '.join(PARTS)}."
            )
    return tuple(name for name in PARTS if name in chosen or name == "neutral_perplexity")


def baseline(
    model: LanguageModel,
    concept: Concept,
    facts: Sequence[Fact] | None = None,
    *,
    injected: Sequence[Fact] = (),
    what: str | Sequence[str] = "quick",
    text: GeneralText | None = None,
    threshold: float = KNOWN_THRESHOLD,
    seed: int = 0,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Baseline:
    """Measure the unedited model, and choose the facts and text on which every later state is measured.

    Neighbours are the concept's known facts outside the forget set; if there are none, known facts of the other built-in
    concepts. For a concept that is only labelled words, the parts in `WITHOUT_FACTS` are measured.

    Args:
        model: The unedited model.
        concept: The concept to be forgotten.
        facts: The facts to be forgotten; default: all that the model knows.
        injected: Facts with the new answers that the edit trains in.
        what: “quick”, “all”, or names of parts; later evaluations can measure only these parts.
        text: The text on which KL is measured; default: `offline_text`.
        threshold: Mean P(answer) from which a fact counts as known.
        seed: Draws neighbours, options, halves and sampled text.
        progress: Called with the current stage and its share.
        should_stop: Called between parts; True skips the remaining ones.

    Raises:
        ConceptError: the concept has facts, and the model knows none of them or `facts` is empty.
        ConfigError: a part is unknown, or the KL reference cannot be written.
        ModelFileError: logits are not finite.
    """
    started, chosen = time.monotonic(), parts_of(what)
    report = progress or none
    known: list[Fact] = []
    if concept.facts:
        report("Finding the facts the model knows", 0.0)
        known, _ = known_facts(model, concept, threshold=threshold)
    forgotten = tuple(known if facts is None else facts)
    if concept.facts and not forgotten:
        raise ConceptError(
            f"“{model.name}” knows none of the {len(concept.facts)} facts of “{concept.name}” (mean P(answer) of at least "
            f"{threshold:g}), so there is nothing to forget. Lower the threshold, or choose facts it knows."
        )
    near = keep.neighbours_within(concept, forgotten, known, seed=seed)
    others = {}
    if "other_concepts" in chosen or ("neighbours" in chosen and not near):
        report("Finding the facts of other concepts that the model knows", 0.0)
        others = keep.choose_others(model, concept, threshold=threshold, seed=seed)
    languages = None
    if "languages" in chosen:
        languages = forget.known_in_languages(model, concept, forgotten, threshold=threshold)
    reference = None
    if "kl" in chosen:
        text = offline_text(model, seed=seed, progress=progress) if text is None else text
        report("Storing the unedited model's predictions", 0.0)
        reference = kl.remember(model, text.texts)
    session = Session(
        model,
        concept,
        forgotten,
        neighbours={concept.name: near} if near else others,
        others=others if near else {},
        languages=languages,
        reference=None,
        injected=injected,
        seed=seed,
        progress=progress,
        should_stop=should_stop,
    )
    own = _measure(session, chosen, "base", started)
    if "kl" in chosen:
        own = replace(own, skipped={**own.skipped, "kl": "The unedited model is what KL is measured from."})
    return Baseline(
        model=model.name,
        weights=weights_digest(model),
        source=model.source.reference,
        concept=concept.name,
        concept_digest=digest(concept),
        facts=forgotten,
        injected=tuple(injected),
        n_unknown=len(concept.facts) - len(known),
        seed=seed,
        neighbours=session.neighbours,
        others=session.others,
        languages=languages,
        text=text if reference else None,
        reference=reference,
        evaluation=replace(own, provenance={**own.provenance, "text": text.describe() if reference and text else ""}),
    )


def evaluate(
    model: LanguageModel,
    concept: Concept,
    facts: Sequence[Fact] | None = None,
    *,
    base: Baseline | None = None,
    what: str | Sequence[str] = "quick",
    label: str = "edited",
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Evaluation:
    """Measure the model as it is now against its baseline.

    Args:
        model: The edited model. Attacks restore its weights bit for bit.
        concept: The concept that was to be forgotten.
        facts: The facts of the baseline, which are the default; other facts are refused.
        base: From `baseline` on the unedited model. None: the model is unedited, and its own baseline is measured.
        what: “quick”, “all”, or names of parts.
        label: Name of the state in tables.
        progress: Called with the current stage and its share.
        should_stop: Called between parts; True skips the remaining ones and records the reason.

    Raises:
        ConfigError: a part is unknown, or the baseline is of another model, concept or facts.
        ModelFileError: logits are not finite.
    """
    if base is None:
        own = baseline(model, concept, facts, what=what, progress=progress, should_stop=should_stop).evaluation
        return replace(own, label=label)
    started, chosen = time.monotonic(), parts_of(what)
    if (base.model, base.concept) != (model.name, concept.name):
        raise ConfigError(
            f"The baseline is of “{base.concept}” in “{base.model}”, not of “{concept.name}” in “{model.name}”. "
            "Measure the unedited model again."
        )
    if base.source and base.source != model.source.reference:
        raise ConfigError(
            f"The baseline is of the model {base.source}, and this is {model.source.reference}, which has the same name. "
            "Measure the unedited model again."
        )
    if base.concept_digest and base.concept_digest != digest(concept):
        raise ConfigError(
            f"“{concept.name}” has changed since the baseline was measured. Measure the unedited model again, or use the "
            "concept as it was."
        )
    if facts is not None and set(facts) != set(base.facts):
        raise ConfigError(
            f"The baseline was measured for {len(base.facts)} facts, and these {len(set(facts))} are others: neighbours "
            "and options would not fit. Measure the unedited model with these facts."
        )
    session = Session(
        model,
        concept,
        base.facts,
        neighbours=base.neighbours,
        others=base.others,
        languages=base.languages,
        reference=base.reference,
        injected=base.injected,
        seed=base.seed,
        progress=progress,
        should_stop=should_stop,
    )
    found = _measure(session, chosen, label, started)
    before = base.evaluation.get("neutral_perplexity")
    return replace(
        found,
        warning=collapse_warning(before, found.get("neutral_perplexity")),
        provenance={**found.provenance, "text": base.text.describe() if base.text else ""},
    )


def _measure(session: Session, chosen: Sequence[str], label: str, started: float) -> Evaluation:
    for i, name in enumerate(chosen):
        if session.should_stop is not None and session.should_stop():
            session.skipped.update(dict.fromkeys(chosen[i:], "Stopped before it was measured."))
            break
        if session.progress is not None:
            session.progress(f"Measuring {name.replace('_', ' ')}", i / len(chosen))
        if not session.given and name not in WITHOUT_FACTS:
            session.skipped[name] = f"“{session.concept.name}” has no facts to ask for."
            continue
        try:
            PARTS[name](session)
        except _NOT_MEASURABLE as error:
            session.skipped[name] = str(error)
    return Evaluation(
        model=session.model.name,
        concept=session.concept.name,
        label=label,
        measures=tuple(session.measures),
        skipped=session.skipped,
        facts=session.facts,
        histogram=session.histogram,
        curves=session.curves,
        generations=session.generations,
        provenance={
            "parts": list(chosen),
            "seed": session.seed,
            "n_facts": len(session.given),
            "seconds": round(time.monotonic() - started, 3),
        },
    )
