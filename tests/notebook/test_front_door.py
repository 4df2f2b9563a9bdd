"""The front door: names are lazy, the caller's model is never changed, results can be asked and print as tables."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

import analysis
from analysis import (
    PalimpsestError,
    find_circuit,
    load_concept,
    load_model,
    measure_saliency,
    open_run,
    prune,
    relearn,
    remove,
    reverse,
)
from analysis.concepts import Concept, dump_jsonl
from analysis.errors import ConfigError, RunError
from analysis.models import LanguageModel

ROOT = Path(__file__).parents[2]
SMALL = {"batch_size": 4, "known_threshold": 0.0, "precision": "float32", "cadence": "log", "follow_top": 2}


@pytest.fixture(scope="module")
def weights_of():
    """The bytes of every weight, to see whether one moved."""
    return lambda model: {name: p.detach().cpu().numpy().tobytes() for name, p in model.weights.items()}


def test_importing_the_library_imports_nothing_heavy():
    heavy = ("torch", "numpy", "pandas", "transformers", "transformer_lens", "plotly", "streamlit", "scipy")
    code = f"import sys, analysis; dir(analysis); print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_name_of_the_front_door_exists():
    assert 10 <= len(analysis.__all__) <= 16
    for name in analysis.__all__:
        assert getattr(analysis, name).__doc__, name


def test_the_main_job_from_a_notebook(tiny_folder: Path, tiny_concept: Concept, tmp_path: Path, weights_of):
    """What the package's docstring promises, on the tiny model."""
    file = tmp_path / "tiny-capitals.jsonl"
    file.write_text(dump_jsonl(tiny_concept))
    model, capitals = load_model(str(tiny_folder), device="cpu", progress=False), load_concept(str(file))
    before = weights_of(model)
    scores = measure_saliency(model, capitals, "standardised", progress=False)
    assert isinstance(scores.table(), pd.DataFrame)
    assert isinstance(scores.figure(top=5), go.Figure)
    run = relearn(model, capitals, edit=prune(top=5, by="probeless"), steps=4, control=True, progress=False, **SMALL)
    assert weights_of(model) == before
    assert weights_of(run.model) != before
    summary = run.summary()
    assert (summary["state"], summary["steps"], summary["edited_neurons"]) == ("finished", 4, 5)
    assert summary["control"]["final"] is not None
    assert list(run.recruits().columns[:2]) == ["neuron", "layer"]
    for kind in ("recovery", "layers", "priming"):
        assert isinstance(run.figure(kind), go.Figure)
    assert [one.phase for one in run.control.snapshots][:2] == ["base", "training"]


def test_a_run_in_memory_and_its_folder_give_the_same_answers(tiny_model, tiny_concept, tiny_shapes, tmp_path: Path):
    edit = prune(top=5)
    run = relearn(
        tiny_model, tiny_concept, edit=edit, steps=3, control=True, track=[tiny_shapes], progress=False, **SMALL
    )
    saved = run.save(tmp_path / "run")
    opened = open_run(tmp_path / "run")
    where = {"run": str(tmp_path / "run")}
    assert run.summary() | where == saved.summary() == opened.summary()
    pd.testing.assert_frame_equal(run.recruits(), opened.recruits())
    pd.testing.assert_frame_equal(run.carriers("raw", step=2), opened.carriers("raw", step=2))
    pd.testing.assert_frame_equal(run.table(), opened.table())
    for kind in ("recovery", "layers", "priming"):
        assert run.figure(kind) == opened.figure(kind)
    with pytest.raises(RunError, match="Only a run in memory"):
        _ = opened.model
    with pytest.raises(RunError, match="stored in"):
        opened.save(tmp_path / "again")


def test_a_run_in_memory_is_the_run_of_the_command_line(tiny_folder: Path, tiny_concept: Concept, tmp_path: Path):
    """Same losses, same scores, bit for bit; only that no folder is written."""
    from analysis import runs
    from analysis.runs import execution

    model = load_model(str(tiny_folder), device="cpu", progress=False)
    memory = relearn(model, tiny_concept, edit=prune(top=5), steps=3, control=True, progress=False, **SMALL)
    stored = runs.create(memory.config, tmp_path / "run", concepts={tiny_concept.name: tiny_concept})
    execution.execute(stored)
    for one, other in ((memory.record, stored), (memory.record.control, stored.control)):
        losses = [[event["loss"] for event in record.events() if event["kind"] == "step"] for record in (one, other)]
        assert losses[0] == losses[1]
        for ours, theirs in zip(one.snapshots(), other.snapshots(), strict=True):
            assert ours.p_held_out_F.tobytes() == theirs.p_held_out_F.tobytes()
            for method, scores_LN in ours.saliency[tiny_concept.name].items():
                assert scores_LN.tobytes() == theirs.saliency[tiny_concept.name][method].tobytes()


def test_removing_leaves_the_model_alone(tiny_model: LanguageModel, tiny_concept: Concept, weights_of):
    before = weights_of(tiny_model)
    measured = ("forget", "neutral_perplexity")
    found = remove(tiny_model, tiny_concept, reverse(top=5), evaluate=measured, known_threshold=0, progress=False)
    assert weights_of(tiny_model) == before
    assert weights_of(found.model) != before
    assert {"before", "after"} <= found.summary().keys()
    assert "forget" in "".join(found.table().index)


def test_results_print_as_tables(tiny_model: LanguageModel, tiny_concept: Concept):
    scores = measure_saliency(tiny_model, tiny_concept, progress=False)
    run = relearn(tiny_model, tiny_concept, steps=1, progress=False, **SMALL)
    for shown in (scores, run):
        assert "<table" in shown._repr_html_()
    assert "3 layers" in repr(tiny_model) or "layers" in repr(tiny_model)
    assert "in memory" in repr(run)
    assert len(repr(tiny_concept)) < 200


def test_the_strongest_units_can_be_pruned(tiny_model: LanguageModel, tiny_concept: Concept):
    scores = measure_saliency(tiny_model, tiny_concept, "probeless", progress=False)
    chosen = scores.top(4)
    assert scores.scores[chosen.mask()].min() >= np.sort(scores.scores, axis=None)[-4]
    assert prune(components=chosen).selection.components == chosen.format()


def test_a_circuit_is_found_and_confines_training(tiny_model: LanguageModel, tiny_concept: Concept):
    found = find_circuit(tiny_model, tiny_concept, top=3, facts=tiny_concept.facts, progress=False)
    assert len(found.table()) == 3
    assert isinstance(found.figure(), go.Figure)
    run = relearn(tiny_model, tiny_concept, steps=1, train_only=found.circuit, progress=False, **SMALL)
    assert run.config.train_only == found.circuit.format()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda model, concept: prune(), "exactly one"),
        (lambda model, concept: prune(top=5, share=0.1), "top and share"),
        (lambda model, concept: relearn(model, concept, stepz=3), "no such setting"),
        (lambda model, concept: relearn(model, concept, device="cpu"), "leave them out"),
        (lambda model, concept: measure_saliency(model, concept, "by guess"), "no saliency method"),
        (
            lambda model, concept: measure_saliency(model, concept).top(0),
            "k is 0; it must be a whole number of at least 1",
        ),
        (lambda model, concept: measure_saliency(model, concept).top(10**6), "Take 1 to 144 units"),
        (
            lambda model, concept: relearn(model, concept, train_only=["L1.MLP"]),
            "train_only is .*; it must be names of components",
        ),
        (lambda model, concept: relearn(model, concept, edit="npo"), "edit is 'npo'; it must be an edit"),
        (lambda model, concept: remove(model, concept, "npo"), "edit is 'npo'; it must be an edit"),
        (lambda model, concept: prune(components=["L1.N2"]), "names in one text"),
        (lambda model, concept: find_circuit(model, concept, bogus=1), "not a setting"),
        (lambda model, concept: relearn(model, concept, steps=1, **SMALL).figure("pie"), "no figure"),
    ],
)
def test_wrong_calls_say_what_is_right(unchecked_types: None, tiny_model, tiny_concept, wrong, message: str):
    with pytest.raises(PalimpsestError, match=message):
        wrong(tiny_model, tiny_concept)


def test_other_precisions_are_refused_for_training(tiny_folder: Path, tiny_concept: Concept):
    model = load_model(str(tiny_folder), device="cpu", dtype="bfloat16", progress=False)
    for call in (relearn, lambda model, concept: remove(model, concept, prune(top=2))):
        with pytest.raises(ConfigError, match="float32"):
            call(model, tiny_concept)


def test_the_strongest_heads_stay_heads(tiny_model: LanguageModel, tiny_concept: Concept):
    """A head must not become the neuron of the same number, and a residual dimension cannot be pruned."""
    scores = measure_saliency(tiny_model, tiny_concept, "probeless", site="attn.hook_z", progress=False)
    layer, head = np.unravel_index(scores.scores.argmax(), scores.scores.shape)
    assert scores.top(1) == f"L{layer}.H{head}"
    assert prune(components=scores.top(2)).selection.components == scores.top(2)
    assert isinstance(scores.figure(top=2), go.Figure)
    residual = measure_saliency(tiny_model, tiny_concept, "probeless", site="hook_resid_post", progress=False)
    with pytest.raises(ConfigError, match="no weights of its own"):
        residual.top(2)


def test_two_concepts_of_one_name_are_refused(tiny_model: LanguageModel, tiny_concept: Concept, tiny_shapes: Concept):
    other = replace(tiny_shapes, name=tiny_concept.name)
    with pytest.raises(ConfigError, match="Two different concepts"):
        relearn(tiny_model, tiny_concept, steps=1, track=[other], progress=False, **SMALL)
    run = relearn(tiny_model, tiny_concept, steps=1, track=[tiny_shapes, tiny_shapes], progress=False, **SMALL)
    assert run.config.track == (tiny_shapes.name,)


def test_a_saved_run_cannot_go_on_and_keeps_its_text_and_times(tiny_model, tiny_concept, tmp_path: Path):
    from analysis.runs import execution

    text = tmp_path / "text.txt"
    text.write_text("The kettle is by the window.\nThe train is late.\n")
    run = relearn(
        tiny_model,
        tiny_concept,
        steps=2,
        text=str(text),
        text_share=0.25,
        progress=False,
        **(SMALL | {"neutral_share": 0.25}),
    )
    text.write_text("Something else.\n")
    saved = run.save(tmp_path / "run").record
    assert "kettle" in " ".join(saved.text())
    assert (saved.created, saved.events()) == (run.record.created, run.record.events())
    with pytest.raises(RunError, match="carried out in memory"):
        execution.resume(saved, steps=4)


def test_an_interrupt_keeps_what_there_is(tiny_model, tiny_concept, monkeypatch: pytest.MonkeyPatch):
    from analysis.relearning.trainer import Trainer

    original = Trainer.step

    def interrupted(self):
        if self.done == 2:
            raise KeyboardInterrupt
        return original(self)

    monkeypatch.setattr(Trainer, "step", interrupted)
    run = relearn(tiny_model, tiny_concept, edit=prune(top=3), steps=5, control=True, progress=False, **SMALL)
    assert (run.record.status().state, run.control) == ("stopped", None)
    assert [one.step for one in run.snapshots][-1] in (1, 2)


def test_a_damaged_run_does_not_hide_the_others(
    unchecked_types: None, tmp_path: Path, monkeypatch, tiny_model, tiny_concept
):
    monkeypatch.setenv("PALIMPSEST_HOME", str(tmp_path))
    run = relearn(tiny_model, tiny_concept, steps=1, progress=False, **SMALL)
    run.save(tmp_path / "runs" / "good")
    run.save(tmp_path / "runs" / "bad")
    (tmp_path / "runs" / "bad" / "config.json").write_text("{")
    assert "damaged" in repr(analysis.list_runs())
