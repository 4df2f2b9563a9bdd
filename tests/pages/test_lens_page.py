"""The logit-lens page against a tiny model: what fills the prompt, what it says, and what the browser is sent."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from analysis import concepts
from analysis.concepts import Concept
from analysis.lens import logit_lens
from analysis.lens.logit_lens import LogitLens
from analysis.models import LanguageModel
from ui.app import viewer_model
from ui.lens import lens_table

_ROOT = Path(__file__).parents[2]
PROMPT = "The capital of Spain is"


@pytest.fixture
def open_page(
    empty_home: Path, tiny_folder: Path, tiny_concept: Concept, tiny_shapes: Concept
) -> Callable[..., AppTest]:
    concepts.save(tiny_concept)
    concepts.save(tiny_shapes)

    def open_it(**query: str) -> AppTest:
        app = AppTest.from_file(str(_ROOT / "pages" / "main.py"), default_timeout=60)
        for key, value in {"model": str(tiny_folder), "concept": tiny_concept.name, **query}.items():
            app.query_params[key] = value
        app.run()
        return app.switch_page("lens.py").run()

    yield open_it
    viewer_model.unload()


@pytest.fixture
def result(tiny_model: LanguageModel) -> LogitLens:
    return logit_lens.logit_lens(tiny_model, PROMPT, answer="Madrid")


def _errors(app: AppTest) -> str:
    assert not app.exception, app.exception
    return " ".join(error.value for error in app.error)


def _inputs(app: AppTest) -> tuple[str, str]:
    return app.text_area(key="prompt").value, app.text_input(key="answer").value


def _says(app: AppTest, text: str) -> bool:
    return any(text in element.value for element in [*app.markdown, *app.caption])


def test_it_begins_with_the_concepts_first_fact(open_page):
    app = open_page()
    assert _errors(app) == ""
    assert _inputs(app) == ("The capital of France is", "Paris")
    assert app.selectbox(key="lens_fact").value.startswith("France")


def test_a_chosen_fact_fills_prompt_and_answer(open_page):
    app = open_page()
    japan = next(name for name in app.selectbox(key="lens_fact").options if name.startswith("Japan"))
    app.selectbox(key="lens_fact").select(japan).run()
    assert _errors(app) == ""
    assert _inputs(app) == ("The capital of Japan is", "Tokyo")
    app.text_input(key="answer").set_value("Oslo").run()
    assert app.selectbox(key="lens_fact").value == lens_table.OWN


def test_the_address_holds_the_fact_that_fills_the_widgets(open_page):
    app = open_page()
    held = {key: app.query_params[key] for key in ("prompt", "answer")}
    assert _inputs(open_page(**held)) == (held["prompt"], held["answer"]) == ("The capital of France is", "Paris")


def test_a_link_with_an_answer_alone_asks_for_a_prompt(open_page):
    app = open_page(answer="Rome")
    assert _errors(app) == ""
    assert "Type the beginning of a sentence" in app.info[0].value


def test_a_prompt_of_ones_own_begins_empty_and_is_asked_for(open_page):
    app = open_page()
    app.selectbox(key="lens_fact").select(lens_table.OWN).run()
    assert _errors(app) == ""
    assert _inputs(app) == ("", "")
    assert "Type the beginning of a sentence" in app.info[0].value
    app.text_area(key="prompt").set_value(PROMPT).run()
    assert not app.info
    assert app.selectbox(key="lens_fact").value == lens_table.OWN


def test_another_concept_brings_its_own_prompt(open_page, tiny_shapes: Concept):
    app = open_page()
    app.session_state["concept"] = tiny_shapes.name
    app.run()
    assert _errors(app) == ""
    assert _inputs(app) == (tiny_shapes.sentences[0].text, "")
    assert _says(app, "Give an answer")


def test_facts_the_model_knows_come_first(open_page, tiny_concept: Concept):
    facts = pd.DataFrame({"known": [fact.subject == "Japan" for fact in tiny_concept.facts]})
    assert list(lens_table._offered(tiny_concept, facts))[:2] == ["Japan", "France (not known)"]


def test_a_link_brings_its_prompt_and_answer(open_page):
    app = open_page(prompt=PROMPT, answer="Madrid", colour="rank", writes="L1.N3")
    assert _errors(app) == ""
    assert _inputs(app) == (PROMPT, "Madrid")
    assert app.button_group(key="colour").value == "rank"
    assert _says(app, "L1.N3 moves directly")
    assert [len(frame.value) for frame in app.dataframe] == [10, 10]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"prompt": "Rome " * 300}, "context is 128"),
        ({"writes": "L9.N1"}, "lies outside the model"),
        ({"writes": "everything"}, "is not a neuron"),
    ],
)
def test_bad_values_in_the_address_are_told(open_page, query: dict, says: str):
    assert says in _errors(open_page(**query))


@pytest.mark.parametrize("query", [{"colour": "nonsense"}, {"colour": "rank", "prompt": PROMPT}, {"all_facts": "x"}])
def test_nonsense_in_the_address_falls_back_to_the_default(open_page, query: dict):
    app = open_page(**query)
    assert _errors(app) == ""
    assert app.button_group(key="colour").value == "probability"


def test_a_cut_prompt_is_told(open_page):
    app = open_page(prompt="Nobody told us that the meeting had been moved upstairs. " * 5)
    assert _says(app, "tokens of the prompt are read, but not shown")


def test_the_answers_depth_is_said(result: LogitLens, tiny_model: LanguageModel):
    best = result.top_RPK[-1, -1, 0]
    said = lens_table.finding(result)
    assert ("is not the top prediction" in said) == (result.answer_tokens[0] != best)
    assert f"rank {result.rank_answer_RP[-1, -1]}" in said
    long = logit_lens.logit_lens(tiny_model, PROMPT, answer="Ouagadougou")
    assert f"The answer has {len(long.answer_tokens)} tokens" in lens_table.finding(long)


def test_tokens_are_markdown_escaped(tiny_model: LanguageModel):
    said = lens_table.finding(logit_lens.logit_lens(tiny_model, PROMPT, answer="*[x](http://y)"))
    assert "[x]" not in said
    assert "\\*" in said


@pytest.mark.parametrize("colour", list(lens_table.COLOURS))
def test_what_the_browser_gets_is_json_of_one_shape(result: LogitLens, colour: str):
    sent = json.loads(json.dumps(lens_table.cells(result, colour, 400), allow_nan=False))
    n_rows, n_positions = result.entropy_RP.shape
    for name in ("top", "p", "entropy", "kl", "p_answer", "rank", "shade"):
        assert np.shape(sent[name])[:2] == (n_rows, n_positions)
    assert 0 <= np.min(sent["shade"]) <= np.max(sent["shade"]) <= 100
    assert sent["top"] == result.top_RPK.tolist()


def test_each_colour_shows_its_own_number(result: LogitLens):
    shades = {colour: np.array(lens_table.cells(result, colour, 400)["shade"]) for colour in lens_table.COLOURS}
    np.testing.assert_allclose(shades["probability"], 100 * result.p_top_RPK[:, :, 0], atol=0.51)
    np.testing.assert_allclose(shades["P(answer)"], 100 * result.p_answer_RP, atol=0.51)
    assert shades["KL"].max() == 100
    assert (shades["KL"][-1] == 0).all()
    order = np.argsort(result.rank_answer_RP, axis=None)
    assert (np.diff(shades["rank"].ravel()[order]) <= 0).all()


def test_the_row_of_the_depth_counts_the_embedding(tiny_model: LanguageModel, result: LogitLens):
    assert lens_table.cells(replace(result, depth=1), "KL", 400)["depth"] == 2  # row 0 is the embedding
    assert lens_table.cells(replace(result, depth=-1), "KL", 400)["depth"] == 0
    assert lens_table.cells(logit_lens.logit_lens(tiny_model, PROMPT), "rank", 400)["answer"] is None


def test_depths_of_all_facts_as_a_figure():
    table = pd.DataFrame(
        {
            "depth": pd.array([2, 2, -1, None], dtype="Int64"),
            "first_decodable": pd.array([0, 2, -1, None], dtype="Int64"),
        }
    )
    figure = lens_table.depth_figure(table, 3)
    by_layer = {trace.name: dict(zip(trace.x, trace.y)) for trace in figure.data}
    assert by_layer["on top for good"] == {-1: 1, 0: 0, 1: 0, 2: 2}
    assert by_layer["first in the top 10"] == {-1: 1, 0: 1, 1: 0, 2: 1}
    assert "median 2 (n = 3); not on top at the output: 1" in lens_table.depth_summary(table)
