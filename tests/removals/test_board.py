"""The board: how outcomes become scores, and that what collapsed is never ranked; the figures of removal."""

import math
from dataclasses import replace

import pytest

from analysis.evaluation import Curve, Evaluation, Histogram, Measure
from analysis.evaluation.kl import EDGES
from analysis.figures.removal import kl_histogram, layer_curves, method_radar, training_loss
from analysis.removals import board
from analysis.removals.board import Entry
from analysis.removals.removal import Outcome


def evaluation(warning: str | None = None, **values: float) -> Evaluation:
    measures = tuple(
        Measure(name=name, value=value, low=value, high=value, n=4, counts="facts", unit="P")
        for name, value in values.items()
    )
    return Evaluation(model="m", concept="c", label="x", measures=measures, warning=warning)


def entry(name: str, forget: float, *, warning: str | None = None, **after: float) -> Entry:
    base = {"forget": 0.8, "paraphrase": 0.5, "multiple_choice": 1.0, "neighbours": 0.6, "neutral_perplexity": 20.0}
    outcome = Outcome(
        before=evaluation(**base),
        after=evaluation(warning, **{**base, "forget": forget, **after}),
        edited_parameters=3,
        seconds=1.0,
    )
    return Entry(name=name, created="", model="m", concept="c", method=name, settings="", outcome=outcome)


def test_scores_are_shares_of_before_and_outer_is_better():
    one = entry("a", 0.2, paraphrase=0.6, neighbours=0.3, neutral_perplexity=40.0, kl_median=0.1)
    assert one.outcome is not None
    assert board.scores(one.outcome) == pytest.approx(
        {
            "forgotten": 0.75,
            "paraphrases forgotten": 0.0,  # more probable than before: cut off
            "choice forgotten": 0.0,
            "neighbours kept": 0.5,
            "language kept": 0.5,
            "behaviour kept": 1 / 3,  # one of three decades below 1 nat
        }
    )
    assert set(board.scores(one.outcome)) == set(board.AXES)


def test_a_concept_without_facts_is_ranked_by_its_words():
    def of_words(name: str, left: float) -> Entry:
        before, after = ({"labelled_words": value, "neutral_perplexity": 20.0} for value in (0.4, left))
        base = replace(evaluation(**before), provenance={"n_facts": 0})
        outcome = Outcome(before=base, after=evaluation(**after), edited_parameters=3, seconds=1.0)
        return Entry(name=name, created="", model="m", concept="c", method=name, settings="", outcome=outcome)

    entries = [of_words("little", 0.3), of_words("much", 0.1)]
    table = board.table(entries)
    assert table["removal"].tolist() == ["much", "little"]
    assert table["labelled_words before"].tolist() == [0.4, 0.4]
    scores = board.scores(entries[1].outcome)  # type: ignore[arg-type]
    assert scores["forgotten"] == pytest.approx(0.75)
    assert scores["paraphrases forgotten"] is None


def test_what_was_not_measured_has_no_score():
    one = entry("a", 0.2)
    assert one.outcome is not None
    assert board.scores(one.outcome)["behaviour kept"] is None


@pytest.mark.parametrize(("kl", "score"), [(0.0, 1.0), (1e-3, 1.0), (1.0, 0.0), (7.0, 0.0)])
def test_kl_is_cut_off_at_both_ends(kl: float, score: float):
    one = entry("a", 0.2, kl_median=kl)
    assert one.outcome is not None
    assert board.scores(one.outcome)["behaviour kept"] == pytest.approx(score)


def test_collapsed_comes_last_however_much_it_forgot():
    entries = [entry("wrecked", 0.0, warning="wrecked"), entry("weak", 0.7), entry("strong", 0.1)]
    unfinished = Entry(name="u", created="", model="m", concept="c", method="u", settings="")
    table = board.table([*entries, unfinished])
    assert table["method"].tolist() == ["strong", "weak", "wrecked"]
    assert table["collapsed"].tolist() == [False, False, True]
    assert table["perplexity ratio"].tolist() == [1.0, 1.0, 1.0]


def test_a_second_training_begins_a_new_line():
    steps = [{"step": step, "loss": loss, "terms": {"forget": 1.0}} for step, loss in ((1, 3.0), (2, 2.0), (1, 5.0))]
    figure = training_loss(steps)
    assert len(figure.data) == 1  # a single term is the loss
    assert list(figure.data[0].x) == [1, 2, None, 1]
    assert list(figure.data[0].y) == [3.0, 2.0, None, 5.0]
    steps[0]["terms"]["text"] = 0.5
    assert [trace.name for trace in training_loss(steps).data] == ["loss", "forget", "text"]


def test_kl_histogram_has_every_token_at_its_place():
    counts = [0] * (len(EDGES) - 1)
    counts[0], counts[-1] = 1, 3
    figure = kl_histogram(Histogram(edges=EDGES, counts=tuple(counts)), {"median": 0.01})
    bars = figure.data[0]
    assert sum(bars.y) == pytest.approx(100)
    assert bars.y[-1] == pytest.approx(75)
    # the last bin lies between its edges, on the logarithmic scale
    assert math.log10(EDGES[-2]) < bars.x[-1] < math.log10(EDGES[-1])
    assert figure.layout.shapes[0].x0 == pytest.approx(-2)
    assert "nats" in figure.layout.xaxis.title.text


def test_curves_by_layer_have_bands_and_the_state_before():
    after = Curve(
        name="probe_true",
        layers=(-1, 0),
        values=(0.1, 0.9),
        low=(0.0, 0.8),
        high=(0.2, 1.0),
        n=4,
        counts="facts",
        unit="P",
    )
    low, high, line, before = layer_curves([replace(after, values=(0.5, 0.5))], [after]).data  # type: ignore[misc]
    assert (list(low.y), list(high.y), high.fill) == ([0.0, 0.8], [0.2, 1.0], "tonexty")
    assert (list(line.x), list(line.y), line.name) == ([-1, 0], [0.1, 0.9], "probe true")
    assert (list(before.y), before.line.dash, before.line.color) == ([0.5, 0.5], "dot", line.line.color)


def test_the_radar_tells_what_collapsed():
    scores = {"sound": {"a": 1.0, "b": None}, "wrecked": {"a": 0.2, "b": 0.1}}
    sound, wrecked = method_radar(scores, collapsed={"wrecked"}).data
    assert (sound.line.dash, wrecked.line.dash) == ("solid", "dash")
    assert list(sound.r) == [1.0, None, 1.0]
    assert wrecked.name == "wrecked (collapsed)"
