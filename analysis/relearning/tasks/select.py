"""Builds the task that a configuration names, and checks that the concept has what it needs."""

from collections.abc import Callable, Sequence

from analysis.concepts import Concept, Sentence
from analysis.models import LanguageModel
from analysis.relearning.config import RelearnConfig
from analysis.relearning.snapshot import Beginning
from analysis.relearning.tasks.base import Task
from analysis.relearning.tasks.facts import FactTask
from analysis.relearning.tasks.known_facts import choose_facts
from analysis.relearning.tasks.tagging import TaggingTask
from analysis.scoring import tagging

__all__ = ["check_concept", "prepare_task"]


def check_concept(config: RelearnConfig, concept: Concept) -> None:
    """Refuse a concept that the task cannot use, before a model is loaded.

    Raises:
        ConceptError: with “tagging”, the concept labels too few words.
    """
    if config.task == "tagging":
        tagging.split_sentences(concept)


def prepare_task(
    model: LanguageModel,
    config: RelearnConfig,
    concept: Concept,
    neutral: Sequence[Sentence],
    text: Sequence[str],
    begun: Beginning | None,
    say: Callable[[str], None],
) -> Task:
    """Prepare the task on the loaded, unedited model; facts are chosen unless `begun` has them.

    Raises:
        ConceptError: the concept has too few known facts, sentences or labelled words for the task.
    """
    if config.task == "tagging":
        return TaggingTask(model, config, concept, neutral)
    if begun is None:
        say("Finding the facts the model knows")
    facts = begun.table if begun else choose_facts(model, concept, config.known_threshold)
    return FactTask(model, config, concept, facts, neutral, text)
