"""Tokenizers that append an end of text, name several ends, or know tokens without an embedding."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from analysis import models
from analysis.concepts import Concept
from analysis.errors import ConceptError
from analysis.lens.logit_lens import logit_lens
from analysis.models import LanguageModel
from analysis.saliency.moments import stream_moments
from analysis.scoring.batches import label_concepts
from analysis.scoring.factual_recall import generate, known_facts


@pytest.fixture
def load_with(tiny_folder: Path, tmp_path: Path):
    """Loads the tiny model with another tokenizer."""

    def loaded(tokenizer: Any, **generation: Any) -> LanguageModel:
        folder = tmp_path / "model"
        inner = AutoModelForCausalLM.from_pretrained(tiny_folder)
        inner.generation_config = GenerationConfig(**generation)
        inner.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return models.load(str(folder), device="cpu")

    return loaded


@pytest.fixture
def own_tokenizer(tiny_folder: Path) -> Any:
    """A copy of the tiny model's tokenizer."""
    return AutoTokenizer.from_pretrained(tiny_folder)


def _with_template(tokenizer: Any, single: str) -> Any:
    end = tokenizer.eos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=single.replace("END", end), special_tokens=[(end, tokenizer.eos_token_id)]
    )
    return tokenizer


@pytest.mark.parametrize("template", ["$A END", "END $A END", "$A END END"])
def test_what_a_tokenizer_appends_is_not_read(
    template: str, load_with, own_tokenizer, tiny_model, tiny_concept: Concept
):
    model = load_with(_with_template(own_tokenizer, template))
    assert model.tokenizer("Hello").input_ids[-1] == model.tokenizer.eos_token_id
    begins = (model.tokenizer.eos_token_id,) if template.startswith("END") else ()
    assert model.encode("Hello there").ids == (*begins, *tiny_model.encode("Hello there").ids)
    assert model.encode("").ids == begins
    if begins:  # another text for the model: only the reading above can be compared
        return
    assert generate(model, "Paris is") == generate(tiny_model, "Paris is")
    pd_one, pd_other = (known_facts(one, tiny_concept)[1] for one in (model, tiny_model))
    assert np.array_equal(pd_one["p"], pd_other["p"])
    assert logit_lens(model, "Paris is").table().equals(logit_lens(tiny_model, "Paris is").table())
    one, other = (stream_moments(m, label_concepts(m, [tiny_concept])) for m in (model, tiny_model))
    assert np.array_equal(one.means_GLN, other.means_GLN)


def test_generation_ends_at_every_end_token(load_with, own_tokenizer, tiny_model: LanguageModel):
    _, produced = generate(tiny_model, "Paris is", max_new_tokens=6)
    ids = []
    with torch.inference_mode():
        tokens = list(tiny_model.encode("Paris is").ids)
        for _ in range(3):
            tokens.append(int(tiny_model.logits(torch.tensor([tokens]), keep=1)[0, -1].argmax()))
            ids.append(tokens[-1])
    last = next(i for i, one in enumerate(ids) if one not in ids[:i]) if len(set(ids)) == 1 else ids.index(ids[-1])
    model = load_with(own_tokenizer, eos_token_id=[0, ids[last]])
    assert model.special_tokens.ends == {0, ids[last]}
    assert generate(model, "Paris is", max_new_tokens=6)[1] == produced[:last]


def test_padding_without_an_embedding_is_not_used(load_with, own_tokenizer, tiny_model, tiny_concept: Concept):
    own_tokenizer.add_special_tokens({"pad_token": "<pad>"})
    model = load_with(own_tokenizer)
    assert model.tokenizer.pad_token_id >= len(model.input_embeddings_VD)
    assert model.special_tokens.padding < len(model.input_embeddings_VD)
    one, other = (known_facts(m, tiny_concept)[1] for m in (model, tiny_model))
    assert np.array_equal(one["p"], other["p"])
    with pytest.raises(ConceptError, match="no embedding of the token “<pad>”"):
        model.encode("Paris <pad> is")


def test_a_tokenizer_without_special_tokens(load_with, own_tokenizer, tiny_concept: Concept):
    own_tokenizer.eos_token = own_tokenizer.pad_token = None
    model = load_with(own_tokenizer)
    assert 0 <= model.special_tokens.padding < len(model.input_embeddings_VD)
    assert known_facts(model, tiny_concept)[1]["p"].notna().all()
