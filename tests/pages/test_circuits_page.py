"""The Circuits page against a tiny model: search, cut, comparison, what it hands to Surgery and Relearn, and the URL."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from analysis import concepts, localization
from analysis.components.circuit import Circuit
from analysis.concepts import Concept, Fact
from analysis.edits import n_parameters
from analysis.models import LanguageModel
from ui.app import viewer_model
from ui.circuits import search
from ui.surgery import edit_form

_ROOT = Path(__file__).parents[2]


@pytest.fixture
def rivers() -> Concept:
    """Two answers with ten subjects each, told apart by the subject's first word and not by its last."""
    facts = tuple(
        Fact(f"{country} {number} station", city, fixed_split="retrained" if number % 2 else "held_out")
        for country, city in (("France", "Paris"), ("Norway", "Oslo"))
        for number in range(10)
    )
    return Concept(name="tiny-stations", title="Stations", templates=("The train to {subject} starts in",), facts=facts)


@pytest.fixture
def open_page(
    empty_home: Path,
    tiny_folder: Path,
    tiny_concept: Concept,
    tiny_shapes: Concept,
    rivers: Concept,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., AppTest]:
    """Opens the page with the tiny model, of which all facts count as known."""
    for concept in (tiny_concept, tiny_shapes, rivers):
        concepts.save(concept)
    measured = viewer_model.fact_scores
    monkeypatch.setattr(viewer_model, "fact_scores", lambda concept: measured(concept).assign(known=True))

    def open_it(**query: str) -> AppTest:
        app = AppTest.from_file(str(_ROOT / "pages" / "main.py"), default_timeout=120)
        for key, value in {"model": str(tiny_folder), "concept": tiny_concept.name, **query}.items():
            app.query_params[key] = value
        app.run()
        return app.switch_page("circuits.py").run()

    search._store().results.clear()
    yield open_it
    search._store().results.clear()
    viewer_model.unload()


def errors(app: AppTest) -> str:
    assert not app.exception, app.exception
    return " ".join(error.value for error in app.error)


def press(app: AppTest, label: str) -> AppTest:
    return next(button for button in app.button if button.label == label).click().run()


def find(app: AppTest) -> AppTest:
    """Press the button and wait for the search, which runs beside the page."""
    press(app, "Find the circuit")
    deadline = time.monotonic() + 120
    while any(button.label == "Stop" for button in app.button):
        assert time.monotonic() < deadline
        time.sleep(0.05)
        app.run()
    return app


def shown(app: AppTest) -> list[str]:
    """The components in the page's list."""
    return app.dataframe[0].value["component"].tolist()


def test_a_concept_without_facts_is_told_what_is_missing(open_page):
    app = open_page(concept="tiny-shapes")
    assert errors(app) == ""
    assert "no facts" in app.info[0].value
    assert not app.button


def test_a_search_gives_what_the_library_gives(open_page, tiny_model: LanguageModel, tiny_concept: Concept):
    app = open_page(keep="4")
    assert errors(app) == ""
    assert not app.dataframe
    find(app)
    assert errors(app) == ""
    wanted = localization.localize(
        tiny_model, tiny_concept, "attribution_patching", facts=tiny_concept.facts, top=4
    ).circuit
    assert shown(app) == [str(part) for part in wanted.components]
    assert app.dataframe[0].value["effect"].tolist() == pytest.approx(wanted.effects)
    own = n_parameters(tiny_model, wanted)
    assert any(f"{own:,} of {tiny_model.n_parameters:,} parameters" in text.value for text in app.markdown)
    assert any("n = 12 prompts of 6 known facts" in caption.value for caption in app.caption)


def test_the_cut_changes_without_a_new_search(open_page, monkeypatch: pytest.MonkeyPatch):
    app = find(open_page(keep="4"))
    before = shown(app)
    monkeypatch.setattr(localization, "localize", None)
    app.slider(key="keep").set_value(7).run()
    assert errors(app) == ""
    assert len(shown(app)) == 7
    assert shown(app)[:4] == before
    app.button_group(key="choose").set_value("MLPs").run()
    assert set(shown(app)) == {"L0.MLP", "L1.MLP", "L2.MLP"}
    app.button_group(key="cut").set_value("threshold").run()
    slider = app.slider(key="at_least")
    slider.set_value(slider.max).run()
    assert errors(app) == ""
    assert len(shown(app)) == 1
    assert abs(app.dataframe[0].value["effect"][0]) >= slider.max


def test_a_second_visit_finds_the_result(open_page):
    find(open_page(metric="logit_difference", prompts="6"))
    again = open_page(metric="logit_difference", prompts="6")
    assert shown(again)
    assert not open_page(metric="log_p", prompts="6").dataframe


@pytest.mark.parametrize("method", ["activation_patching", "causal_tracing", "direct_effects", "fact_lookup_paths"])
def test_every_measured_method_is_shown(open_page, method: str):
    app = find(open_page(find_by=method, prompts="4", at_least="0"))
    assert errors(app) == ""
    assert shown(app)
    assert any("n = 4 prompts" in caption.value for caption in app.caption)


@pytest.mark.parametrize("method", ["all_mlps", "everything"])
def test_controls_without_size_need_no_search(open_page, method: str):
    app = open_page(find_by=method)
    assert errors(app) == ""
    assert len(shown(app)) == {"all_mlps": 3, "everything": 15}[method]


def test_a_random_control_takes_the_size_of_the_last_circuit(open_page):
    app = open_page(find_by="random_mlps")
    assert "Find one first" in errors(app)
    app = find(open_page(keep="3"))
    found = ", ".join(shown(app))
    app.selectbox(key="find_by").set_value("random_components").run()
    assert errors(app) == ""
    assert app.text_input(key="like").value == found
    assert "Lies outside".lower() in errors(app.text_input(key="like").set_value("L99.MLP").run())


def test_found_circuits_are_compared_and_brought_back(open_page):
    app = find(open_page(keep="3"))
    first = shown(app)
    app.selectbox(key="find_by").set_value("all_mlps").run()
    pills = app.button_group(key="found_before")
    assert list(pills.options) == ["attribution_patching", "all_mlps"]
    pills.set_value("attribution_patching").run()
    assert app.selectbox(key="find_by").value == "attribution_patching"
    assert shown(app) == first


def test_the_probe_is_shown_and_marks_other_maps(open_page, rivers: Concept):
    app = find(open_page(concept=rivers.name, find_by="fact_lookup_probe"))
    assert errors(app) == ""
    layers = shown(app)
    assert layers
    assert all(name.endswith(".MLP") for name in layers)
    assert any("n = 20 subjects" in caption.value for caption in app.caption)
    app.selectbox(key="find_by").set_value("all_mlps").run()
    assert any("Green bracket" in caption.value for caption in app.caption)


def test_a_search_can_be_stopped_and_started_again(open_page, monkeypatch: pytest.MonkeyPatch):
    def endless(*arguments, progress, **options):
        while True:
            progress("Patching", 0.25)
            time.sleep(0.01)

    monkeypatch.setattr(localization, "localize", endless)
    app = press(open_page(), "Find the circuit")
    assert next(button for button in app.button if button.label == "Find the circuit").disabled
    press(app, "Stop")
    deadline = time.monotonic() + 20
    while any(button.label == "Stop" for button in app.button) and time.monotonic() < deadline:
        app.run()
    monkeypatch.undo()
    assert not next(button for button in app.button if button.label == "Find the circuit").disabled


def test_a_model_that_knows_no_fact_is_told(open_page, monkeypatch: pytest.MonkeyPatch):
    scores = viewer_model.fact_scores
    monkeypatch.setattr(viewer_model, "fact_scores", lambda concept: scores(concept).assign(known=False))
    app = find(open_page())
    assert "knows none of the 6 facts" in errors(app)


def test_too_little_for_a_probe_is_told(open_page):
    app = find(open_page(find_by="fact_lookup_probe"))
    assert "too little to learn from" in errors(app)


def test_the_circuit_goes_to_surgery_and_to_relearn(open_page, monkeypatch: pytest.MonkeyPatch):
    used, went = [], []
    monkeypatch.setattr(edit_form, "use_components", used.append)
    monkeypatch.setattr(st, "switch_page", lambda page, query_params=None: went.append((page, query_params)))
    app = find(open_page(keep="2"))
    names = ", ".join(shown(app))
    kept = {"model": app.query_params["model"]}
    press(app, "Use this circuit in Surgery")
    press(app, "Train only this circuit")
    assert errors(app) == ""
    assert used == [names]
    assert app.session_state["train_only"] == names
    assert went == [
        ("surgery.py", kept | {"rule": "explicit", "neurons": names}),
        ("relearn.py", kept | {"train_only": names}),
    ]


@pytest.mark.parametrize(
    ("button", "page"), [("Use this circuit in Surgery", "Surgery"), ("Train only this circuit", "Relearn")]
)
def test_the_other_page_opens_with_values_of_this_one_in_the_address(open_page, button: str, page: str):
    app = press(find(open_page(keep="2", find_by="attribution_patching", cut="threshold", at_least="0")), button)
    assert errors(app) == ""
    assert app.title[0].value == page


@pytest.mark.parametrize(
    "query", [{"find_by": "nonsense"}, {"prompts": "-3"}, {"metric": "x"}, {"keep": "0"}, {"seed": "a"}]
)
def test_nonsense_in_the_address_falls_back_to_the_default(open_page, query: dict):
    assert errors(open_page(**query)) == ""


def test_a_circuit_round_trips_through_its_file(open_page, tiny_model: LanguageModel):
    app = find(open_page(keep="3"))
    kept, circuit = next(iter(app.session_state["circuits_seen"].values())).popitem()
    assert kept.method == "attribution_patching"
    again = Circuit.from_json(circuit.to_json())
    assert again.components == circuit.components
    assert json.loads(circuit.to_json())["provenance"]["top"] == 3
