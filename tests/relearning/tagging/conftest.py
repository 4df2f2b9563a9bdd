"""What the tests of finding a concept's words share: a short run, carried out in memory or in a folder."""

from dataclasses import replace
from pathlib import Path

import pytest

from analysis import relearning, runs
from analysis.concepts import Concept, Sentence
from analysis.models import LanguageModel
from analysis.models import load as load_model
from analysis.relearning import RelearnConfig, Snapshot, mixture
from analysis.relearning.trainer import Trainer
from analysis.runs.directory import RunDirectory
from analysis.scoring import tagging
from tests.relearning.tagging.short_run import CONFIG, Execute
from tests.small_runs import Finished


@pytest.fixture
def execute(tiny_folder: Path, tiny_concept: Concept, tiny_neutral: tuple[Sentence, ...]) -> Execute:
    def run(config: RelearnConfig = CONFIG, model: LanguageModel | None = None, **arguments) -> list[Snapshot]:
        model = model or load_model(str(tiny_folder), device="cpu")
        concepts = {tiny_concept.name: tiny_concept}
        return list(relearning.run(config, model=model, concepts=concepts, neutral=tiny_neutral, **arguments))

    return run


@pytest.fixture
def make(tiny_folder: Path, tiny_concept: Concept, tmp_path: Path, finished: Finished):
    """A new run directory of a configuration, or a finished one."""

    def made(name: str, config: RelearnConfig = CONFIG, *, done: bool = False) -> RunDirectory:
        config = replace(config, model=str(tiny_folder))
        if done:
            return finished(config, tmp_path / name)
        return runs.create(config, tmp_path / name, concepts={tiny_concept.name: tiny_concept})

    return made


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[list[tagging.TaggedRow]]:
    """The rows of every batch, of fine-tuning and of retraining."""
    batches: list[list[tagging.TaggedRow]] = []
    original = mixture.Mixture.draw

    def draw(self):
        rows = original(self)
        batches.append(rows)
        return rows

    monkeypatch.setattr(mixture.Mixture, "draw", draw)
    return batches


@pytest.fixture
def trainers(monkeypatch: pytest.MonkeyPatch) -> list[Trainer]:
    """Every trainer made, the one of fine-tuning first."""
    made: list[Trainer] = []
    original = Trainer.__init__

    def watch(self, *arguments, **named) -> None:
        original(self, *arguments, **named)
        made.append(self)

    monkeypatch.setattr(Trainer, "__init__", watch)
    return made
