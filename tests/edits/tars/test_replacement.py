"""TARS, second half: the right vectors are found and replaced, by exactly what the algebra says, and put back."""

import json

import pytest
import torch
from torch import Tensor, nn

from analysis.components.neurons import hook_name
from analysis.edits import from_dict
from analysis.edits.tars.firing import general_firing
from analysis.edits.tars.replacement import applied, directions, rank, replacements
from analysis.edits.tars.targeting import Target, Tars, targeting
from analysis.errors import ConfigError, EditError
from analysis.models import LanguageModel
from tests.edits.tars.tars_settings import PROMPT, logits, settings
from tests.raw_model import raw


def snapshot(model: LanguageModel) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in raw(model).parameters()]


def is_unchanged(model: LanguageModel, before: list[Tensor]) -> bool:
    return all(torch.equal(parameter, old) for parameter, old in zip(raw(model).parameters(), before))


def vectors(model: LanguageModel, layer: int, matrix: str) -> Tensor:
    """[N, D], read off transformers' own modules."""
    if hasattr(raw(model), "transformer"):  # GPT-2's Conv1D keeps [in, out]
        mlp = raw(model).transformer.h[layer].mlp
        return {"up": mlp.c_fc.weight.T, "down": mlp.c_proj.weight}[matrix].detach()
    mlp = raw(model).model.layers[layer].mlp
    return {"gate": mlp.gate_proj.weight, "up": mlp.up_proj.weight, "down": mlp.down_proj.weight.T}[matrix].detach()


def norms(model: LanguageModel, layer: int) -> tuple[nn.Module, nn.Module]:
    """The final norm, and the one before the MLP of `layer`."""
    if hasattr(raw(model), "transformer"):
        return raw(model).transformer.ln_f, raw(model).transformer.h[layer].ln_2
    return raw(model).model.norm, raw(model).model.layers[layer].post_attention_layernorm


# the ranking


@pytest.mark.parametrize("matrix", ["gate", "up", "down"])
def test_a_planted_vector_is_found_and_replaced(tiny_model: LanguageModel, matrix: str):
    target = targeting(tiny_model, settings())
    planted = vectors(tiny_model, 1, matrix)[7]
    with torch.no_grad():
        planted.copy_(3 * target.vector_D / target.vector_D.norm())
    config = settings(matrices=(matrix,), scale=2.0)
    ranking = rank(tiny_model, config, target)
    first = ranking.table().iloc[0]
    assert (first["vector"], first["place"]) == (f"L1.N7 {matrix}", 1)
    assert first["cosine"] == pytest.approx(1.0, abs=1e-5)
    with applied(replacements(tiny_model, config, target, ranking)):
        expected = -target.vector_D / target.vector_D.norm() * 3 * 2
        assert torch.allclose(vectors(tiny_model, 1, matrix)[7], expected, atol=1e-5)


def test_cosines_of_all_matrices_by_hand(either_model: LanguageModel):
    matrices = ("up", "down")
    target = targeting(either_model, settings())
    table = rank(either_model, settings(matrices=matrices), target).table(top=10**6)
    n_layers, n_neurons = either_model.shape
    assert len(table) == 2 * n_layers * n_neurons
    assert table["score"].is_monotonic_decreasing
    for layer, matrix in ((0, "up"), (n_layers - 1, "down")):
        found = table[(table.layer == layer) & (table.matrix == matrix)].sort_values("neuron")["cosine"].to_numpy()
        own = torch.cosine_similarity(vectors(either_model, layer, matrix), target.vector_D[None])
        assert torch.allclose(torch.tensor(found), own, atol=1e-5)


def test_only_the_chosen_layers_are_ranked(tiny_model: LanguageModel):
    ranking = rank(tiny_model, settings(layers=(1, 2)), targeting(tiny_model, settings()))
    assert {*ranking.layers_E.tolist()} == {1, 2}
    from_the_end = rank(tiny_model, settings(layers=(-2, -1)), targeting(tiny_model, settings()))
    assert (from_the_end.scores_E == ranking.scores_E).all()
    for layers in ((1, 3), (2, 1), (-4, -1)):
        with pytest.raises(EditError, match="0 to 2"):
            rank(tiny_model, settings(layers=layers), targeting(tiny_model, settings()))


def test_firing_by_hand(either_model: LanguageModel, tiny_neutral):
    """|activation on the prompt| / (rms on text + loudest activation on a contrast prompt), by hooks of its own."""
    contrast = ("The capital of Spain is", "Nobody told us")
    config = settings(ranking="firing", contrast=contrast, norm_gain="multiply")

    def activation(text: str) -> Tensor:
        kept = []
        names = [hook_name(layer) for layer in range(either_model.n_layers)]
        with either_model.hooks([(name, lambda a, hook: kept.append(a[0].clone())) for name in names]), torch.no_grad():
            either_model.residual(torch.tensor([either_model.encode(text).ids]))
        return torch.stack(kept)  # L P N

    texts = [sentence.text for sentence in tiny_neutral[:4]]
    pooled = torch.cat([activation(text)[:, 1:] for text in texts], dim=1)
    usual = pooled.square().mean(1).sqrt()
    found = general_firing(either_model, texts)
    assert torch.allclose(found, usual, atol=1e-5)
    loudest = torch.stack([activation(text)[:, -1].abs() for text in contrast]).amax(0)
    expected = activation(PROMPT)[:, -1].abs() / (usual + loudest)
    ranking = rank(either_model, config, targeting(either_model, config), usual_LN=found)
    own = torch.tensor(ranking.scores_E)
    assert torch.allclose(own, expected[ranking.layers_E, ranking.neurons_E], rtol=1e-4)
    assert (int(ranking.layers_E[0]), int(ranking.neurons_E[0])) == divmod(int(expected.argmax()), expected.shape[1])


# the gain of the norms


def test_divided_the_norm_turns_the_stream_into_the_target(either_model: LanguageModel):
    """`divide` undoes the final norm: norm(s) is the target, up to what the norm's own scale adds."""
    target = targeting(either_model, settings(refinement="none"))
    final, before = norms(either_model, 1)
    read, write = directions(either_model, settings(norm_gain="divide"), target.vector_D, 1)
    assert float(write.norm()) == pytest.approx(1.0, abs=1e-5)
    with torch.no_grad():
        assert torch.allclose(final(write * 1e3), target.vector_D, atol=1e-3)
        seen = before(write * 1e3) - (before.bias if hasattr(before, "bias") else 0)
    assert float(torch.cosine_similarity(seen, read, dim=0)) == pytest.approx(1.0, abs=1e-5)


def test_multiplied_it_is_the_gradient_of_the_score(either_model: LanguageModel):
    """`multiply`: d(norm(x) · t)/dx without the part along x, which only the norm's scale brings in."""
    target = targeting(either_model, settings())
    final, _ = norms(either_model, 1)
    _, write = directions(either_model, settings(norm_gain="multiply"), target.vector_D, 1)
    x = torch.randn(either_model.d_model, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (final(x) @ target.vector_D).backward()
    assert x.grad is not None
    along = (x - x.mean() if hasattr(final, "bias") else x).detach()

    def across(vector: Tensor) -> Tensor:
        return vector - vector @ along / (along @ along) * along

    assert float(torch.cosine_similarity(across(x.grad), across(write), dim=0)) == pytest.approx(1.0, abs=1e-4)


def test_the_gain_ranks_readers_by_what_they_see(tiny_model: LanguageModel):
    target = targeting(tiny_model, settings())
    final, before = norms(tiny_model, 2)
    seen = before.weight * (final.weight * target.vector_D)
    own = torch.cosine_similarity(vectors(tiny_model, 2, "up"), seen[None].detach())
    config = settings(norm_gain="multiply", matrices=("up",), layers=(2, 2))
    ranking = rank(tiny_model, config, target)
    assert ranking.neurons_E[0] == int(own.argmax())
    assert ranking.cosines_E[0] == pytest.approx(float(own.max()), abs=1e-5)


# what is replaced


def test_every_bit_is_put_back(either_model: LanguageModel):
    before, said = snapshot(either_model), logits(either_model)
    config = settings(matrices=("up", "down"), n_edits=20, scale=3.0)
    target = targeting(either_model, config)
    changes = replacements(either_model, config, target, rank(either_model, config, target))
    assert is_unchanged(either_model, before)
    with applied(changes):
        assert not torch.allclose(logits(either_model), said)
    assert is_unchanged(either_model, before)

    def fail() -> None:
        with applied(changes):
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert is_unchanged(either_model, before)


def test_exactly_the_chosen_vectors_change(either_model: LanguageModel):
    config = settings(matrices=("up", "down"), n_edits=9)
    target = targeting(either_model, config)
    ranking = rank(either_model, config, target)
    chosen = {(row.layer, row.matrix, row.neuron) for row in ranking.table(top=9).itertuples()}
    n_layers = either_model.n_layers
    before = {(l, m): vectors(either_model, l, m).clone() for l in range(n_layers) for m in ("up", "down")}
    with applied(replacements(either_model, config, target, ranking)):
        changed = {
            (layer, matrix, int(n))
            for (layer, matrix), old in before.items()
            for n in (vectors(either_model, layer, matrix) != old).any(1).nonzero().flatten()
        }
        for layer, matrix, n in chosen:
            length = before[layer, matrix][n].norm() * config.scale
            expected = -target.vector_D / target.vector_D.norm() * length
            assert torch.allclose(vectors(either_model, layer, matrix)[n], expected, atol=1e-4)
    assert changed == chosen


def test_the_threshold_takes_what_reaches_it(tiny_model: LanguageModel):
    target = targeting(tiny_model, settings())
    ranking = rank(tiny_model, settings(), target)
    between = float(ranking.scores_E[3] + ranking.scores_E[4]) / 2
    config = settings(rule="threshold", threshold=between)
    assert sum(len(piece.indices) for piece, _ in replacements(tiny_model, config, target, ranking)) == 4
    with pytest.raises(EditError, match="Lower the threshold"):
        replacements(tiny_model, settings(rule="threshold", threshold=2.0), target, ranking)


def test_scaled_by_the_stream_the_columns_write_against_the_target(either_model: LanguageModel):
    """In the last layer the stream then differs by exactly -scale * |stream| * direction, whatever the signs."""
    last = either_model.n_layers - 1
    config = settings(ranking="firing", scaling="stream", scale=0.7, n_edits=5, layers=(last, last))
    target = targeting(either_model, config)
    ranking = rank(either_model, config, target)
    neurons = torch.tensor(ranking.neurons_E[:5].copy())
    if either_model.n_layers == 3:  # of the gated model, some fire with a negative sign
        assert len({*target.activation_LN[last, neurons].sign().tolist()}) == 2

    def stream() -> Tensor:
        kept = []
        with either_model.hooks([(f"blocks.{last}.hook_resid_post", lambda a, hook: kept.append(a[0, -1].clone()))]):
            logits(either_model)
        return kept[0]

    before = stream()
    lost = target.activation_LN[last, neurons] @ vectors(either_model, last, "down")[neurons]
    with applied(replacements(either_model, config, target, ranking)):
        written = stream() - before + lost
    expected = -0.7 * before.norm() * target.vector_D / target.vector_D.norm()
    assert torch.allclose(written, expected, atol=1e-3 * float(before.norm()))


def test_concepts_one_after_another(tiny_model: LanguageModel):
    """The second target is made on the edited model, and undoing in reverse gives back every bit."""
    before = snapshot(tiny_model)
    first, second = settings(scale=20.0), settings(trigger=" Rome", prompts=("The capital of Italy is",))
    untouched = targeting(tiny_model, second).vector_D

    def edit(config: Tars) -> list:
        target: Target = targeting(tiny_model, config)
        return replacements(tiny_model, config, target, rank(tiny_model, config, target))

    with applied(edit(first)):
        assert not torch.equal(targeting(tiny_model, second).vector_D, untouched)
        with applied(edit(second)):
            assert not is_unchanged(tiny_model, before)
    assert is_unchanged(tiny_model, before)


# what is refused


def test_settings_survive_json():
    config = settings(layers=(0, 1), contrast=("Once upon",), matrices=("down",), ranking="firing", scaling="stream")
    again = from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config
    assert "(ours)" in config.describe()
    assert "(ours)" not in settings().describe()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trigger": "  "}, "trigger is empty"),
        ({"prompts": ()}, "prompt is missing"),
        ({"prompts": ("ok", " ")}, "prompt is missing"),
        ({"refinement": "median"}, "refinement is .median"),
        ({"norm_gain": "sqrt"}, "norm_gain is .sqrt"),
        ({"matrices": ("sideways",)}, "matrices"),
        ({"matrices": ()}, "matrices"),
        ({"matrices": ("up",), "ranking": "firing"}, "down columns"),
        ({"matrices": ("up", "down"), "scaling": "stream"}, "down columns"),
        ({"n_edits": 0}, "n_edits"),
        ({"n_noise": 2.5}, "n_noise"),
        ({"seed": -1}, "seed"),
        ({"layers": (3,)}, "a tuple of 2: a whole number, a whole number or None"),
        ({"tau": 1.5}, "tau"),
        ({"scale": float("nan")}, "scale"),
        ({"noise": -1.0}, "noise"),
    ],
)
def test_settings_that_make_no_sense(unchecked_types: None, changes: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        settings(**changes)


@pytest.mark.parametrize("data", [{"trigger": "x"}, {"trigger": "x", "prompts": ["y"], "speed": 3}])
def test_json_that_is_no_tars(data: dict):
    with pytest.raises(ConfigError):
        from_dict({"method": "tars", **data})


def test_more_edits_than_vectors(tiny_model: LanguageModel):
    config = settings(n_edits=49, layers=(0, 0))
    target = targeting(tiny_model, config)
    with pytest.raises(EditError, match="only 48 are ranked"):
        replacements(tiny_model, config, target, rank(tiny_model, config, target))


def test_gate_rows_of_a_model_without_gates(tiny_gpt2: LanguageModel):
    with pytest.raises(EditError, match="no gate vectors"):
        rank(tiny_gpt2, settings(matrices=("gate",)), targeting(tiny_gpt2, settings()))
