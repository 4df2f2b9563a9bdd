"""A model whose numbers overflow is refused wherever something is measured, with the precision to use."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from analysis import models
from analysis.concepts import Concept
from analysis.errors import ModelFileError
from analysis.lens.logit_lens import logit_lens
from analysis.localization.methods import localize
from analysis.models import LanguageModel
from analysis.models.finite import check_finite
from analysis.saliency.moments import stream_moments
from analysis.scoring import factual_recall
from analysis.scoring.batches import label_concepts

MEASURES: dict[str, Callable[[LanguageModel, Concept], object]] = {
    "known facts": factual_recall.known_facts,
    "neutral loss": lambda model, concept: factual_recall.neutral_loss(
        model, factual_recall.prepare_neutral(model, concept.sentences)
    ),
    "generation": lambda model, concept: factual_recall.generate(model, "Paris is"),
    "lens": lambda model, concept: logit_lens(model, "Paris is"),
    "saliency": lambda model, concept: stream_moments(model, label_concepts(model, [concept])),
    "localization": lambda model, concept: localize(model, concept, "activation_patching", facts=concept.facts),
}


@pytest.fixture
def overflowing(tiny_folder: Path) -> LanguageModel:
    """In float16; its residual stream leaves the range of float16 after the first layer."""
    model = models.load(str(tiny_folder), device="cpu", dtype="float16")
    name = next(name for name in model.weights if name.endswith("layers.0.mlp.down_proj.weight"))
    with torch.no_grad():
        model.weights[name].fill_(6e4)
    return model


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_overflow_is_refused_with_the_precision_to_use(measure, overflowing: LanguageModel, tiny_concept: Concept):
    with pytest.raises(ModelFileError, match=r"not finite.*load it in bfloat16 or float32"):
        measure(overflowing, tiny_concept)


def test_damaged_weights_are_told_from_overflow(tiny_model: LanguageModel):
    for values in (torch.tensor([1.0, float("nan")]), float("inf")):
        with pytest.raises(ModelFileError, match=r"The logits of .* Undo the last edit"):
            check_finite(tiny_model, values)
    check_finite(tiny_model, torch.zeros(3))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_model_whose_logits_are_not_finite_is_refused_at_load(dtype: str, tiny_folder: Path, tmp_path: Path):
    inner = AutoModelForCausalLM.from_pretrained(tiny_folder)
    with torch.no_grad():
        inner.model.layers[0].mlp.down_proj.weight.fill_(float("nan") if dtype == "float32" else 6e4)
    shutil.copytree(tiny_folder, tmp_path / "model")
    inner.save_pretrained(tmp_path / "model")
    advice = "its weights are damaged" if dtype == "float32" else "load it in bfloat16 or float32"
    with pytest.raises(ModelFileError, match=f"not finite.*{advice}"):
        models.load(str(tmp_path / "model"), device="cpu", dtype=dtype)
