"""The neuron card against what its parts give by themselves, and exports against what is read back."""

import io
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis import saliency
from analysis.components.neurons import NeuronSet
from analysis.components.sites import HEADS, MLP, RESIDUAL
from analysis.components.units import Unit
from analysis.concepts import Concept
from analysis.errors import ConfigError
from analysis.lens.unembedding import neuron_vocabulary
from analysis.models import LanguageModel
from analysis.neuron_cards.bootstrap import bootstrap_scores
from analysis.neuron_cards.card import concept_places, neuron_card, unit_activations
from analysis.neuron_cards.token_activations import token_activations
from analysis.saliency.tables import FORMATS, saliency_table, table_bytes


@pytest.mark.parametrize("scanned", [True, False])
def test_a_card_is_the_sum_of_its_parts(either_model: LanguageModel, tiny_concept: Concept, scanned: bool):
    unit = Unit(1, 7)
    scan = saliency.scan(either_model, [tiny_concept]) if scanned else None
    card = neuron_card(either_model, tiny_concept, unit, scan=scan, n_words=4, n_resamples=200)
    width = either_model.n_neurons
    direct = token_activations(
        either_model, tiny_concept.sentences, NeuronSet([width + 7], either_model.shape), skip_first=True
    )
    values = direct.values_TK[:, 0]
    np.testing.assert_allclose(card.own, values[direct.labels_T], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(card.other, values[~direct.labels_T], rtol=1e-4, atol=1e-6)
    assert card.limit == pytest.approx(np.quantile(np.abs(values), 0.999), rel=1e-4)
    assert card.contexts[0].value == pytest.approx(values.max(), rel=1e-4)
    assert len(card.words) == 4
    assert set(card.words["neuron"]) == {"L1.N7"}
    assert card.vocabulary == neuron_vocabulary(either_model, 1, 7)
    assert card.error_bars is not None
    expected = bootstrap_scores(direct, n_resamples=200).table
    np.testing.assert_allclose(card.error_bars.table["low"], expected["low"], rtol=1e-3)
    shares = card.error_bars.table.set_index("method")["share_above"]
    assert shares[["probeless", "standardised"]].notna().all() == scanned
    if scanned:
        scores = saliency.measure(either_model, [tiny_concept])[0].scores_LN
        assert (shares["probeless"] > 0.5) == (scores[1, 7] > np.quantile(scores, 0.99))


def test_cards_of_other_sites(tiny_model: LanguageModel, tiny_concept: Concept):
    card = neuron_card(tiny_model, tiny_concept, Unit(2, 31, RESIDUAL), n_resamples=100)
    assert card.vocabulary is None
    assert card.contexts[0].neuron == "L2.D31"
    with pytest.raises(ConfigError, match="no single activation"):
        neuron_card(tiny_model, tiny_concept, Unit(0, 1, HEADS))


def test_a_card_of_one_sentence_has_no_error_bars(tiny_model: LanguageModel, tiny_concept: Concept):
    single = replace(tiny_concept, sentences=tiny_concept.sentences[2:3])
    card = neuron_card(tiny_model, single, Unit(0, 0))
    assert card.error_bars is None
    assert not card.words.empty


def test_a_scan_of_several_concepts_is_no_trace(tiny_model: LanguageModel, tiny_concept: Concept, tiny_shapes: Concept):
    both = saliency.scan(tiny_model, [tiny_shapes, tiny_concept])
    found = unit_activations(tiny_model, tiny_concept, Unit(0, 3), scan=both)
    assert found.sentences == tiny_concept.sentences


def test_places_count_what_is_as_strong(tiny_model: LanguageModel, tiny_concept: Concept, tiny_shapes: Concept):
    results = saliency.measure(tiny_model, [tiny_concept, tiny_shapes])
    unit = Unit(*divmod(int(results[0].order[0]), 48))
    table = concept_places(results, unit).set_index("concept")
    assert table.loc["tiny-capitals", "place"] == 1
    assert table.loc["tiny-capitals", "in_top"]
    assert table.loc["tiny-shapes", "place"] == results[1].ranks_LN[unit.layer, unit.index] + 1
    silent = replace(results[0], scores_LN=np.zeros((3, 48)))
    assert concept_places([silent], unit)["place"].tolist() == [144]
    unmeasured = replace(results[0], scores_LN=np.full((3, 48), np.nan))
    assert not concept_places([unmeasured], unit)["in_top"][0]


@pytest.mark.parametrize("form", FORMATS)
def test_files_say_what_is_in_them(tiny_model: LanguageModel, tiny_shapes: Concept, form: str):
    (scores,) = saliency.measure(tiny_model, [tiny_shapes], methods=["standardised"])
    first = divmod(int(scores.order[0]), 48)
    effects = saliency.causal.ablation(tiny_model, tiny_shapes, [first])
    table, about = saliency_table(scores, effects)
    content = table_bytes(table, form, about)
    if form == "csv":
        read = pd.read_csv(io.BytesIO(content), skiprows=1)
        told = json.loads(content.decode().splitlines()[0].removeprefix("# "))
    elif form == "json":
        parsed = json.loads(content)
        read, told = pd.DataFrame(parsed["rows"]), parsed["about"]
    else:
        import pyarrow.parquet as pq

        read = pd.read_parquet(io.BytesIO(content))
        told = json.loads(pq.read_metadata(io.BytesIO(content)).metadata[b"palimpsest"])
    assert list(read.columns) == list(told["columns"])
    np.testing.assert_allclose(read["score"], np.sort(scores.scores_LN.ravel())[::-1], rtol=1e-9)
    assert read["name"][0] == f"L{first[0]}.N{first[1]}"
    assert read["hook"][0] == f"{MLP.hook(first[0])}[{first[1]}]"
    np.testing.assert_allclose((read["low"] + read["high"]) / 2, read["signed"], rtol=1e-6)
    assert read["ablation_effect"][0] == pytest.approx(effects.signed_LN[first])
    assert read["ablation_effect"].isna().sum() == 143
    assert told["provenance"]["model"] == tiny_model.name
    assert "standard deviations" in told["columns"]["score"]


def test_an_unknown_format_is_refused():
    with pytest.raises(ConfigError, match="Use csv, parquet, json"):
        table_bytes(pd.DataFrame(), "xlsx", {})
