"""Maps the name of each part of an evaluation to the function that measures it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property

from analysis.concepts import Concept, Fact, Sentence
from analysis.evaluation import attacks, choice, forget, keep, kl, latent, soft_prompts, words
from analysis.evaluation.general_text import neutral_text
from analysis.evaluation.result import Curve, Generation, Histogram, Measure
from analysis.models import LanguageModel
from analysis.progress import Progress
from analysis.scoring import factual_recall

__all__ = ["ALL", "PARTS", "QUICK", "WITHOUT_FACTS", "Session"]


class Session:
    """The state of one running evaluation: its inputs and the results so far."""

    def __init__(
        self,
        model: LanguageModel,
        concept: Concept,
        facts: Sequence[Fact],
        *,
        neighbours: keep.Groups,
        others: keep.Groups,
        languages: keep.Groups | None,
        reference: kl.Reference | None,
        injected: Sequence[Fact],
        seed: int,
        progress: Progress | None,
        should_stop: Callable[[], bool] | None,
    ):
        self.model, self.concept, self.given = model, concept, tuple(facts)
        self.neighbours, self.others, self.languages, self.reference = neighbours, others, languages, reference
        self.injected = tuple(injected)
        self.seed, self.progress, self.should_stop = seed, progress, should_stop
        self.measures: list[Measure] = []
        self.skipped: dict[str, str] = {}
        self.facts: tuple[tuple[str, str, float], ...] = ()
        self.histogram: Histogram | None = None
        self.curves: tuple[Curve, ...] = ()
        self.generations: tuple[Generation, ...] = ()

    def add(self, measures: Iterable[Measure]) -> None:
        self.measures.extend(measures)

    @cached_property
    def recall(self) -> forget.Recall:
        return forget.recall(self.model, self.concept, self.given)

    @cached_property
    def questions(self) -> tuple[choice.Question, ...]:
        return choice.questions(self.concept, self.given, seed=self.seed)

    @cached_property
    def option_scores(self) -> tuple:
        return choice.option_scores(self.model, self.concept, self.questions)


def _forget(session: Session) -> None:
    session.add(session.recall.measures()[:1])
    session.facts = tuple((fact.subject, fact.answer, float(p)) for fact, p in zip(session.given, session.recall.p_F))


def _labelled_words(session: Session) -> None:
    session.add([words.labelled_words(session.model, session.concept, seed=session.seed)])


def _memorization(session: Session) -> None:
    session.add(session.recall.measures()[1:])


def _paraphrase(session: Session) -> None:
    session.add([forget.paraphrases(session.model, session.concept, session.given)])


def _multiple_choice(session: Session) -> None:
    session.add([choice.by_likelihood(session.questions, session.option_scores)])
    session.add(choice.by_letter(session.model, session.concept, session.questions))


def _injected(session: Session) -> None:
    """Measure how well the new answers were learned; nothing is measured if there are none."""
    if not session.injected:
        return
    model = session.model
    asked = choice.injected_questions(session.concept, session.injected, seed=session.seed)
    scores = choice.option_scores(model, session.concept, asked)
    found = [forget.recall(model, session.concept, session.injected).measures()[0]]
    if any(session.concept.paraphrases_of(fact) for fact in session.injected):
        found.append(forget.paraphrases(model, session.concept, session.injected))
    found.append(choice.by_likelihood(asked, scores))
    names = {"forget": "injected", "paraphrase": "injected_paraphrase", "multiple_choice": "injected_choice"}
    units = {"injected_choice": "accuracy by likelihood"}
    for one in found:
        name = names[one.name]
        session.add([replace(one, name=name, unit=units.get(name, "P(new answer)"))])


def _truth_ratio(session: Session) -> None:
    session.add([choice.truth_ratio(session.questions, session.option_scores)])


def _reverse(session: Session) -> None:
    session.add([forget.reverse(session.model, session.concept, session.given)])


def _languages(session: Session) -> None:
    if session.languages is None:
        session.skipped["languages"] = _NOT_IN_BASE
    elif not session.languages:
        session.skipped["languages"] = f"“{session.concept.name}” has no translations. Add some to its file."
    else:
        measures, skipped = forget.in_languages(session.model, session.concept, session.languages)
        session.add(measures)
        session.skipped.update(skipped)


def _neighbours(session: Session) -> None:
    session.add(keep.facts_kept(session.model, session.concept, session.neighbours))


def _other_concepts(session: Session) -> None:
    if not session.others:
        session.skipped["other_concepts"] = "The neighbours are facts of other concepts already, or none is known."
    else:
        session.add(keep.facts_kept(session.model, session.concept, session.others, name="other_concepts"))


def _neutral_perplexity(session: Session) -> None:
    session.add([keep.perplexity(session.model, [Sentence(text) for text in neutral_text().texts])])


def _generations(session: Session) -> None:
    kept = session.neighbours.get(session.concept.name, ())
    facts = [("forgotten", fact) for fact in session.given[:2]] + [("kept", fact) for fact in kept[:1]]
    prompts = [] if facts else [("forgotten", text) for text in words.beginnings(session.model, session.concept)]
    for about, fact in facts:
        text, start = next(session.concept.statements(fact))
        prompts.append((about, text[:start].rstrip(" ")))
    prompts.append(("ordinary", _ORDINARY))
    session.generations = tuple(
        Generation(about=about, prompt=prompt, tokens=tuple(factual_recall.generate(session.model, prompt)[1]))
        for about, prompt in prompts
    )


def _kl(session: Session) -> None:
    if session.reference is None:
        session.skipped["kl"] = _NOT_IN_BASE
    else:
        found = kl.against(session.model, session.reference)
        session.add(found.measures())
        session.histogram = found.histogram()


def _probes(session: Session) -> None:
    maintained = session.neighbours.get(session.concept.name, ())
    found = latent.probe_forgotten(
        session.model, session.concept, session.given, maintained, seed=session.seed, progress=session.progress
    )
    session.add(found.measures)
    session.curves = found.curves


def _lens(session: Session) -> None:
    session.add(latent.lens_depth(session.model, session.concept, session.given))


def _quantization(session: Session) -> None:
    for bits in (8, 4):
        session.add([attacks.quantization(session.model, session.concept, session.given, bits=bits)])


def _soft_prompts(session: Session) -> None:
    session.add(
        soft_prompts.soft_prompts(
            session.model,
            session.concept,
            session.given,
            seed=session.seed,
            progress=session.progress,
            should_stop=session.should_stop,
        )
    )


def _relearning(session: Session) -> None:
    session.add(
        attacks.relearning(
            session.model,
            session.concept,
            session.given,
            seed=session.seed,
            progress=session.progress,
            should_stop=session.should_stop,
        )
    )


_ORDINARY = "When I was a child, my family used to"
_NOT_IN_BASE = "The unedited model was measured without it. Measure it again with this part."

PARTS: dict[str, Callable[[Session], None]] = {
    "neutral_perplexity": _neutral_perplexity,
    "forget": _forget,
    "paraphrase": _paraphrase,
    "multiple_choice": _multiple_choice,
    "labelled_words": _labelled_words,
    "injected": _injected,
    "neighbours": _neighbours,
    "kl": _kl,
    "generations": _generations,
    "memorization": _memorization,
    "truth_ratio": _truth_ratio,
    "reverse": _reverse,
    "languages": _languages,
    "other_concepts": _other_concepts,
    "lens": _lens,
    "probes": _probes,
    "quantization": _quantization,
    "soft_prompts": _soft_prompts,
    "relearning": _relearning,
}
"""Name -> function, in the order in which the parts are measured: cheap ones first."""

QUICK = (
    "neutral_perplexity",
    "forget",
    "paraphrase",
    "multiple_choice",
    "labelled_words",
    "injected",
    "neighbours",
    "kl",
    "generations",
)
ALL = tuple(PARTS)
WITHOUT_FACTS = (
    "neutral_perplexity",
    "labelled_words",
    "injected",
    "neighbours",
    "kl",
    "generations",
)
"""Parts that can be measured for a concept that is only labelled words."""
