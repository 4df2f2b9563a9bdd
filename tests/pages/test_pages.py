"""Every page's script against a tiny model: what it shows, and how it takes bad input and damaged runs."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from analysis import concepts, runs
from analysis.concepts import Concept
from analysis.edits import ComponentEdit, Selection
from analysis.errors import RunError
from analysis.jobs import JobStatus
from analysis.relearning import RelearnConfig
from analysis.runs import RunDirectory
from tests.small_runs import Finished
from ui.app import viewer_model
from ui.surgery import before_after

_ROOT = Path(__file__).parents[2]
PAGES = ("model", "saliency", "surgery", "board", "relearn", "compare")


@pytest.fixture
def open_page(
    empty_home: Path, tiny_folder: Path, tiny_concept: Concept, tiny_shapes: Concept
) -> Callable[..., AppTest]:
    """Opens a page with the tiny model and concept chosen through the URL."""
    concepts.save(tiny_concept)
    concepts.save(tiny_shapes)

    def open_it(page: str, **query: str) -> AppTest:
        app = AppTest.from_file(str(_ROOT / "pages" / "main.py"), default_timeout=60)
        for key, value in {"model": str(tiny_folder), "concept": tiny_concept.name, **query}.items():
            app.query_params[key] = value
        app.run()
        if page != "model":
            app.switch_page(f"{page}.py").run()
        return app

    yield open_it
    viewer_model.unload()


@pytest.fixture
def finished_run(tiny_folder: Path, tiny_concept: Concept, empty_home: Path, finished: Finished) -> RunDirectory:
    config = RelearnConfig(
        model=str(tiny_folder),
        concept=tiny_concept.name,
        edit=ComponentEdit(selection=Selection(rule="top_k", value=5)),
        steps=2,
        batch_size=4,
        known_threshold=0.0,
        device="cpu",
    )
    (empty_home / "runs").mkdir()
    return finished(config, empty_home / "runs" / "done")


def _errors(app: AppTest) -> str:
    assert not app.exception, app.exception
    return " ".join(error.value for error in app.error)


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("concept", ["tiny-capitals", "tiny-shapes"])
def test_every_page_works_without_any_run(open_page, page: str, concept: str):
    app = open_page(page, concept=concept)
    assert _errors(app) == ""
    assert app.title[0].value.lower() == page


@pytest.mark.parametrize("page", PAGES)
def test_every_page_works_with_a_run(open_page, finished_run: RunDirectory, page: str):
    app = open_page(page)
    assert _errors(app) == ""


def test_a_finished_run_is_shown_in_numbers(open_page, finished_run: RunDirectory):
    app = open_page("relearn")
    assert any("4 facts retrained on, 2 held out" in caption.value for caption in app.caption)


@pytest.mark.parametrize("damage", ["", "config.json", "status.json"])
def test_all_runs_are_listed_with_their_edits(open_page, finished_run: RunDirectory, damage: str):
    other = shutil.copytree(finished_run.path, finished_run.path.parent / "20200101-other")
    if damage == "config.json":
        (other / damage).write_text("{")
    elif damage:
        (other / damage).unlink()
        (other / damage).mkdir()
    app = open_page("relearn", run=finished_run.name)
    app.session_state["run list"] = True  # opened
    app.run()
    assert _errors(app) == ""
    listed = next(frame.value for frame in app.dataframe if "edit" in frame.value.columns)
    edits = dict(zip(listed["run"], listed["edit"]))
    title = finished_run.record["title"]
    assert edits.keys() == {finished_run.name, other.name}
    assert edits[finished_run.name] == title
    assert damage in edits[other.name] if damage else edits[other.name] == title


def test_a_control_that_never_began_is_told_and_can_be_made_up(open_page, finished_run: RunDirectory):
    shutil.rmtree(finished_run.path / "control")
    assert finished_run.control_is_due(), "the process that carried it out is alive"
    status = finished_run.status()
    finished_run.write_status(replace(status, heartbeat=status.heartbeat - 61))
    assert not finished_run.control_is_due()
    app = open_page("relearn")
    assert any("The control run has not started" in warning.value for warning in app.warning)
    assert "Go on" in [button.label for button in app.button]


def test_the_sidebar_names_the_model_on_a_page_that_ends_in_an_error(open_page):
    app = open_page("saliency", model="nothing/there")
    assert _errors(app) != ""
    assert any(caption.value.startswith("Model: ") for caption in app.sidebar.caption)


def test_an_unfinished_form_leaves_the_ledger_in_sight(open_page):
    app = open_page("surgery", rule="explicit", neurons="everything")
    assert "is no component" in _errors(app)
    assert "Ledger" in [header.value for header in app.subheader]


@pytest.mark.parametrize("damage", ["snapshot", "facts", "config", "crash"])
def test_a_damaged_run_is_told_and_breaks_nothing(open_page, finished_run: RunDirectory, damage: str):
    if damage == "snapshot":
        (finished_run.path / "snapshots" / "000001.safetensors").write_bytes(b"short")
    elif damage == "facts":
        (finished_run.path / "facts.json").write_text("{")
    elif damage == "config":
        (finished_run.path / "config.json").write_text("{")
    else:
        finished_run.write_status(JobStatus(state="running", pid=2**22 + 1, pid_started=1.0, host=""))
    app = open_page("relearn")
    assert _errors(app) != ""
    assert _errors(open_page("model")) == ""


@pytest.mark.parametrize(
    ("page", "query", "says"),
    [
        ("saliency", {"model": "smolm2"}, "Did you mean"),
        ("saliency", {"model": "/no/such/folder"}, "neither a folder"),
        ("surgery", {"rule": "explicit", "neurons": "L99.N1"}, "lies outside the model"),
        ("surgery", {"rule": "explicit", "neurons": "everything"}, "is no component"),
        ("surgery", {"rule": "explicit"}, "empty"),
    ],
)
def test_bad_values_in_the_address_are_told(open_page, page: str, query: dict, says: str):
    assert says in _errors(open_page(page, **query))


@pytest.mark.parametrize("query", [{"rule": "nonsense"}, {"percent": "-3"}, {"run": "../../etc"}, {"concept": "x"}])
@pytest.mark.parametrize("page", ["surgery", "relearn"])
def test_nonsense_in_the_address_falls_back_to_the_default(open_page, page: str, query: dict):
    assert _errors(open_page(page, **query)) == ""


@pytest.mark.parametrize("page", ["compare", "board", "circuits", "lens", "model", "relearn", "surgery", "saliency"])
def test_the_sidebar_names_the_model_on_every_page(open_page, page: str):
    """Also where the page ends early, for there is nothing to show yet."""
    assert any(caption.value.startswith("Model: ") for caption in open_page(page).sidebar.caption)


def test_preview_apply_and_undo(open_page):
    app = open_page("surgery")
    app.button[0].click().run()
    assert _errors(app) == ""
    assert any(block.value.startswith("**preview") for block in app.markdown)
    assert any(list(frame.value.iloc[:, 0]) == ["before", "after"] for frame in app.dataframe)
    next(button for button in app.button if button.label == "Apply to weights").click().run()
    assert _errors(app) == ""
    assert any("SHA-256 before" in frame.value.columns for frame in app.dataframe)
    next(button for button in app.button if button.label == "Undo the last edit").click().run()
    assert any("No edit has been applied" in caption.value for caption in app.caption)


def test_the_base_beside_a_first_preview_is_the_unedited_model(open_page, tiny_concept: Concept):
    app = open_page("surgery", percent="50")
    app.button[0].click().run()
    assert _errors(app) == ""
    states = {moment: state for (_, moment), state in app.session_state["examinations"].items()}
    unedited = before_after.examine(viewer_model._holder().model, tiny_concept, [], "unedited")
    assert states["base"].neutral_loss == pytest.approx(unedited.neutral_loss)
    assert states["base"].generations[-1] == unedited.generations[-1]
    assert states["last"].neutral_loss != pytest.approx(unedited.neutral_loss)


def test_unload_frees_the_model(open_page):
    app = open_page("model")
    assert viewer_model._holder().model is not None
    next(button for button in app.button if button.label == "Unload").click().run()
    assert _errors(app) == ""
    assert viewer_model._holder().model is None
    assert any("No model is loaded" in info.value for info in app.info)
    next(button for button in app.button if button.label == "Load").click().run()
    assert viewer_model._holder().model is not None


def test_a_model_that_cannot_be_loaded_leaves_the_old_one(open_page):
    app = open_page("model")
    before = viewer_model._holder().model
    app.text_input[0].set_value("no-such-model").run()
    next(button for button in app.button if button.label == "Load").click().run()
    assert "not a model of the catalog" in _errors(app)
    assert viewer_model._holder().model is before


def test_an_address_alone_never_starts_a_download(open_page):
    app = open_page("saliency", model="some-org/not-cached")
    assert "Press “Load” on the Model page to download it" in _errors(app)


def test_heads_and_mlp_layers_in_surgery(open_page):
    app = open_page("surgery", rule="explicit", neurons="L0.H1, L1.MLP, L2.N3", fill="mean")
    assert _errors(app) == ""
    assert any("49 of 144 neurons and 1 of 12 attention heads" in text.value for text in app.markdown)
    app.button[0].click().run()
    assert _errors(app) == ""
    next(button for button in app.button if button.label == "Apply to weights").click().run()
    assert _errors(app) == ""
    ledger = next(frame.value for frame in app.dataframe if "SHA-256 before" in frame.value.columns)
    assert ledger["touches"].tolist() == ["49 of 144 neurons and 1 of 12 attention heads"]
    assert ledger["edit"].tolist() == ["prune (mean, held): L0.H1, L1.MLP, L2.N3"]
    next(button for button in app.button if button.label == "Undo the last edit").click().run()
    assert any("No edit has been applied" in caption.value for caption in app.caption)


def test_confined_training_is_offered_and_starts(open_page, monkeypatch: pytest.MonkeyPatch):
    started: list[RelearnConfig] = []

    def start(config: RelearnConfig, *, owner: str, **arguments: object) -> RunDirectory:
        started.append(config)
        raise RunError(f"Not today, {owner}")

    monkeypatch.setattr(runs, "start", start)
    monkeypatch.setattr(viewer_model, "owner", lambda: "Ada")
    app = open_page("relearn", train_only="L1.MLP, L0.H2")
    assert _errors(app) == ""
    assert any("training only **L1\\.MLP, L0\\.H2**" in text.value for text in app.markdown)
    next(button for button in app.button if button.label == "Start relearning").click().run()
    assert "Not today, Ada" in _errors(app)
    assert [config.train_only for config in started] == ["L1.MLP, L0.H2"]
    assert "“everything” is no component" in _errors(open_page("relearn", train_only="everything"))


def test_a_half_filled_form_leaves_the_runs_in_sight(open_page, finished_run: RunDirectory):
    app = open_page("relearn", accumulate="3")
    assert "accumulate is 3" in _errors(app)
    assert [box.label for box in app.selectbox if box.label == "Run"] == ["Run"]
