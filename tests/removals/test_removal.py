"""A removal: measured before and after, stopped and taken up again, and told where it cannot be done."""

import json
import time
from pathlib import Path

import pytest

from analysis import removals, worker
from analysis.concepts import Concept
from analysis.edits import Edit, Ledger, from_settings
from analysis.edits.recipe import Recipe
from analysis.errors import ConceptError, ConfigError, EditError, MemoryShortError, RunError, StoppedError
from analysis.jobs import queue
from analysis.models import LanguageModel, load, memory
from analysis.removals.removal import Removal
from tests.shared_models import same_bits, state

TRAINING = {"steps": 6, "batch_size": 4, "learning_rate": 1e-3, "precision": "float32"}
PARTS = ("forget", "neutral_perplexity", "kl")


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALIMPSEST_HOME", str(tmp_path / "home"))


def recipe_of(model: LanguageModel, concept: Concept, *edits: Edit) -> Recipe:
    return Recipe.of(model, [(concept, edit) for edit in edits], threshold=0.0)


def test_an_edit_is_measured_before_and_after(tiny_model: LanguageModel, tiny_concept: Concept, tmp_path: Path):
    recipe = recipe_of(tiny_model, tiny_concept, from_settings("prune", {"top_fraction": 0.3}))
    removal = removals.create(recipe, tmp_path / "op", device="cpu", what=PARTS)
    status = removals.execute(removal, model=tiny_model)
    assert status.state == "finished"
    outcome = removal.outcome()
    assert outcome is not None
    summary = outcome.summary()
    assert summary["kl"]["median"] > 0
    assert summary["kl"]["n_tokens"] > 100
    assert summary["before"]["forget"] != summary["after"]["forget"]
    assert summary["edited_parameters"] == round(0.3 * 3 * 48) * 3 * 32
    assert (tmp_path / "op" / "evaluation.csv").read_text().startswith("measure,base")
    json.dumps(summary, allow_nan=False)
    assert [one.name for one in removals.list_removals(tmp_path)] == ["op"]


def test_removals_of_earlier_versions_are_found_and_carried_out(
    tiny_model: LanguageModel, tiny_concept: Concept, tmp_path: Path
):
    """Before 0.2 they lay in `operations/` of the home folder, each with an `operation.json`."""
    recipe = recipe_of(tiny_model, tiny_concept, from_settings("prune", {"top_k": 3}))
    old = removals.create(recipe, tmp_path / "home" / "operations" / "old", device="cpu", what=PARTS)
    (old.path / "removal.json").rename(old.path / "operation.json")
    (found,) = removals.list_removals()
    assert (found.name, set(found.settings["what"])) == ("old", set(PARTS))
    assert removals.execute(found, model=tiny_model).state == "finished"
    assert {"operation", "removal"} <= worker.KINDS.keys()
    with pytest.raises(RunError, match=r"it has no removal\.json"):
        Removal(tmp_path)


def test_a_stopped_training_goes_on_where_it_was(tiny_folder: Path, tiny_concept: Concept, tmp_path: Path):
    """The same weights as without the stop; and before it, the weights are as they were."""
    whole, stopped = (load(str(tiny_folder), device="cpu") for _ in range(2))
    before = state(whole)
    recipe = recipe_of(whole, tiny_concept, from_settings("grad_diff", TRAINING))
    removals.edit_and_evaluate(whole, recipe, tmp_path / "whole", what=PARTS)
    steps: list[int] = []

    def stop() -> bool:
        return len(steps) == 3

    with pytest.raises(StoppedError, match="Stopped after step 3 of 6"):
        removals.edit_and_evaluate(
            stopped,
            recipe,
            tmp_path / "op",
            what=PARTS,
            should_stop=stop,
            on_step=lambda step, loss, terms: steps.append(step),
        )
    assert same_bits(state(stopped), before)
    removals.edit_and_evaluate(
        stopped, recipe, tmp_path / "op", what=PARTS, on_step=lambda step, loss, terms: steps.append(step)
    )
    assert steps == [1, 2, 3, 4, 5, 6]
    assert same_bits(state(stopped), state(whole))
    assert not same_bits(state(stopped), before)


def test_a_stop_is_no_failure(tiny_model: LanguageModel, tiny_concept: Concept, tmp_path: Path):
    recipe = recipe_of(tiny_model, tiny_concept, from_settings("gradient_ascent", TRAINING))
    removal = removals.create(recipe, tmp_path / "op", device="cpu", what=PARTS)
    asked = []

    def report(text: str, share: float) -> None:
        if text.startswith("Training, step 2"):
            removal.request_stop()
            asked.append(text)

    status = removals.execute(removal, model=tiny_model, progress=report)
    assert asked
    assert status.state == "stopped"
    assert "as they were" in status.message
    assert removal.outcome() is None
    assert removals.execute(removal, model=tiny_model).state == "stopped"  # asked for before the start
    (removal.path / "stop").unlink()
    assert removals.execute(removal, model=tiny_model).state == "finished"
    assert [event["step"] for event in removal.events() if event["kind"] == "step"] == [1, 2, 3, 4, 5, 6]


def test_what_a_worker_changed_is_replayed_on_another_copy(tiny_folder: Path, tiny_concept: Concept, tmp_path: Path):
    edited, copy = (load(str(tiny_folder), device="cpu") for _ in range(2))
    before = state(copy)
    steps = (from_settings("unlearn", TRAINING), from_settings("mean_ablate", {"components": "L1.H1, L0.N4"}))
    removals.edit_and_evaluate(edited, recipe_of(edited, tiny_concept, *steps), tmp_path / "op", what=PARTS)
    ledger = Ledger(copy)
    paths = sorted((tmp_path / "op" / "edits").glob("*.safetensors"))
    with pytest.raises(EditError, match="other weights than these"):
        ledger.replay(paths[1])  # the first must come first
    entries = [ledger.replay(path) for path in paths]
    assert same_bits(state(copy), state(edited))
    assert [entry.edit for entry in entries] == list(steps)
    ledger.undo_to(0)
    assert same_bits(state(copy), before)


def test_five_mixed_edits_are_undone_bit_for_bit(either_model: LanguageModel, tiny_concept: Concept, tmp_path: Path):
    before = state(either_model)
    stack = (
        from_settings("prune", {"top_fraction": 0.1}),
        from_settings("npo", TRAINING),
        from_settings("mean_ablate", {"components": "L1.H1, L1.MLP"}),
        from_settings("rmu", {**TRAINING, "layer": 1}),
        from_settings("reverse", {"top_k": 9}),
    )
    ledger, outcome = removals.edit_and_evaluate(
        either_model, recipe_of(either_model, tiny_concept, *stack), tmp_path / "op", what=PARTS
    )
    assert len(ledger.entries) == 5
    assert outcome.edited_parameters > 1000
    assert not same_bits(state(either_model), before)
    ledger.undo_to(0)
    assert same_bits(state(either_model), before)


def test_a_failing_evaluation_takes_the_edits_back(
    tiny_model: LanguageModel, tiny_concept: Concept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    before = state(tiny_model)

    def broken(*arguments: object, **options: object) -> None:
        raise EditError("no evaluation today")

    monkeypatch.setattr("analysis.removals.removal.evaluation.evaluate", broken)
    recipe = recipe_of(tiny_model, tiny_concept, from_settings("prune", {}))
    removal = removals.create(recipe, tmp_path / "op", what=PARTS)
    with pytest.raises(EditError, match="no evaluation today"):
        removals.execute(removal, model=tiny_model)
    assert removal.status().state == "failed"
    assert same_bits(state(tiny_model), before)


def test_started_removals_are_carried_out_by_a_worker(tiny_folder: Path, tiny_concept: Concept):
    """One after another; a cancelled one is taken up again."""
    recipe = recipe_of(load(str(tiny_folder), device="cpu"), tiny_concept, from_settings("prune", {"top_k": 3}))
    first, second = (removals.start(recipe, device="cpu", what=PARTS, owner="Ada") for _ in range(2))
    assert [entry.owner for entry in queue.entries()] == ["Ada", "Ada"]
    assert queue.cancel(second.path)
    assert second.status().state == "stopped"
    deadline = time.monotonic() + 120
    while first.status().active and time.monotonic() < deadline:
        time.sleep(0.1)
    assert first.status().state == "finished", (first.path / "worker.log").read_text()
    removals.resume(second)
    while second.status().active and time.monotonic() < deadline:
        time.sleep(0.1)
    assert second.status().state == "finished", (second.path / "worker.log").read_text()
    old, new = (one.outcome() for one in (first, second))
    assert old is not None
    assert new is not None
    assert old.edited_parameters == new.edited_parameters == 3 * 3 * 32


def test_a_device_that_does_not_exist_leaves_nothing(tiny_model: LanguageModel, tiny_concept: Concept):
    with pytest.raises(ConfigError, match="cuda:99"):
        removals.start(recipe_of(tiny_model, tiny_concept, from_settings("prune", {})), device="cuda:99")
    assert removals.list_removals() == []


def test_a_worker_asks_for_room_before_it_loads(
    tiny_model: LanguageModel, tiny_concept: Concept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Nobody holds anything here, so it is refused with both numbers; a whole training counts more than an edit."""
    monkeypatch.setattr(memory, "free_bytes", lambda device: 5)
    says = {}
    for name, settings in (("prune", {}), ("gradient_ascent", {}), ("unlearn", {"only": "L1.MLP"})):
        recipe = recipe_of(tiny_model, tiny_concept, from_settings(name, settings))
        removal = removals.create(recipe, tmp_path / name, device="cpu", what=PARTS)
        with pytest.raises(MemoryShortError, match=r"0\.0 GiB are free on cpu"):
            removals.execute(removal)
        says[name] = removal.status().message
        assert removal.status().state == "failed"
    assert "and training it" in says["gradient_ascent"]
    assert not any("and training it" in says[name] for name in ("prune", "unlearn"))


def test_bad_requests(tiny_model: LanguageModel, tiny_concept: Concept, tmp_path: Path):
    recipe = recipe_of(tiny_model, tiny_concept, from_settings("prune", {}))
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "note").touch()
    with pytest.raises(RunError, match="not empty"):
        removals.create(recipe, tmp_path / "used")
    with pytest.raises(RunError, match="no removal"):
        Removal(tmp_path / "used")


def test_a_concept_that_is_only_words(tiny_model: LanguageModel, tiny_concept: Concept, tmp_path: Path):
    """Its words and everything around them are measured; a method that removes facts says that there are none."""
    words = Concept(name="words", title="Words", sentences=tiny_concept.sentences)
    recipe = recipe_of(tiny_model, words, from_settings("prune", {"top_fraction": 0.3}))
    _, outcome = removals.edit_and_evaluate(tiny_model, recipe, tmp_path / "op", what=(*PARTS, "labelled_words"))
    summary = outcome.summary()
    assert summary["before"]["forget"] is None
    assert summary["before"]["labelled_words"] != summary["after"]["labelled_words"]
    assert summary["kl"]["median"] > 0
    assert "no facts" in outcome.after.skipped["forget"]
    assert "labelled_words" not in outcome.after.skipped


def test_facts_cannot_be_removed_from_a_concept_without(
    tiny_model: LanguageModel, tiny_concept: Concept, tmp_path: Path
):
    words = Concept(name="words", title="Words", sentences=tiny_concept.sentences)
    with pytest.raises(ConceptError, match="this method removes facts"):
        removals.edit_and_evaluate(
            tiny_model, recipe_of(tiny_model, words, from_settings("npo", TRAINING)), tmp_path / "op", what=PARTS
        )
