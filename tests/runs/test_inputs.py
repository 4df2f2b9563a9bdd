"""A run goes on, branches and has its control only with the very model and concepts that it began with."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from analysis.concepts import Concept
from analysis.errors import EditError, RunError
from analysis.jobs import layout
from analysis.relearning.fine_tuning import VALUES
from analysis.runs import RunDirectory, create
from analysis.runs.execution import branch, execute, resume
from tests.small_runs import made_up, small_run


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """A model's folder of which this test may change the files."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "model" / "final"))


def change_a_weight(folder: Path) -> None:
    """One weight of the last layer, by a thousandth: a fingerprint of logits would let it pass."""
    (file,) = folder.glob("*.safetensors")
    tensors = load_file(file)
    name = max(name for name in tensors if "down_proj" in name)
    tensors[name][0, 0] += 1e-3
    save_file(tensors, file, metadata={"format": "pt"})


def done(folder: Path, concept: Concept, path: Path, **changes: Any) -> RunDirectory:
    run = create(
        small_run(folder, concept, steps=3, snapshot_every=1, **changes), path, concepts={concept.name: concept}
    )
    assert execute(run).state == "finished"
    return run


@pytest.mark.parametrize(
    "trained", [{"train_only": "L0.MLP"}, {"lora_rank": 2}, {}], ids=["a part", "factors", "everything"]
)
def test_a_run_does_not_go_on_on_a_changed_model(
    folder: Path, tiny_concept: Concept, tmp_path: Path, trained: dict[str, Any]
):
    run = done(folder, tiny_concept, tmp_path / "run", **trained)
    found = run.facts()
    assert found is not None
    assert set(found.digests) == {"unedited model's weights", "concept “tiny-capitals”", "neutral text"}
    change_a_weight(folder)
    before = run.n_snapshots()
    with pytest.raises(RunError, match="began with another unedited model's weights of “final”"):
        resume(run, steps=5)
    assert run.n_snapshots() == before


def test_it_goes_on_once_the_model_is_back(folder: Path, tiny_folder: Path, tiny_concept: Concept, tmp_path: Path):
    run = done(folder, tiny_concept, tmp_path / "run", lora_rank=2)
    change_a_weight(folder)
    with pytest.raises(RunError, match="another unedited model"):
        resume(run, steps=5)
    shutil.rmtree(folder)
    shutil.copytree(tiny_folder, folder)
    assert resume(RunDirectory(run.path)).state == "finished"


def test_a_concept_that_was_changed_in_the_runs_folder(folder: Path, tiny_concept: Concept, tmp_path: Path):
    run = done(folder, tiny_concept, tmp_path / "run")
    file = layout.concept_file(run.path, tiny_concept.name)
    lines = file.read_text().splitlines()
    changed = [line.replace("Tourists who visit", "People who visit") for line in lines]
    assert changed != lines
    file.write_text("\n".join(changed) + "\n")
    with pytest.raises(RunError, match="began with another concept “tiny-capitals”"):
        resume(run, steps=5)


def test_a_control_of_another_model(folder: Path, tiny_concept: Concept, tmp_path: Path):
    run = done(folder, tiny_concept, tmp_path / "run")
    config = json.loads((run.path / layout.CONFIG).read_text())
    config["config"]["control"] = True
    (run.path / layout.CONFIG).write_text(json.dumps(config))
    change_a_weight(folder)
    with pytest.raises(RunError, match="another unedited model"):
        execute(RunDirectory(run.path))


def test_a_branch_of_another_model(folder: Path, tiny_concept: Concept, tmp_path: Path):
    run = done(folder, tiny_concept, tmp_path / "run", train_only="L0.MLP")
    child = branch(run, 3, edit=None, path=tmp_path / "branch", steps=2)
    change_a_weight(folder)
    with pytest.raises(RunError, match="another unedited model"):
        execute(child)


def test_a_fine_tuned_model_of_another_one(folder: Path, tmp_path: Path):
    words = made_up(40)
    config = small_run(folder, words, task="tagging", steps=2, fine_tune_steps=2, lora_rank=2)
    run = create(config, tmp_path / "run", concepts={words.name: words})
    assert execute(run).state == "finished"
    shutil.rmtree(run.path / layout.SNAPSHOTS)  # as if it had died right after fine-tuning
    shutil.rmtree(run.path / layout.CHECKPOINTS)
    (run.path / layout.FACTS).unlink()
    assert (run.fine_tuned / VALUES).is_file()
    change_a_weight(folder)
    with pytest.raises(EditError, match="was trained from another model's weights"):
        execute(RunDirectory(run.path))


def test_a_run_of_an_earlier_version_has_no_digests_and_goes_on(folder: Path, tiny_concept: Concept, tmp_path: Path):
    run = done(folder, tiny_concept, tmp_path / "run")
    facts = json.loads((run.path / layout.FACTS).read_text())
    del facts["digests"]
    (run.path / layout.FACTS).write_text(json.dumps(facts))
    assert resume(run, steps=4).state == "finished"
