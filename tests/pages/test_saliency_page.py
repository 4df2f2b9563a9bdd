"""The Saliency page and the neuron card against a tiny model: methods, sites, selection, tabs, jobs, cards, pins."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from analysis import concepts, saliency
from analysis.concepts import Concept
from analysis.models import LanguageModel
from ui.app import background, saliency_results, viewer_model
from ui.saliency import card_view

_ROOT = Path(__file__).parents[2]
TABS = ("Map", "Strongest", "Layers", "Agreement", "Two concepts")


@pytest.fixture
def open_page(
    empty_home: Path, tiny_folder: Path, tiny_concept: Concept, tiny_shapes: Concept, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., AppTest]:
    concepts.save(tiny_concept)
    concepts.save(tiny_shapes)
    monkeypatch.setattr(concepts.library, "BUILT_IN", ())
    saliency_results._store().results.clear()

    def open_it(page: str = "saliency", **query: str) -> AppTest:
        app = AppTest.from_file(str(_ROOT / "pages" / "main.py"), default_timeout=60)
        for key, value in {"model": str(tiny_folder), "concept": tiny_concept.name, **query}.items():
            app.query_params[key] = value
        return app.run().switch_page(f"{page}.py").run()

    yield open_it
    viewer_model.unload()


def _errors(app: AppTest) -> str:
    assert not app.exception, app.exception
    return " ".join(error.value for error in app.error)


def _text(app: AppTest) -> str:
    return " ".join(element.value for element in [*app.markdown, *app.caption, *app.info])


def _button(app: AppTest, label: str):
    return next(button for button in app.button if label in button.label)


@pytest.mark.parametrize("tab", TABS)
@pytest.mark.parametrize(
    ("concept", "method"),
    [
        ("tiny-capitals", "probeless"),
        ("tiny-capitals", "average_precision"),
        ("tiny-shapes", "gradient_x_activation"),
    ],
)
def test_every_tab_works(open_page, tab: str, concept: str, method: str):
    other = {"tiny-capitals": "tiny-shapes", "tiny-shapes": "tiny-capitals"}[concept]
    app = open_page(concept=concept, method=method, view=tab, compare=other)
    if tab == "Two concepts" and method in saliency.CAUSAL_METHODS:
        assert "knows none of the 6 facts" in _errors(app)  # of the other concept
    else:
        assert _errors(app) == ""
    if tab == "Layers" and method in saliency.CAUSAL_METHODS:
        assert "Without Capitals" in _text(app)


@pytest.mark.parametrize("tab", TABS)
@pytest.mark.parametrize("site", ["hook_resid_post", "attn.hook_z"])
def test_every_tab_works_at_other_sites(open_page, tab: str, site: str):
    assert _errors(open_page(site=site, view=tab, agree_k="3")) == ""


def test_a_method_that_a_site_does_not_have_is_explained(open_page):
    app = open_page(site="attn.hook_z", method="standardised")
    assert "an attention head writes a vector" in _errors(app).replace("\\", "")


def test_a_causal_method_needs_facts_the_model_knows(open_page):
    assert "knows none of the 6 facts" in _errors(open_page(method="gradient_x_activation"))
    assert "has no facts" in _errors(open_page(method="attribution_patching", concept="tiny-shapes"))


def test_switching_tabs_and_scales_runs_no_model(open_page, monkeypatch: pytest.MonkeyPatch):
    app = open_page(compare="tiny-shapes")
    for tab in TABS:
        app.query_params["view"] = tab
        app.run()
    passes = []
    residual = LanguageModel.residual
    monkeypatch.setattr(LanguageModel, "residual", lambda self, tokens: passes.append(1) or residual(self, tokens))
    for tab in TABS:
        for scale in ("rank", "score"):
            app.session_state["view"] = tab
            app.session_state["scale"] = scale
            assert _errors(app.run()) == ""
    assert passes == []
    app.selectbox(key="site").set_value("hook_resid_post").run()
    assert passes != []  # another site needs a pass of its own, so the counter counts


def test_the_strongest_are_the_librarys(open_page, tiny_model: LanguageModel, tiny_concept: Concept):
    app = open_page(view="Strongest", method="standardised")
    table = app.dataframe[0].value
    (expected,) = saliency.measure(tiny_model, [tiny_concept], methods=["standardised"])
    order = [f"L{flat // 48}.N{flat % 48}" for flat in expected.order[: len(table)]]
    assert table["name"].tolist() == order
    low, high = expected.interval()
    np.testing.assert_allclose(table["low"], low.ravel()[expected.order], rtol=1e-6)
    np.testing.assert_allclose(table["high"], high.ravel()[expected.order], rtol=1e-6)
    np.testing.assert_allclose(table["q"], expected.q_values().ravel()[expected.order], rtol=1e-6)
    passed = int((expected.q_values() < 0.05).sum())
    assert f"{passed} of 144 neurons pass at q < 0.05" in _text(app)


def _wait(app: AppTest) -> AppTest:
    for _ in range(600):
        if all(one.done for one in background._computations().by_key.values()):
            return app.run()
        time.sleep(0.05)
    raise AssertionError("the job did not end")


def test_a_probe_runs_beside_the_page(open_page):
    app = open_page(method="probe", view="Layers")
    assert "takes about a minute" in _text(app)
    assert not app.tabs  # nothing is drawn of what has not been measured
    _button(app, "Measure probe").click().run()
    app = _wait(app)
    assert _errors(app) == ""
    assert "A probe shows what can be read from a layer" in _text(app)


def test_a_job_that_fails_says_why(open_page):
    app = open_page(method="probe", concept="tiny-shapes")  # three sentences: too few to train on and to score
    _button(app, "Measure probe").click().run()
    assert "at least four sentences" in _errors(_wait(app))


def test_ablation_gives_exact_effects_of_the_strongest(open_page, tiny_model: LanguageModel, tiny_shapes: Concept):
    app = open_page(concept="tiny-shapes", view="Strongest")
    assert "ablation_effect" not in app.dataframe[0].value
    _button(app, "Ablate the top 20").click().run()
    app = _wait(app)
    table = app.dataframe[0].value
    assert table["ablation_effect"].notna().sum() == 20
    (ranked,) = saliency.measure(tiny_model, [tiny_shapes])
    first = divmod(int(ranked.order[0]), 48)
    expected = saliency.causal.ablation(tiny_model, tiny_shapes, [first])
    np.testing.assert_allclose(table["ablation_effect"][0], expected.signed_LN[first], rtol=1e-4)


def test_agreement_counts_what_has_been_measured(open_page):
    app = open_page(view="Agreement", concept="tiny-shapes", agree_k="10")
    assert "Agreement needs two methods" in _text(open_page(view="Agreement", site="attn.hook_z", agree_k="3"))
    _button(app, "Measure the other quick").click().run()
    assert _errors(app) == ""
    assert "chance is 6.94%" in _text(app)  # 10 of 144
    assert app.dataframe[0].value.index.tolist() == list(saliency.MOMENT_METHODS)


@pytest.mark.parametrize(
    ("query", "says", "rule"),
    [
        ({"top": "7"}, "7 neurons", {"rule": "top_k", "k": 7, "ranked_by": "probeless"}),
        ({"select": "threshold", "above": "0"}, "144 neurons", {"rule": "threshold", "threshold": 0.0}),
        ({"select": "drawn", "drawn": "b-3,-1,1.4,0.2"}, "2 neurons", {"rule": "explicit"}),
        ({"top": "3", "method": "average_precision"}, "3 neurons", {"rule": "explicit"}),
    ],
)
def test_a_selection_comes_from_the_address_and_goes_to_surgery(open_page, query: dict, says: str, rule: dict):
    app = open_page(**query)
    assert says in _text(app)
    _button(app, "Use in Surgery").click().run()
    assert _errors(app) == ""
    assert app.title[0].value == "Surgery"
    assert {key: app.session_state[key] for key in rule} == rule


def test_without_a_threshold_the_hundred_strongest_are_selected(open_page):
    app = open_page(select="threshold")
    assert "100 neurons" in _text(app)
    app.number_input(key="above").set_value(0.0).run()
    assert "144 neurons" in _text(app)
    app.selectbox(key="method").set_value("standardised").run()  # whose scores are of another size
    assert app.number_input(key="above").value is None
    assert "100 neurons" in _text(app)


@pytest.mark.parametrize(
    ("key", "value"), [("method", "nonsense"), ("site", "x"), ("scale", "y"), ("select", "z"), ("compare", "no-such")]
)
def test_a_choice_of_the_address_that_does_not_exist_is_told(open_page, key: str, value: str):
    app = open_page(**{key: value, "view": "Layers" if key == "compare" else "Map"})
    assert _errors(app) == ""
    (told,) = [toast.value for toast in app.toast]
    assert f"{key} = “{value}”" in told.replace("\\", "")


def test_an_address_that_is_understood_is_not_commented(open_page):
    assert not open_page(method="standardised", site="hook_resid_post", scale="rank", select="drawn").toast


def test_a_damaged_outline_is_told(open_page):
    assert "is not an outline" in _errors(open_page(select="drawn", drawn="b1,2,x"))


def test_a_card_opens_from_the_address_and_by_name(open_page):
    app = open_page(card="L1.N7")
    assert _errors(app) == ""
    assert "blocks.1.mlp.hook_post[7]" in [block.value for block in app.code]
    assert "place" in _text(app)
    app = open_page()
    assert not app.code
    app.text_input(key="card named").set_value("blocks.2.mlp.hook_post.5").run()
    assert "blocks.2.mlp.hook_post[5]" in [block.value for block in app.code]


@pytest.mark.parametrize("name", ["L9.N0", "nonsense"])
def test_a_card_of_nothing_is_told(open_page, name: str):
    app = open_page(card=name)
    assert name in _errors(app).replace("\\", "")
    assert "card" not in app.query_params


def test_a_damaged_concept_does_not_cost_the_card(open_page, empty_home: Path):
    app = open_page()
    (empty_home / "concepts" / "broken.jsonl").write_text('{"kind": "concept", "no such": 1}\n', encoding="utf-8")
    app.query_params["card"] = "L1.N7"
    app.run()
    assert _errors(app) == ""
    assert "Without broken" in _text(app)
    assert "Your text" in [tab.label for tab in app.tabs]


@pytest.mark.parametrize(
    ("value", "shown"), [(0.46, "+0.460"), (-1.0, "−1.00"), (123.4, "+123"), (0.0012345, "+0.00123"), (0.0, "+0.00")]
)
def test_activations_line_up(value: float, shown: str):
    assert card_view._signed(value) == shown


@pytest.mark.parametrize("name", ["L1.D3", "L0.H2"])
def test_cards_of_other_sites(open_page, name: str):
    app = open_page(card=name)
    assert _errors(app) == ""
    assert ("A head's output is a vector" in _text(app)) == name.endswith("H2")


def test_pins_are_kept_in_the_address(open_page):
    app = open_page(card="L1.N7", pins="L0.N1")
    _button(app, "Pin").click().run()
    assert app.query_params["pins"] == "L0.N1,L1.N7"
    _button(app, "Unpin").click().run()
    assert app.query_params["pins"] == "L0.N1"


def test_pins_of_the_address_are_names_and_nothing_else(open_page):
    app = open_page(pins="L0.N1,![x](https://example.org/x.png),L2.H3,  ,L0.N1")
    assert app.session_state["pins"] == ["L0.N1", "L2.H3"]
    assert app.query_params["pins"] == "L0.N1,L2.H3"


def test_the_concept_and_the_pins_go_along_to_surgery(open_page):
    app = open_page(concept="tiny-shapes", top="7", pins="L0.N1")
    _button(app, "Use in Surgery").click().run()
    assert _errors(app) == ""
    assert app.session_state["concept"] == "tiny-shapes"
    assert app.query_params["pins"] == "L0.N1"
    assert app.selectbox(key="rule").value == "top_k"
    assert app.number_input(key="k").value == 7
