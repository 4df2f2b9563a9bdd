"""Relearning after a prune on families that store projections fused: what is held stays, and all else is trained."""

from pathlib import Path

import pytest

from analysis import relearning
from analysis.concepts import Concept, Sentence
from analysis.edits import ComponentEdit, Selection
from analysis.relearning import RelearnConfig
from tests.shared_models import state
from tests.tiny_families import FUSED, tiny_family

PRUNE = ComponentEdit(selection=Selection(rule="explicit", components="L0.N3, L1.H1"), hold=True)


@pytest.mark.parametrize("name", FUSED)
@pytest.mark.parametrize(
    "settings", [{}, {"train_only": "L0.N3, L0.N4, L1.H2"}, {"lora_rank": 2}], ids=["whole", "components", "lora"]
)
def test_a_pruned_model_is_retrained(
    tmp_path: Path, tokenizer, tiny_concept: Concept, tiny_neutral: tuple[Sentence, ...], name: str, settings: dict
):
    model = tiny_family(name, tokenizer, tmp_path)
    before = state(model)
    trained = [weight.parameter.select(weight.axis, 4).clone() for weight in model.neuron_weights(0)]
    config = RelearnConfig(
        model="unused: the model is given",
        concept=tiny_concept.name,
        edit=PRUNE,
        steps=3,
        batch_size=6,
        neutral_share=0.34,
        learning_rate=1e-2,
        precision="float32",
        cadence="steps",
        snapshot_every=3,
        known_threshold=0.0,
        follow_top=0,
        device="cpu",
        **settings,
    )
    concepts = {tiny_concept.name: tiny_concept}
    snapshots = list(relearning.run(config, model=model, concepts=concepts, neutral=tiny_neutral))
    assert [one.phase for one in snapshots] == ["base", "edited", "training"]
    for weight, old in zip(model.neuron_weights(0), trained):
        assert not weight.parameter.select(weight.axis, 3).any()
        if not (settings.get("lora_rank") and weight.name.endswith("bias")):
            assert not weight.parameter.select(weight.axis, 4).equal(old)
    out = model.head_weights(1)[-1]
    assert not out.parameter.narrow(out.axis, model.d_head, model.d_head).any()
    moved = {key for key, weight in model.weights.items() if not weight.equal(before[key])}
    if not settings:
        assert moved == before.keys()
