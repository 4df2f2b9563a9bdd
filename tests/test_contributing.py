"""The examples in CONTRIBUTING.md, taken from the page and run on a tiny model as a contributor's files would be."""

import ast
import dataclasses
import importlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import streamlit as st
import torch
from streamlit.testing.v1 import AppTest

from analysis import concepts
from analysis import models as model_library
from analysis.concepts import Concept, Sentence
from analysis.edits import METHODS, Ledger, Materials, from_dict, from_settings, plan
from analysis.edits import methods as edit_methods
from analysis.edits.gradient import objectives
from analysis.errors import ConfigError
from analysis.models import LanguageModel, catalog, fetch
from analysis.models.catalog import CatalogEntry
from analysis.saliency import from_moments, methods
from analysis.saliency.method import Groups
from analysis.saliency.moments import stream_moments
from analysis.scoring.batches import label_concepts
from tests.shared_models import same_bits, state
from ui.app import shell, viewer_model

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"```python\n# (\S+)\n(.*?)```", PAGE, flags=re.DOTALL))
"""Path that an example is for -> its code."""


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, ModuleType], ModuleType]]:
    """Adds an example's module to the package that its path names, for the time of a test, and returns that module."""
    names = []

    def add(path: str, package: ModuleType) -> ModuleType:
        (tmp_path / Path(path).name).write_text(EXAMPLES[path], encoding="utf-8")
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
        importlib.invalidate_caches()
        names.append(f"{package.__name__}.{Path(path).stem}")
        return importlib.import_module(names[-1])

    yield add
    for name in names:
        package, _, module = name.rpartition(".")
        del sys.modules[name]
        delattr(sys.modules[package], module)


def sample_test(path: str) -> None:
    """Run every function of a test file that the page shows."""
    names: dict[str, object] = {}
    exec(compile(EXAMPLES[path], path, "exec"), names)
    tests = [one for name, one in names.items() if name.startswith("test_") and callable(one)]
    assert tests
    for one in tests:
        one()


def test_every_how_to_has_its_example_and_is_short():
    assert set(EXAMPLES) == {
        "analysis/saliency/methods/glass_delta.py",
        "tests/saliency/test_glass_delta.py",
        "analysis/edits/methods/damp.py",
        "analysis/edits/gradient/objectives/max_entropy.py",
        "analysis/models/catalog.py",
        "pages/sentences.py",
        "ui/app/shell.py",
    }
    for how_to in PAGE.split("\n## Add ")[1:]:
        prose = re.sub(r"```.*?```", "", how_to.split("\n", 1)[1], flags=re.DOTALL)
        assert len([line for line in prose.splitlines() if line.strip()]) <= 12, how_to[:40]


def test_the_saliency_method_is_found_and_gives_the_scores_it_says(
    added, tiny_model: LanguageModel, tiny_concept: Concept, monkeypatch: pytest.MonkeyPatch
):
    module = added("analysis/saliency/methods/glass_delta.py", methods)
    found = methods._declared()
    assert found["glass_delta"] is module.METHOD
    assert [name for name in found if name != "glass_delta"] == list(methods.METHODS)
    monkeypatch.setitem(methods.METHODS, "glass_delta", module.METHOD)
    moments = stream_moments(tiny_model, label_concepts(tiny_model, [tiny_concept]))
    scores = from_moments(moments, tiny_concept.name, "glass_delta")
    assert scores.scores_LN.shape == (tiny_model.n_layers, tiny_model.n_neurons)
    pooled_LN = from_moments(moments, tiny_concept.name, "standardised").scores_LN
    own = moments.group(tiny_concept.name)
    groups = Groups(*moments.means_GLN[own : own + 2], *moments.variances_GLN[own : own + 2])
    ratio_LN = np.sqrt((groups.own_variance + groups.other_variance) / 2 / groups.other_variance)
    np.testing.assert_allclose(scores.scores_LN, pooled_LN * ratio_LN, rtol=1e-6)  # both are |difference| / a deviation
    on_device = Groups(*(torch.as_tensor(getattr(groups, field.name)) for field in dataclasses.fields(Groups)))
    np.testing.assert_allclose(module.METHOD.signed(on_device).abs(), scores.scores_LN, rtol=1e-6)
    sample_test("tests/saliency/test_glass_delta.py")
    (line,) = re.findall(r"```markdown\n(.*?)\n```", PAGE)
    columns = next(
        line for line in (ROOT / "docs" / "methods.md").read_text().splitlines() if line.startswith("| method |")
    )
    assert line.startswith(f"| {module.METHOD.title} |")
    assert line.count(" |") == columns.count(" |")


def test_the_objective_is_found_lowers_its_loss_and_is_undone(
    added, tiny_model: LanguageModel, tiny_concept: Concept, tiny_neutral: tuple[Sentence, ...], monkeypatch
):
    module = added("analysis/edits/gradient/objectives/max_entropy.py", objectives)
    assert objectives._declared()[-1] is module.METHOD
    monkeypatch.setitem(METHODS, "max_entropy", module.METHOD)
    edit = from_settings("max_entropy", {"steps": "25", "learning_rate": "3e-3", "precision": "float32"})
    assert from_dict(edit.to_dict()) == edit
    before, losses = state(tiny_model), []
    materials = Materials(concept=tiny_concept, forget=tiny_concept.facts[:3], neutral=tiny_neutral[:5])
    change = plan(edit, tiny_model, materials)
    change.on_step = lambda step, loss, terms: losses.append(terms["forget"])  # type: ignore[attr-defined]
    ledger = Ledger(tiny_model)
    ledger.apply(change)
    assert losses[-1] < losses[0] < 0
    assert losses[-1] > -np.log(tiny_model.vocabulary_size)  # no entropy is above that of the uniform distribution
    ledger.undo()
    assert same_bits(before, state(tiny_model))


def test_the_edit_is_found_damps_and_is_undone(
    added, tiny_model: LanguageModel, tiny_concept: Concept, monkeypatch: pytest.MonkeyPatch
):
    module = added("analysis/edits/methods/damp.py", edit_methods)
    assert edit_methods._declared()["damp"] is module.METHOD
    monkeypatch.setitem(METHODS, "damp", module.METHOD)
    edit = from_settings("damp", {"components": "L1.N3, L2.H0", "factor": "0.25"})
    assert from_dict(edit.to_dict()) == edit
    for wrong in ("2", True, -0.5):
        with pytest.raises(ConfigError, match="factor is"):
            from_settings("damp", {"components": "L1.N3", "factor": wrong})
    with pytest.raises(ConfigError, match="components must be given"):
        from_settings("damp", {})
    before, ledger = state(tiny_model), Ledger(tiny_model)
    neuron, head = tiny_model.neuron_weights(1)[-1], tiny_model.head_weights(2)[-1]
    was = neuron.parameter.detach().select(neuron.axis, 3).clone(), head.parameter.detach().clone()
    ledger.apply(plan(edit, tiny_model, Materials(concept=tiny_concept)))
    assert torch.equal(neuron.parameter.detach().select(neuron.axis, 3), was[0] / 4)
    moved = (head.parameter.detach() != was[1]).movedim(head.axis, 0).flatten(1).any(1)
    assert moved.nonzero().flatten().tolist() == list(range(tiny_model.d_head))
    ledger.undo()
    assert same_bits(before, state(tiny_model))


def test_the_catalog_entry_is_resolved_fetched_and_loaded(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch):
    entry = eval(EXAMPLES["analysis/models/catalog.py"], {"CatalogEntry": CatalogEntry})
    monkeypatch.setattr(catalog, "CATALOG", (*catalog.CATALOG, entry))
    asked = []
    monkeypatch.setattr(fetch, "_hub_snapshot", lambda hub_id, *, local_only: asked.append(hub_id) or tiny_folder)
    source = catalog.resolve("Pythia-70M")
    assert (source.entry, source.kind) == (entry, "hub")
    model = model_library.load("pythia-70m", device="cpu")
    assert set(asked) == {"EleutherAI/pythia-70m"}
    assert model.n_layers == 3
    assert entry.size > entry.parameters


def test_the_page_opens_from_the_navigation(
    empty_home: Path,
    tiny_folder: Path,
    tiny_concept: Concept,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    concepts.save(tiny_concept)
    pages, code = tmp_path / "pages", EXAMPLES["pages/sentences.py"]
    pages.mkdir()
    (tmp_path / "ui").symlink_to(ROOT / "ui")
    for path in (ROOT / "pages").glob("*.py"):
        (pages / path.name).symlink_to(path)
    (pages / "sentences.py").write_text(code, encoding="utf-8")
    listed = shell.navigation
    line = ast.unparse(ast.parse(EXAMPLES["ui/app/shell.py"]))
    monkeypatch.setattr(shell, "navigation", lambda: [*listed(), eval(line, {"st": st})])
    app = AppTest.from_file(str(pages / "main.py"), default_timeout=60)
    app.query_params["model"], app.query_params["concept"] = str(tiny_folder), tiny_concept.name
    try:
        app.run()
        app.switch_page("sentences.py").run()
        assert not app.exception, app.exception
        assert app.title[0].value == "Sentences"
        assert list(app.dataframe[0].value["sentence"]) == [one.text for one in tiny_concept.sentences]
        app.slider(key="longest").set_value(8).run()
        assert 0 < len(app.dataframe[0].value) < len(tiny_concept.sentences)
    finally:
        viewer_model.unload()
