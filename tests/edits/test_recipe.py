"""Recipes make the same weights again, and refuse other models and nonsense."""

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from analysis import removals
from analysis.concepts import Concept, Fact, digest, save
from analysis.concepts import load as load_concept
from analysis.edits import ComponentEdit, PlannedEdit, Selection, from_settings, plan
from analysis.edits.components.preview import preview
from analysis.edits.recipe import Recipe, gather
from analysis.errors import ConceptError, ConfigError, EditError
from analysis.models import LanguageModel, load
from analysis.models.fingerprint import Fingerprint
from analysis.training import precision
from tests.raw_model import raw
from tests.shared_models import same_bits, state


@pytest.fixture
def recipe(tiny_model: LanguageModel, tiny_concept: Concept) -> Recipe:
    return Recipe.of(
        tiny_model,
        [
            (tiny_concept, from_settings("prune", {"top_fraction": 0.05})),
            (tiny_concept, from_settings("mean_ablate", {"components": "L1.H1, L2.N5"})),
            (tiny_concept, from_settings("reverse", {"top_k": 7, "pick": "random", "seed": 3})),
        ],
    )


def test_a_stored_recipe_makes_the_same_weights(tiny_folder: Path, tmp_path: Path, recipe: Recipe):
    first, second = (load(str(tiny_folder), device="cpu") for _ in range(2))
    before = state(first)
    ledger = recipe.execute(first)
    recipe.save(tmp_path / "recipe.json")
    again = Recipe.load(tmp_path / "recipe.json")
    assert again == recipe
    again.execute(second)
    assert same_bits(state(first), state(second))
    assert [entry.concept for entry in ledger.entries] == ["tiny-capitals"] * 3
    ledger.undo_to(0)
    assert same_bits(state(first), before)


def test_a_recipe_is_of_the_model_without_a_preview_under_way(tiny_model: LanguageModel, tiny_concept: Concept):
    """The page's model is shared: another thread may be looking at an edit through hooks."""
    edit = from_settings("prune", {"top_fraction": 0.5})
    wanted = Recipe.of(tiny_model, [(tiny_concept, edit)])
    planned = plan(edit, tiny_model, gather(tiny_model, tiny_concept, facts=False))
    assert isinstance(planned, PlannedEdit)
    made: list[Recipe] = []
    thread = threading.Thread(target=lambda: made.append(Recipe.of(tiny_model, [(tiny_concept, edit)])))
    with preview(tiny_model, planned):
        assert Fingerprint.of(raw(tiny_model)) != wanted.fingerprint
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
    thread.join(60)
    assert made == [wanted]


def test_another_model_is_refused(tiny_model: LanguageModel, tiny_gpt2: LanguageModel, recipe: Recipe):
    with pytest.raises(EditError, match="3 layers with 4 heads and 48 neurons each"):
        recipe.execute(tiny_gpt2)
    with torch.no_grad():
        tiny_model.neuron_weights(0)[0].parameter.mul_(3)
    with pytest.raises(EditError, match="without edits"):
        recipe.execute(tiny_model)


def test_a_step_that_fails_takes_the_others_back(
    tiny_model: LanguageModel, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
):
    before, write, calls = state(tiny_model), PlannedEdit.write, []

    def failing(self: PlannedEdit, model: LanguageModel) -> None:
        calls.append(self)
        if len(calls) == 3:
            raise EditError("no")
        write(self, model)

    monkeypatch.setattr(PlannedEdit, "write", failing)
    with pytest.raises(EditError, match="no"):
        recipe.execute(tiny_model)
    assert same_bits(state(tiny_model), before)


def changed(recipe: Recipe, change: dict[str, Any]) -> str:
    data = json.loads(recipe.to_json())
    for path, value in change.items():
        *parents, last = path.split(".")
        place = data
        for key in parents:
            place = place[int(key)] if key.isdigit() else place[key]
        if value is None:
            del place[last]
        else:
            place[last] = value
    return json.dumps(data)


NONSENSE = {
    "another format": ({"format": "cake recipe"}, "format"),
    "no steps": ({"steps": []}, "no steps"),
    "no model": ({"model": None}, "damaged"),
    "steps of another kind": ({"steps": "prune everything"}, "damaged"),
    "an unknown method": ({"steps.0.edit.method": "erase"}, "not a method"),
    "an unknown setting": ({"steps.0.edit.strength": 3}, "not an edit"),
    "a share above one": ({"steps.0.edit.selection.value": 7}, "share of neurons"),
    "a share that is a text": ({"steps.0.edit.selection.value": "much"}, "no selection|value|number"),
    "a concept it does not have": ({"steps.0.concept": "weather"}, "not among its concepts"),
    "a broken concept": ({"concepts.tiny-capitals": "{"}, "line 1"),
    "a method that contradicts its settings": ({"steps.0.edit.method": "reverse"}, "settings are those of"),
}


@pytest.mark.parametrize(("change", "message"), NONSENSE.values(), ids=NONSENSE)
def test_nonsense_is_a_clear_error(recipe: Recipe, change: dict[str, Any], message: str):
    with pytest.raises((ConfigError, ConceptError), match=message):
        Recipe.from_json(changed(recipe, change))


@pytest.mark.parametrize("text", ["", "[]", "{}", "not json", "null"])
def test_what_is_no_recipe_at_all(text: str):
    with pytest.raises(ConfigError, match="no recipe"):
        Recipe.from_json(text)


def test_missing_files(tmp_path: Path, recipe: Recipe):
    with pytest.raises(ConfigError, match="cannot be read"):
        Recipe.load(tmp_path / "none.json")
    with pytest.raises(EditError, match="cannot be written"):
        recipe.save(tmp_path / "none" / "recipe.json")


def test_facts_the_model_does_not_know(tiny_model: LanguageModel, tiny_concept: Concept):
    with pytest.raises(ConceptError, match="knows none of the"):
        gather(tiny_model, tiny_concept, threshold=0.999)
    found = gather(tiny_model, tiny_concept, threshold=0.0)
    assert found.forget == tiny_concept.facts
    assert found.neutral
    assert gather(tiny_model, tiny_concept, facts=False).forget == ()


def test_an_edit_says_which_method_it_is():
    assert ComponentEdit().method == "prune"
    assert ComponentEdit(fill="mean").method == "mean_ablate"
    assert ComponentEdit(kind="reverse", selection=Selection(rule="top_k", value=3)).method == "reverse"
    with pytest.raises(ConfigError, match="Give one of"):
        from_settings("prune", {"top_k": 3, "top_fraction": 0.1})
    with pytest.raises(ConfigError, match="no setting “strength”"):
        from_settings("prune", {"strength": 3})


def test_two_concepts_of_one_name(tiny_model: LanguageModel, tiny_concept: Concept):
    other = replace(tiny_concept, title="Another")
    steps = [(tiny_concept, ComponentEdit()), (other, ComponentEdit())]
    with pytest.raises(ConfigError, match="the same name"):
        Recipe.of(tiny_model, steps)


def keep(concept: Concept, *facts: tuple[str, str]) -> None:
    """Keep a concept of these facts under the name “kept”."""
    save(replace(concept, name="kept", facts=tuple(Fact(subject, answer) for subject, answer in facts), sentences=()))


def test_a_maintained_concept_that_has_changed_is_refused(
    tiny_folder: Path, tiny_model: LanguageModel, tiny_concept: Concept, tmp_path: Path, empty_home: Path
):
    keep(tiny_concept, ("Kenya", "Nairobi"), ("Egypt", "Cairo"))
    edit = from_settings("grad_diff", {"steps": 1})
    recipe = Recipe.of(tiny_model, [(tiny_concept, edit)], maintain=("kept",), threshold=0.0)
    assert set(recipe.digests) == {"concept “tiny-capitals”", "maintained concept “kept”", "built-in neutral text"}
    recipe.save(tmp_path / "recipe.json")
    again = Recipe.load(tmp_path / "recipe.json")
    again.check_concepts()
    keep(tiny_concept, ("Peru", "Lima"), ("Cuba", "Havana"))
    before = state(tiny_model)
    with pytest.raises(ConfigError, match="The maintained concept “kept” is not what it was when this recipe was made"):
        again.execute(tiny_model)
    with pytest.raises(ConfigError, match="maintained concept “kept”"):
        removals.create(again, tmp_path / "removal")
    assert same_bits(state(tiny_model), before)
    assert not (tmp_path / "removal").exists()
    save(replace(load_concept("kept"), facts=(Fact("Kenya", "Nairobi"), Fact("Egypt", "Cairo")), title="Renamed"))
    again.check_concepts()  # what it holds is what counts, not its title


def test_a_concept_that_was_edited_in_a_recipes_file(recipe: Recipe):
    data = json.loads(recipe.to_json())
    data["concepts"]["tiny-capitals"] = data["concepts"]["tiny-capitals"].replace("Tourists who visit", "Those who see")
    with pytest.raises(ConfigError, match="The concept “tiny-capitals” is not what it was"):
        Recipe.from_json(json.dumps(data)).check_concepts()


def test_a_recipe_of_an_earlier_version_says_that_it_cannot_be_checked(recipe: Recipe):
    old = Recipe.from_json(changed(recipe, {"digests": None, "maintain": ["athletes"]}))
    old.check_concepts()
    assert "does not say what the maintained concepts held (athletes)" in old.unchecked
    assert not recipe.unchecked
    assert not Recipe.from_json(changed(recipe, {"digests": None})).unchecked  # nothing is looked up by its name


def test_a_ledger_says_what_the_concept_held(tiny_model: LanguageModel, tiny_concept: Concept, recipe: Recipe):
    entries = recipe.execute(tiny_model).entries
    assert {entry.concept_digest for entry in entries} == {digest(tiny_concept)}
    other = replace(tiny_concept, templates=("The city of {subject} is",))
    assert digest(other) != digest(tiny_concept) == digest(replace(tiny_concept, name="b", title="c", description="d"))


def test_a_recipe_names_the_format_that_was_chosen(
    tiny_model: LanguageModel, tiny_concept: Concept, monkeypatch: pytest.MonkeyPatch
):
    """On another machine “auto” might train in the other one, and other weights would come out."""
    for name in ("bf16", "float32"):
        chosen = precision.ChosenPrecision(name, "")
        monkeypatch.setattr(precision, "_on_processor", lambda processor, file, chosen=chosen: chosen)
        made = Recipe.of(tiny_model, [(tiny_concept, from_settings("unlearn", {}))])
        assert made.steps[0].edit.to_dict()["precision"] == name
        assert from_settings("unlearn", {}).to_dict()["precision"] == "auto"
