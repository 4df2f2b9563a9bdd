"""Facts and snapshots as files: everything comes back, and files of older versions are read."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from analysis.components.neurons import NeuronSet
from analysis.concepts import Fact
from analysis.errors import RunError
from analysis.relearning import FactTable, RunFacts, Snapshot
from analysis.runs.files import read_facts, read_snapshot, write_facts, write_snapshot

FACTS = {"a": Fact("France", "Paris"), "b": Fact("Italy", "Rome"), "c": Fact("Japan", "Tokyo")}


def snapshot(**changes) -> Snapshot:
    scores = np.arange(6, dtype=np.float32).reshape(2, 3)
    fields = {
        "index": 3,
        "phase": "training",
        "step": 7,
        "seconds": 1.5,
        "loss": 0.25,
        "p_retrained_F": np.array([0.5, 0.125]),
        "p_held_out_F": np.array([0.75]),
        "neutral_loss": 3.0,
        "saliency": {"thing": {"probeless": scores, "standardised": 2 * scores}},
        "words": {1: ("Paris", "Rome “old”"), 4: ()},
        "similarity": {1: 0.5},
    }
    return Snapshot(**{**fields, **changes})


def run_facts(**changes) -> RunFacts:
    fields = {
        "shape": (2, 3),
        "table": FactTable(retrained=(FACTS["c"], FACTS["a"]), held_out=(FACTS["b"],), n_set_aside=1, threshold=0.3),
        "edited": NeuronSet([1, 5], (2, 3)),
        "n_neutral_train": 4,
        "n_neutral_measured": 1,
        "ledger": {"before": "x", "after": "y"},
        "edited_heads": ((0, 1),),
        "followed": NeuronSet([0, 4], (2, 3)),
    }
    return RunFacts(**{**fields, **changes})


def test_a_snapshot_comes_back(tmp_path: Path):
    path, written = tmp_path / "snapshots" / "000003.safetensors", snapshot()
    write_snapshot(path, written)
    read = read_snapshot(path, ["thing"])
    for name in ("index", "phase", "step", "seconds", "loss", "neutral_loss", "words", "similarity"):
        assert getattr(read, name) == getattr(written, name), name
    assert read.p_retrained_F.tolist() == [0.5, 0.125]
    assert read.p_held_out_F.tolist() == [0.75]
    for method, scores in written.saliency["thing"].items():
        assert np.array_equal(read.saliency["thing"][method], scores)
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_a_similarity_that_is_not_a_number_is_left_out(tmp_path: Path):
    path = tmp_path / "snapshots" / "0.safetensors"
    write_snapshot(path, snapshot(similarity={1: float("nan"), 4: -0.25}))
    assert read_snapshot(path, ["thing"]).similarity == {4: -0.25}


def test_a_snapshot_of_an_older_version_has_no_words(tmp_path: Path):
    path = tmp_path / "snapshots" / "0.safetensors"
    write_snapshot(path, snapshot())
    with safe_open(path, framework="numpy") as file:
        numbers = json.loads(file.metadata()["snapshot"])
        arrays = {key: file.get_tensor(key) for key in list(file.keys())}
    del numbers["words"], numbers["similarity"]
    save_file(arrays, path, metadata={"snapshot": json.dumps(numbers)})
    read = read_snapshot(path, ["thing"])
    assert (read.words, read.similarity) == ({}, {})


@pytest.mark.parametrize("words", ["many", {"x": ["a"]}, {"1": 3}])
def test_damaged_words_are_named(tmp_path: Path, words: object):
    path = tmp_path / "7.safetensors"
    numbers = {
        "index": 0,
        "phase": "base",
        "step": 0,
        "seconds": 0.0,
        "loss": None,
        "neutral_loss": 1.0,
        "words": words,
    }
    arrays = {"p_retrained": np.zeros(1), "p_held_out": np.zeros(1), "saliency/thing/probeless": np.zeros((2, 3))}
    save_file(arrays, path, metadata={"snapshot": json.dumps(numbers)})
    with pytest.raises(RunError, match=r"7\.safetensors cannot be read"):
        read_snapshot(path, ["thing"])


def test_facts_come_back(tmp_path: Path):
    path, found = tmp_path / "facts.json", run_facts()
    assert read_facts(path, FACTS) is None
    write_facts(path, found, FACTS)
    read = read_facts(path, FACTS)
    assert read is not None
    assert read.table == found.table
    for name in ("shape", "edited", "edited_heads", "followed", "n_neutral_train", "n_neutral_measured", "ledger"):
        assert getattr(read, name) == getattr(found, name), name


def test_facts_of_an_older_version_follow_nothing(tmp_path: Path):
    path = tmp_path / "facts.json"
    write_facts(path, run_facts(), FACTS)
    data = json.loads(path.read_text())
    del data["followed"], data["edited_heads"]
    path.write_text(json.dumps(data))
    read = read_facts(path, FACTS)
    assert read is not None
    assert read.followed == NeuronSet([], (2, 3))
    assert read.edited_heads == ()


def test_facts_of_another_concept_are_damage(tmp_path: Path):
    path = tmp_path / "facts.json"
    write_facts(path, run_facts(), FACTS)
    with pytest.raises(RunError, match=r"facts\.json is damaged"):
        read_facts(path, {"a": FACTS["a"]})
