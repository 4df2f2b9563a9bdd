"""An edit is data: it survives JSON, and nonsense is refused with a reason."""

import json

import numpy as np
import pytest
import torch

from analysis.components.circuit import Shape
from analysis.components.neurons import NeuronSet
from analysis.components.sites import HEADS, MLP
from analysis.concepts import Concept
from analysis.edits import ComponentEdit, Edit, Materials, PlannedEdit, Selection, from_dict, plan
from analysis.errors import ConfigError
from analysis.models import LanguageModel
from analysis.saliency.moments import Moments, stream_moments
from analysis.scoring.batches import label_concepts


@pytest.mark.parametrize(
    "edit",
    [
        ComponentEdit(),
        ComponentEdit(kind="reverse", selection=Selection(rule="explicit", components="L0.N1, L2.H3, L1.MLP")),
        ComponentEdit(
            fill="mean", hold=False, selection=Selection(rule="top_k", value=5, control="layer_matched", seed=7)
        ),
    ],
)
def test_json_round_trip(edit: Edit):
    assert from_dict(json.loads(json.dumps(edit.to_dict()))) == edit


VALID = ComponentEdit().to_dict()


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"kind": "prune"},
        VALID | {"kind": "erase"},
        VALID | {"fill": "median"},
        VALID | {"surprise": 1},
        VALID | {"selection": None},
        VALID | {"selection": "top"},
        VALID | {"selection": {"rule": "bottom"}},
        VALID | {"selection": {"surprise": 1}},
        VALID | {"selection": {"value": "much"}},
        VALID | {"selection": {"value": None}},
        VALID | {"selection": {"rule": "top_k", "value": float("nan")}},
        VALID | {"selection": {"rule": "explicit", "components": 5}},
        VALID | {"selection": {"rule": "explicit", "neurons": 5}},
        VALID | {"selection": {"rule": "explicit", "components": "L1.X2"}},
        VALID | {"selection": {"method": ["probeless"]}},
        "prune",
        [],
    ],
)
@pytest.mark.usefixtures("unchecked_types")
def test_nonsense(data: object):
    with pytest.raises(ConfigError):
        from_dict(data)  # type: ignore[arg-type]


def test_an_edit_of_an_older_version_still_opens():
    """Its list could only name neurons, and was called so."""
    stored = json.loads(
        '{"kind": "prune", "fill": "zero", "hold": true, "selection": {"rule": "explicit", "value": 0.01, '
        '"neurons": "L5.N123, L7.N9", "method": "probeless", "control": "none", "seed": 0}}'
    )
    expected = ComponentEdit(selection=Selection(rule="explicit", components="L5.N123, L7.N9"))
    assert from_dict(stored) == expected
    stored["selection"] |= {"rule": "top_fraction", "neurons": ""}
    assert from_dict(stored) == ComponentEdit()


def test_describe():
    assert ComponentEdit().describe() == "prune (zero, held): top 1.00% by probeless"
    assert ComponentEdit(fill="mean", hold=False).describe() == "prune (mean, free to regrow): top 1.00% by probeless"
    assert ComponentEdit(kind="reverse").describe() == "reverse: top 1.00% by probeless"


@pytest.fixture
def moments(tiny_model: LanguageModel, tiny_concept: Concept) -> Moments:
    return stream_moments(tiny_model, label_concepts(tiny_model, [tiny_concept]))


@pytest.mark.parametrize("method", ["probeless", "standardised"])
def test_plan_ranks_by_the_selections_method(
    tiny_model: LanguageModel, tiny_concept: Concept, moments: Moments, method: str
):
    own, other = moments.means_GLN
    expected = np.abs(own - other)
    if method == "standardised":
        expected = expected / np.sqrt(moments.variances_GLN.mean(0))
    edit = ComponentEdit(selection=Selection(rule="top_k", value=7, method=method))
    planned = plan(edit, tiny_model, Materials(concept=tiny_concept, moments=moments))
    assert set(planned.neurons.flat.tolist()) == set(np.argsort(-expected, axis=None)[:7].tolist())
    assert (planned.heads, planned.means_LN, planned.head_means_LHZ) == ((), None, None)


def test_plan_keeps_means_only_for_a_mean_ablation(tiny_model: LanguageModel, tiny_concept: Concept, moments: Moments):
    planned = plan(ComponentEdit(fill="mean"), tiny_model, Materials(concept=tiny_concept, moments=moments))
    counts = moments.counts_G[:, None, None]
    np.testing.assert_allclose(planned.means_LN, (moments.means_GLN * counts).sum(0) / counts.sum())
    assert planned.head_means_LHZ is None  # no head is chosen: nothing to measure
    assert (
        plan(
            ComponentEdit(kind="reverse", fill="mean"), tiny_model, Materials(concept=tiny_concept, moments=moments)
        ).means_LN
        is None
    )


def test_plan_measures_the_mean_output_of_heads(either_model: LanguageModel, tiny_concept: Concept):
    """Sentence by sentence, without padding: the mean over every token that counts."""
    text, rows = label_concepts(either_model, [tiny_concept]), []
    with either_model.hooks([("blocks.1.attn.hook_z", lambda z, hook: rows.append(z[0].double()))]):
        for batch in text.batches:
            for tokens, counted in zip(batch.tokens_BP, batch.weights_GBP.sum(0).bool()):
                with torch.inference_mode():
                    either_model.residual(tokens[None])
                rows[-1] = rows[-1][counted]
    expected = torch.cat(rows).mean(0).numpy()
    edit = ComponentEdit(fill="mean", selection=Selection(rule="explicit", components="L1.H3, L0.N2"))
    planned = plan(edit, either_model, Materials(concept=tiny_concept, moments=stream_moments(either_model, text)))
    np.testing.assert_allclose(planned.head_means_LHZ[1], expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(planned.means(HEADS, 1, np.array([3])), planned.head_means_LHZ[1, [3]])
    np.testing.assert_array_equal(planned.means(MLP, 0, np.array([2])), planned.means_LN[0, [2]])


def test_a_plan_as_a_circuit():
    shape = Shape(3, 4, 5)
    neurons = NeuronSet([1, 5, 6, 7, 8, 9], shape.neurons)
    planned = PlannedEdit(edit=ComponentEdit(), shape=shape, neurons=neurons, heads=((0, 3), (2, 1)))
    assert planned.circuit.format() == "L1.MLP, L0.H3, L2.H1, L0.N1"
    assert planned.circuit.neurons == neurons
    assert planned.circuit.heads == planned.heads
    assert planned.head_counts.tolist() == [1, 0, 1]
    assert planned.extent() == "6 of 15 neurons and 2 of 12 attention heads"
    alone = PlannedEdit(edit=ComponentEdit(), shape=shape, neurons=NeuronSet([], shape.neurons), heads=((0, 3),))
    assert alone.extent() == "1 of 12 attention heads"
