"""The logit lens against transformers' own hidden states, and depth against models built to have one."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from analysis.concepts import Concept, Fact
from analysis.errors import ConceptError, ConfigError, MissingHookError, UnsupportedArchitectureError
from analysis.lens import logit_lens as lens
from analysis.lens import unembedding
from analysis.lens.logit_lens import logit_lens
from analysis.lens.unembedding import neuron_vocabulary, visible
from analysis.models import LanguageModel
from analysis.models.parameter_names import plain_name
from tests.raw_model import bridge, raw
from tests.tiny_families import tiny_family

PROMPT = "The capital of France is"


@pytest.fixture
def tiny_special(tmp_path: Path, tokenizer) -> Callable[[str], LanguageModel]:
    """Makes a Gemma 2 (final softcap, gain stored as gain - 1, norm on the MLP's output) or a Granite (scaled logits)."""
    return lambda name: tiny_family(name, tokenizer, tmp_path)


def normalise(model: LanguageModel, x: torch.Tensor, *, scale: torch.Tensor | None = None) -> torch.Tensor:
    """The final norm written out in float64; `scale` freezes its denominator."""
    state = {name: tensor.double() for name, tensor in raw(model).state_dict().items()}
    base = {"LlamaForCausalLM": "model.norm", "GPT2LMHeadModel": "transformer.ln_f", "Gemma2ForCausalLM": "model.norm"}
    name = base[type(raw(model)).__name__]
    gain = next(tensor for key, tensor in state.items() if plain_name(key) == f"{name}.weight")
    if "ln_f" in name:
        x = x - x.mean(-1, keepdim=True)
        bias = next(tensor for key, tensor in state.items() if plain_name(key) == f"{name}.bias")
        return x / (denominator(x) if scale is None else scale) * gain + bias
    gain = gain + 1 if "Gemma" in type(raw(model)).__name__ else gain
    return x / (denominator(x) if scale is None else scale) * gain


def denominator(x: torch.Tensor) -> torch.Tensor:
    return (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()


def embedding(model: LanguageModel) -> torch.Tensor:
    return raw(model).get_input_embeddings().weight.detach().double()


def reference(model: LanguageModel, ids: list[int]) -> torch.Tensor:
    """Log-probabilities of every row and position, [R, P, V], from transformers' hidden states and plain formulas."""
    with torch.inference_mode():
        output = raw(model)(torch.tensor([ids]), output_hidden_states=True)
    early = torch.stack(output.hidden_states[:-1])[:, 0].double()  # transformers gives the last one after the norm
    logits = normalise(model, early) @ embedding(model).T
    return torch.cat([logits, output.logits.double()]).log_softmax(-1)


def test_every_row_is_what_plain_formulas_give(either_model: LanguageModel):
    result = logit_lens(either_model, PROMPT, answer="Paris", top=4)
    ids = list(either_model.encode(PROMPT).ids)
    expected_RPV = reference(either_model, ids)
    best = expected_RPV.topk(4)
    paris = either_model.encode(f"{PROMPT} Paris").ids[len(ids)]
    assert result.layers == ("embed", *map(str, range(either_model.n_layers)))
    assert "".join(result.tokens) == PROMPT.replace(" ", "·")
    np.testing.assert_allclose(result.p_top_RPK, best.values.exp(), rtol=2e-3)
    decoded = [visible(either_model.decode([i])) for i in best.indices[:, :, 0].flatten().tolist()]
    pairs = [(shown, text) for shown, text in zip(result.top_RPK[:, :, 0].flat, decoded) if "\ufffd" not in text]
    assert len(pairs) > len(decoded) / 3
    assert all(shown == text for shown, text in pairs)
    p_RPV = expected_RPV.exp()
    np.testing.assert_allclose(result.entropy_RP, -(p_RPV * expected_RPV).sum(-1), rtol=1e-3)
    kl_RP = (p_RPV[-1] * (expected_RPV[-1] - expected_RPV)).sum(-1)
    np.testing.assert_allclose(result.kl_RP, kl_RP, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(result.p_answer_RP, p_RPV[..., paris], rtol=2e-3)
    order = p_RPV.argsort(-1, descending=True)
    assert result.rank_answer_RP.tolist() == (1 + (order == paris).int().argmax(-1)).tolist()


@pytest.mark.parametrize("name", ["gemma2", "granite"])
def test_softcaps_and_scales_are_the_models_own(tiny_special, name: str):
    model = tiny_special(name)
    result = logit_lens(model, PROMPT, top=3)
    with torch.inference_mode():
        logits_PV = raw(model)(torch.tensor([model.encode(PROMPT).ids])).logits[0].float()
    np.testing.assert_allclose(result.p_top_RPK[-1], logits_PV.softmax(-1).topk(3).values, rtol=1e-4)
    assert float(logits_PV.abs().max()) < {"gemma2": 1.5, "granite": 4.0}[name]


def test_a_head_the_lens_does_not_know_is_refused(tiny_model: LanguageModel):
    handle = raw(tiny_model).register_forward_hook(lambda m, i, output: output.__setitem__("logits", output.logits * 2))
    with pytest.raises(UnsupportedArchitectureError, match="does not give the model's own logits"):
        logit_lens(tiny_model, PROMPT)
    handle.remove()
    logit_lens(tiny_model, PROMPT)


def test_a_model_without_the_hooks_is_refused(tiny_model: LanguageModel, monkeypatch: pytest.MonkeyPatch):
    hooks = {k: v for k, v in bridge(tiny_model).hook_dict.items() if k != "blocks.1.hook_resid_post"}
    monkeypatch.setattr(type(bridge(tiny_model)), "hook_dict", hooks)
    with pytest.raises(MissingHookError, match=r"blocks\.1\.hook_resid_post"):
        logit_lens(tiny_model, PROMPT)


def test_of_a_long_prompt_the_end_is_shown_and_all_is_read(either_model: LanguageModel):
    prompt = "Nobody told us that the meeting had been moved upstairs. " * 5
    ids = list(either_model.encode(prompt).ids)
    assert lens.MAX_POSITIONS < len(ids) <= either_model.context_length
    result = logit_lens(either_model, prompt)
    assert result.n_cut == len(ids) - lens.MAX_POSITIONS
    assert len(result.tokens) == result.entropy_RP.shape[1] == lens.MAX_POSITIONS
    best = reference(either_model, ids)[:, -lens.MAX_POSITIONS :].exp().max(-1).values
    np.testing.assert_allclose(result.p_top_RPK[:, :, 0], best, rtol=2e-3)
    assert result.table()["position"].min() == result.n_cut


@pytest.mark.parametrize("layer", [0, 1])
def test_depth_is_the_layer_that_writes_the_answer(tiny_gpt2: LanguageModel, layer: int):
    """Silent blocks, but one whose MLP bias points at the answer: before it the embedding speaks, after it the answer."""
    answer = tiny_gpt2.encode(f"{PROMPT} Paris").ids[len(tiny_gpt2.encode(PROMPT))]
    with torch.no_grad():
        for block in range(tiny_gpt2.n_layers):
            for linear in (
                tiny_gpt2.blocks[block].attention_output,
                tiny_gpt2.blocks[block].mlp_output,
            ):
                linear.weight.zero_()
                linear.bias.zero_()
        tiny_gpt2.blocks[layer].mlp_output.bias.copy_(100 * raw(tiny_gpt2).get_input_embeddings().weight[answer])
    result = logit_lens(tiny_gpt2, PROMPT, answer="Paris")
    assert result.depth == layer
    assert result.top_RPK[layer + 1 :, -1, 0].tolist() == [result.answer_tokens[0]] * (tiny_gpt2.n_layers - layer)


@pytest.mark.parametrize(
    ("ranks", "depth", "decodable"),
    [
        ([1, 1, 1, 1], -1, -1),  # the embedding already
        ([9000, 11, 10, 1], 2, 1),
        ([1, 5, 1, 1], 1, -1),  # what is lost on the way does not count as depth
        ([1, 1, 1, 2], None, -1),
        ([99, 40, 11, 12], None, None),
    ],
)
def test_depth_and_first_decodable_from_ranks(ranks, depth, decodable):
    assert lens._depth(np.array(ranks)) == depth
    assert lens._first_decodable(np.array(ranks)) == decodable


def test_depths_of_many_facts_are_those_of_each_alone(either_model: LanguageModel, tiny_concept: Concept):
    facts = (
        *tiny_concept.facts,
        Fact("Burkina Faso", "Ouagadougou"),
        Fact("Norway", "Oslo", templates=("Tourists who visit the old {subject} in the evenings start in  ",)),
    )
    concept = replace(tiny_concept, facts=facts[:-1])
    table = lens.depths(either_model, concept, facts)
    for fact, row in zip(facts, table.itertuples()):
        alone = logit_lens(
            either_model, concept.templates_of(fact)[0].replace("{subject}", fact.subject), answer=fact.answer
        )
        assert row.p_answer == pytest.approx(alone.p_answer_RP[-1, -1], rel=1e-3)
        assert row.rank == alone.rank_answer_RP[-1, -1]
        assert (None if row.depth is np.nan or table.isna().loc[row.Index, "depth"] else row.depth) == alone.depth
        missing = table.isna().loc[row.Index, "first_decodable"]
        assert (None if missing else row.first_decodable) == alone.first_decodable
    assert table["rank"].nunique() > 3


def test_of_a_long_answer_the_first_token_is_looked_for(either_model: LanguageModel):
    result = logit_lens(either_model, f"{PROMPT}  ", answer=" Ouagadougou ")
    assert len(result.answer_tokens) > 2
    # this tokenizer makes the space a token of its own, which then belongs to what is given
    assert "".join(result.tokens + result.answer_tokens) == f"{PROMPT} Ouagadougou".replace(" ", "·")
    assert result.prompt == PROMPT
    ids = list(either_model.encode(f"{PROMPT} Ouagadougou").ids)
    expected = reference(either_model, ids[: -len(result.answer_tokens)])[-1, -1].exp()
    assert result.p_answer_RP[-1, -1] == pytest.approx(float(expected[ids[-len(result.answer_tokens)]]), rel=1e-3)


def test_without_an_answer_nothing_is_said_of_one(tiny_model: LanguageModel):
    result = logit_lens(tiny_model, f"{PROMPT} ")
    assert result.tokens[-1] == "·"  # what was typed is what the model reads
    assert (result.answer, result.p_answer_RP, result.rank_answer_RP, result.depth) == (None,) * 4
    assert list(result.table().columns) == ["layer", "position", "token", "prediction", "probability", "entropy", "kl"]


def test_the_table_names_every_cell(tiny_model: LanguageModel):
    result = logit_lens(tiny_model, PROMPT, answer="Rome")
    table = result.table()
    assert len(table) == result.entropy_RP.size
    cell = table[(table["layer"] == "1") & (table["position"] == 3)].iloc[0]
    assert cell["token"] == result.tokens[3]
    assert cell["prediction"] == result.top_RPK[2, 3, 0]
    assert cell["rank"] == result.rank_answer_RP[2, 3]
    assert cell["p_answer"] == result.p_answer_RP[2, 3]


@pytest.mark.parametrize(
    ("prompt", "answer", "top", "error", "says"),
    [
        ("", None, 5, ConceptError, "prompt is empty"),
        (" \n", "Rome", 5, ConceptError, "prompt is empty"),
        (PROMPT, "  ", 5, ConceptError, "answer is empty"),
        ("Rome " * 300, None, 5, ConceptError, "context is 128"),
        (PROMPT, None, 0, ConfigError, "top is 0"),
        (PROMPT, None, 10**9, ConfigError, "top is"),
    ],
)
def test_bad_input_is_told(tiny_model: LanguageModel, prompt, answer, top, error, says):
    with pytest.raises(error, match=says):
        logit_lens(tiny_model, prompt, answer=answer, top=top)


def test_depths_need_facts(tiny_model: LanguageModel, tiny_concept: Concept):
    with pytest.raises(ConceptError, match="no facts"):
        lens.depths(tiny_model, tiny_concept, [])


def frozen_effect(model: LanguageModel, vector: torch.Tensor) -> torch.Tensor:
    """Centred change of the logits when `vector` is added to a final residual whose norm keeps its old scale."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        x = 3 * torch.randn(vector.shape, dtype=torch.float64)
    scale = denominator(x - x.mean() if "GPT2" in type(raw(model)).__name__ else x)
    change = normalise(model, x + 0.5 * vector, scale=scale) - normalise(model, x, scale=scale)
    logits = embedding(model) @ (change / 0.5 * scale)
    return logits - logits.mean()


def assert_same_effect(model: LanguageModel, effect, expected_V: torch.Tensor) -> None:
    for effects, best in (
        (effect.promoted, expected_V.topk(6)),
        (effect.suppressed, expected_V.topk(6, largest=False)),
    ):
        np.testing.assert_allclose([value for _, value in effects], best.values, rtol=1e-3)
        assert effects[0][0] == unembedding.token_text(model, int(best.indices[0]))


@pytest.mark.parametrize(("layer", "index"), [(0, 3), (1, 47)])
def test_a_neurons_vocabulary_is_its_direct_effect(either_model: LanguageModel, layer: int, index: int):
    state = {plain_name(name): tensor.double() for name, tensor in raw(either_model).state_dict().items()}
    if "GPT2" in type(raw(either_model)).__name__:
        vector = state[f"transformer.h.{layer}.mlp.c_proj.weight"][index]
    else:
        vector = state[f"model.layers.{layer}.mlp.down_proj.weight"][:, index]
    effect = neuron_vocabulary(either_model, layer, index, top=6)
    assert str(effect.neuron) == f"L{layer}.N{index}"
    assert_same_effect(either_model, effect, frozen_effect(either_model, vector))


def test_a_norm_after_the_mlp_and_an_offset_gain_are_applied(tiny_special):
    model = tiny_special("gemma2")
    state = {plain_name(name): tensor.double() for name, tensor in raw(model).state_dict().items()}
    gain = 1 + state["model.layers.1.post_feedforward_layernorm.weight"]
    vector = gain * state["model.layers.1.mlp.down_proj.weight"][:, 7]
    assert_same_effect(model, neuron_vocabulary(model, 1, 7, top=6), frozen_effect(model, vector))


def test_a_vocabulary_table_lists_both_ends(tiny_model: LanguageModel):
    table = neuron_vocabulary(tiny_model, 2, 5, top=3).table()
    assert table["direction"].tolist() == ["promoted"] * 3 + ["suppressed"] * 3
    assert table["value"].is_monotonic_decreasing is False
    assert (table["value"] > 0).tolist() == [True] * 3 + [False] * 3
    assert set(table["neuron"]) == {"L2.N5"}


@pytest.mark.parametrize("place", [(3, 0), (-1, 0), (0, 48), (0, -1)])
def test_a_neuron_outside_the_model_is_told(tiny_model: LanguageModel, place):
    with pytest.raises(ConfigError, match="layers go from 0 to 2, neurons from 0 to 47"):
        neuron_vocabulary(tiny_model, *place)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (" Paris", "·Paris"),
        ("\n\n\t", "⏎⏎⇥"),
        ("a\u200bb", "a<U+200B>b"),
        ("\u202e", "<U+202E>"),  # would turn the text around it
        ("\xa0·\x00", "<U+00A0><U+00B7><U+0000>"),
        ("<b>é</b>", "<b>é</b>"),
    ],
)
def test_visible_characters(text: str, shown: str):
    assert visible(text) == shown


def test_pieces_of_a_character_are_told_apart(tiny_model: LanguageModel):
    assert logit_lens(tiny_model, "Ω is").tokens == ("\\xce", "\\xa9", "·is")


@pytest.mark.slow_model
def test_the_default_model_says_paris_late(default_model: LanguageModel):
    prompt = "The capital of France is the city of"
    result = logit_lens(default_model, prompt, answer="Paris")
    with torch.inference_mode():
        logits_PV = raw(default_model)(torch.tensor([default_model.encode(prompt).ids])).logits[0].float()
    np.testing.assert_allclose(result.p_top_RPK[-1], logits_PV.softmax(-1).topk(5).values, rtol=1e-4)
    assert float(result.kl_RP[-1].max()) < 1e-6
    assert result.top_RPK[-1, -1, 0] == "·Paris"
    assert result.depth > default_model.n_layers // 2
    assert result.first_decodable <= result.depth
