"""A run that finds a concept's words on the Relearn page: its form, and what is shown of it."""

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from analysis import figures, relearning, runs
from analysis.canvas import run_data
from analysis.canvas.run_cache import View
from analysis.concepts import Concept
from analysis.edits import ComponentEdit, Selection
from analysis.errors import RunError
from analysis.relearning import RelearnConfig
from analysis.runs import RunDirectory
from tests.pages.test_pages import _errors, open_page  # noqa: F401 (a fixture)
from tests.small_runs import Finished


@pytest.fixture
def tagging_run(tiny_folder: Path, tiny_concept: Concept, empty_home: Path, finished: Finished) -> RunDirectory:
    config = RelearnConfig(
        model=str(tiny_folder),
        concept=tiny_concept.name,
        task="tagging",
        fine_tune_steps=2,
        edit=ComponentEdit(selection=Selection(rule="top_k", value=5)),
        steps=2,
        batch_size=4,
        cadence="steps",
        snapshot_every=1,
        device="cpu",
    )
    (empty_home / "runs").mkdir()
    return finished(config, empty_home / "runs" / "tagged")


def test_the_task_is_offered_and_starts(open_page, tiny_concept: Concept, monkeypatch: pytest.MonkeyPatch):  # noqa: F811
    started: list[RelearnConfig] = []

    def start(config: RelearnConfig, **arguments: object) -> RunDirectory:
        started.append(config)
        raise RunError("Not today")

    monkeypatch.setattr(runs, "start", start)
    app: AppTest = open_page("relearn", task="Find the words (NER)", fine_tune_epochs="3", batch="4", neutral="0.5")
    assert _errors(app) == ""
    epoch = relearning.epoch_steps(
        RelearnConfig(model="m", concept="c", task="tagging", fine_tune_steps=1, batch_size=4, neutral_share=0.5),
        tiny_concept,
    )
    assert any(f"An epoch is {epoch} steps" in caption.value for caption in app.caption)
    next(button for button in app.button if button.label == "Start relearning").click().run()
    (config,) = started
    assert (config.task, config.fine_tune_steps, config.sentence_share) == ("tagging", 3 * epoch, 0.0)


def test_a_finished_run_shows_f1_and_names_what_it_measures(open_page, tagging_run: RunDirectory):  # noqa: F811
    app: AppTest = open_page("relearn")
    assert _errors(app) == ""
    captions = " ".join(caption.value for caption in app.caption)
    assert "Fine-tuned for 2 steps before the edit" in captions
    assert "words in" in captions
    assert "facts retrained on" not in captions
    facts = tagging_run.facts()
    assert facts is not None
    view = View(concepts=("tiny-capitals",), mode="since the edit", scale="standardised", order="by number")
    drawn = run_data.scene(tagging_run, view, facts, tagging_run.n_snapshots())
    assert (drawn.task.measure, drawn.task.held_out) == ("P(tags)", "words in held-out sentences")


def test_the_curve_has_both_parts_of_both_runs(tagging_run: RunDirectory):
    taken = tagging_run.snapshots()
    assert tagging_run.control is not None
    drawn = figures.f1_curve({"this run": taken, "control": tagging_run.control.snapshots()}).to_dict()
    held_out, retrained, *control = drawn["data"]
    assert len(control) == 2
    assert list(held_out["x"]) == [0, 1, 2]
    assert list(held_out["y"]) == [one.metrics["f1"] for one in taken[1:]]
    assert list(retrained["y"]) == [one.metrics["f1_trained"] for one in taken[1:]]
    assert drawn["layout"]["shapes"][0]["y0"] == taken[0].metrics["f1"]
