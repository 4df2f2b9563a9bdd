"""Surgery and Board with removals: every method's form, starting, following, results, the copy, recipes, the board."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from streamlit.testing.v1 import AppTest

from analysis import concepts, removals
from analysis.concepts import Concept
from analysis.edits import METHODS, Edit, from_settings
from analysis.edits.recipe import Recipe
from analysis.errors import RunError
from analysis.jobs import JobStatus, queue, queue_rules
from analysis.models import LanguageModel, load
from analysis.removals.removal import Removal
from tests.shared_models import lent
from ui.app import viewer_model

_ROOT = Path(__file__).parents[2]
PARTS = ("forget", "neutral_perplexity", "kl")


@pytest.fixture
def open_page(empty_home: Path, tiny_folder: Path, tiny_concept: Concept) -> Callable[..., AppTest]:
    concepts.save(tiny_concept)

    def open_it(page: str, **query: str) -> AppTest:
        app = AppTest.from_file(str(_ROOT / "pages" / "main.py"), default_timeout=120)
        for key, value in {"model": str(tiny_folder), "concept": tiny_concept.name, **query}.items():
            app.query_params[key] = value
        app.run()
        return app.switch_page(f"{page}.py").run()

    yield open_it
    viewer_model.unload()


@pytest.fixture(scope="module")
def carried_out() -> dict[Edit, Path]:
    """The folders of removals that need not be carried out again."""
    return {}


@pytest.fixture
def made(
    empty_home: Path,
    tiny_model: LanguageModel,
    tiny_concept: Concept,
    carried_out: dict[Edit, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[Edit, str], Removal]:
    """Makes a removal in the home folder, carried out unless told otherwise."""

    def make(edit: Edit, name: str, *, done: bool = True) -> Removal:
        path = empty_home / "removals" / name
        recipe = Recipe.of(tiny_model, [(tiny_concept, edit)], threshold=0.0)
        if not done:
            return removals.create(recipe, path, device="cpu", what=PARTS)
        if edit not in carried_out:
            removal = removals.create(recipe, tmp_path_factory.mktemp("removals") / "one", device="cpu", what=PARTS)
            with lent(tiny_model.source.path) as model:
                removals.execute(removal, model=model)
            carried_out[edit] = removal.path
        shutil.copytree(carried_out[edit], path)
        return Removal(path)

    return make


def _errors(app: AppTest) -> str:
    assert not app.exception, app.exception
    return " ".join(error.value for error in app.error)


def _press(app: AppTest, label: str) -> AppTest:
    return next(button for button in app.button if button.label == label).click().run()


def _frame(app: AppTest, column: str):
    return next(frame.value for frame in app.dataframe if column in frame.value.columns)


def test_every_method_has_a_form_and_starts_as_set(open_page, monkeypatch: pytest.MonkeyPatch):
    started: list[Recipe] = []

    def start(recipe: Recipe, **options: object) -> Removal:
        started.append(recipe)
        raise RunError("Not today")

    monkeypatch.setattr(removals, "start", start)
    app = open_page("surgery")
    gradient = [name for name, method in METHODS.items() if any(one.name == "forget" for one in method.settings)]
    assert len(gradient) >= 8
    for name in gradient:
        app.selectbox(key="remove_by").set_value(name).run()
        assert _errors(app) == "", name
    app.selectbox(key="remove_by").set_value("npo").run()
    app.number_input(key="npo_steps").set_value(7).run()
    app.number_input(key="npo_beta").set_value(0.5).run()
    app.text_input(key="only").set_value("L1.MLP").run()
    app.segmented_control(key="npo_facts").set_value("named").run()
    app.multiselect(key="npo_forget").set_value(["Italy", "Spain"]).run()
    assert "Not today" in _errors(_press(app, "Carry out and evaluate"))
    expected = from_settings("npo", {"steps": 7, "beta": 0.5, "only": "L1.MLP", "forget": ("Italy", "Spain")})
    assert [recipe.steps[0].edit for recipe in started] == [expected.settled(torch.device("cpu"))]


def test_an_address_reproduces_a_paper_s_setting(open_page):
    app = open_page("surgery", remove_by="llm_surgery", llm_surgery_preset="LLM Surgery: released run")
    assert _errors(app) == ""
    assert app.number_input(key="llm_surgery1_steps").value == 120
    assert app.text_input(key="llm_surgery1_cap").value == ""  # no cap, as released
    assert any("llm_surgery: 120 steps at 0.0002" in text.value for text in app.markdown)


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"remove_by": "npo", "npo_steps": "0"}, "steps is 0"),
        ({"remove_by": "npo", "only": "everything"}, "is no component"),
        ({"remove_by": "grad_diff", "grad_diff_cap": "much"}, "does not fit"),
    ],
)
def test_settings_that_do_not_fit_are_told(open_page, query: dict, says: str):
    assert says in _errors(open_page("surgery", **query))


def test_old_links_and_carried_circuits(open_page):
    app = open_page("surgery", kind="reverse", rule="explicit", neurons="L0.H1")
    assert _errors(app) == ""
    assert any("reverse: L0.H1" in text.value for text in app.markdown)
    app.selectbox(key="remove_by").set_value("unlearn").run()
    assert app.text_input(key="only").value == "L0.H1"
    assert any("training only L0.H1" in text.value for text in app.markdown)


def test_a_finished_removal_is_shown_applied_and_undone(open_page, made):
    training = {"steps": 3, "batch_size": 2, "learning_rate": 1e-3, "precision": "float32"}
    removal = made(from_settings("grad_diff", training), "one")
    app = open_page("surgery", op="one")
    assert _errors(app) == ""
    results = _frame(app, "before")
    outcome = removal.outcome()
    assert outcome is not None
    forget = results.set_index("measure").loc["forget"]
    assert forget["before"].startswith(f"{outcome.before.value('forget'):.3g} [")
    assert "6 facts" in forget["n"]
    after = _frame(app, "KL median, nats")
    assert after["KL median, nats"][0] == pytest.approx(outcome.after.value("kl_median"))
    assert _errors(_press(app, "Apply to my copy")) == ""
    ledger = host_ledger(app)
    assert ledger["in place"].tolist() == [True]
    assert ledger["changed"].tolist() == [outcome.edited_parameters]
    app.text_input(key=next(box.key for box in app.text_input if box.label == "New folder")).set_value("/proc/no").run()
    assert "/proc/no cannot be written" in _errors(_press(app, "Export weights"))
    _press(app, "Undo")
    assert _errors(app) == ""
    assert any("No edit has been applied" in caption.value for caption in app.caption)


def host_ledger(app: AppTest):
    return _frame(app, "SHA-256 after")


def test_a_stopped_removal_goes_on(open_page, made, monkeypatch: pytest.MonkeyPatch):
    removal = made(from_settings("prune", {}), "late", done=False)
    removal.write_status(JobStatus(state="stopped", message="Stopped on request", heartbeat=time.time()))
    removal.request_stop()
    monkeypatch.setattr(queue_rules, "_start", lambda device: None)  # no worker comes
    app = open_page("surgery")
    assert _errors(_press(app, "Go on")) == ""
    assert queue.place(removal.path) == 1
    assert (removal.status().state, removal.status().message) == ("queued", "1st in the queue")
    _press(app, "Cancel")
    assert removal.status().state == "stopped"
    queue.tend()
    assert queue.place(removal.path) is None


@pytest.mark.parametrize("damage", ["recipe.json", "evaluation.json", "removal.json", "status.json"])
@pytest.mark.parametrize("page", ["surgery", "board"])
def test_a_damaged_removal_breaks_no_page(open_page, made, page: str, damage: str):
    removal = made(from_settings("prune", {}), "damaged")
    (removal.path / damage).write_text("{")
    app = open_page(page)
    assert not app.exception
    assert app.title[0].value.lower() == page


def test_the_board_ranks_what_did_not_collapse(open_page, made):
    made(from_settings("prune", {"top_fraction": 0.1}), "20260101-000000-prune")
    wrecked = made(from_settings("reverse", {"top_fraction": 1.0}), "20260101-000001-reverse")
    data = json.loads((wrecked.path / "evaluation.json").read_text())
    data["after"]["warning"] = "The edit wrecked the model."
    (wrecked.path / "evaluation.json").write_text(json.dumps(data))
    app = open_page("board")
    assert _errors(app) == ""
    tables = [frame.value for frame in app.dataframe]
    assert [table["method"].tolist() for table in tables] == [["prune"], ["reverse"]]
    assert any("Collapsed: not ranked" in text.value for text in app.markdown)


def test_several_methods_are_queued(open_page, monkeypatch: pytest.MonkeyPatch):
    started: list[str] = []
    monkeypatch.setattr(removals, "start", lambda recipe, **options: started.append(recipe.steps[0].edit.method))
    app = open_page("board", queue="prune")
    assert app.multiselect(key="queue").value == ["prune"]
    app.multiselect(key="queue").set_value(["prune", "npo"]).run()
    assert _errors(_press(app, "Carry them out")) == ""
    assert started == ["prune", "npo"]


def test_a_concept_of_words_alone(open_page, tiny_shapes: Concept, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch):
    """Its edits are previewed, carried out, shown and ranked; what removes facts is not offered."""
    concepts.save(tiny_shapes)
    started: list[str] = []

    def start(recipe: Recipe, **options: object) -> Removal:
        started.append(recipe.steps[0].edit.method)
        removal = removals.create(recipe, removals.new_path("tiny-shapes", "prune"), device="cpu", what="quick")
        removals.execute(removal, model=load(str(tiny_folder), device="cpu"))
        return removal

    monkeypatch.setattr(removals, "start", start)
    app = open_page("surgery", concept="tiny-shapes", percent="10")
    assert _errors(_press(app, "Preview")) == ""
    assert _frame(app, "P(labelled word) in the concept's sentences").shape[0] == 2
    assert _errors(_press(app, "Carry out and evaluate")) == ""
    assert started == ["prune"]
    assert app.metric[0].label == "P(word), to forget"
    app.selectbox(key="remove_by").set_value("npo").run()
    assert any("has no facts" in info.value for info in app.info)
    assert next(one for one in app.button if one.label == "Carry out and evaluate").disabled
    app.selectbox(key="remove_by").set_value("tars").run()
    assert "Give the answer" in _errors(app)
    app.text_input(key="tars_trigger").set_value("circle").run()
    app.text_input(key="tars_prompts").set_value("A round shape is called a").run()
    assert _errors(app) == ""
    assert not next(one for one in app.button if one.label == "Carry out and evaluate").disabled
    app = open_page("board", concept="tiny-shapes")
    assert _errors(app) == ""
    assert set(app.multiselect(key="queue").options) == {"prune", "mean_ablate", "reverse"}
    assert _frame(app, "labelled_words")["method"].tolist() == ["prune"]
