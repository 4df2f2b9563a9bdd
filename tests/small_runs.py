"""What tests make up: a concept with as many sentences as needed, in words the tiny tokenizer knows, and small runs."""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from analysis.concepts import Concept, Sentence
from analysis.edits import ComponentEdit, Selection
from analysis.relearning import RelearnConfig
from analysis.runs import RunDirectory, create, execution

WORDS = "kettle window papers meeting names lift brother tools door bed milk tea dog table rain train sea wall".split()


def made_up(n_sentences: int, *, seed: int = 0, share: float = 0.3, name: str = "made-up") -> Concept:
    """Sentences of five to nine words after the first; each word, with the space before it, is labelled with
    probability `share`: nothing tells labelled words from others."""
    random = np.random.default_rng(seed)
    sentences = []
    for _ in range(n_sentences):
        words = ["The", *random.choice(WORDS, random.integers(5, 10))]
        starts = np.cumsum([0, *(len(word) + 1 for word in words)])
        chosen = 1 + np.flatnonzero(random.random(len(words) - 1) < share)
        spans = tuple((int(starts[w]) - 1, int(starts[w]) + len(words[w])) for w in chosen)
        sentences.append(Sentence(" ".join(words), spans))
    return Concept(name=name, title=name, sentences=tuple(sentences))


def small_run(model: Path, concept: Concept, **changes: Any) -> RelearnConfig:
    """A run of a tiny model that takes a second: five neurons are pruned, nothing is set aside, and there is no control.

    Args:
        model: Its folder.
        concept: What is removed.
        changes: Settings that the test is about.
    """
    small = {
        "edit": ComponentEdit(selection=Selection(rule="top_k", value=5)),
        "cadence": "steps",
        "batch_size": 4,
        "known_threshold": 0.0,
        "precision": "float32",
        "follow_top": 3,
        "device": "cpu",
        "control": False,
    }
    return RelearnConfig(model=str(model), concept=concept.name, **{**small, **changes})


Finished = Callable[[RelearnConfig, Path], RunDirectory]


def finished_runs(concept: Concept, folder: Path) -> Finished:
    """Gives finished runs of a concept: each configuration is carried out once, in `folder`, and copied to where it is
    asked for, as if it had ended there just now."""
    originals: dict[str, Path] = {}

    def finished(config: RelearnConfig, path: Path) -> RunDirectory:
        key = json.dumps(config.to_dict(), sort_keys=True)
        if key not in originals:
            run = create(config, folder / str(len(originals)), concepts={concept.name: concept})
            assert execution.execute(run).state == "finished"
            originals[key] = run.path
        shutil.copytree(originals[key], path)
        run = RunDirectory(path)
        run.write_status(replace(run.status(), heartbeat=time.time()))
        return run

    return finished
