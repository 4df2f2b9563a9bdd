"""The weights of components, counted by hand on both tiny architectures."""

from pathlib import Path

import pytest
import torch

from analysis.components.circuit import Circuit, Shape
from analysis.edits import circuit_slices, n_parameters
from analysis.errors import EditError
from analysis.models import LanguageModel

LLAMA = {
    "L0.N3": 3 * 32,  # gate, up, down
    "L0.MLP": 48 * 3 * 32,
    "L0.H2": 2 * 8 * 32,  # queries and output; two heads share keys and values
    "L0.H2, L0.H3, L1.N1, L2.MLP": 4 * 8 * 32 + 3 * 32 + 48 * 3 * 32,
    "L0.MLP, L0.N3": 48 * 3 * 32,
}
GPT2 = {
    "L0.N3": 2 * 32 + 1,  # in with its bias, out
    "L0.MLP": 64 * (2 * 32 + 1) + 32,  # and the output bias
    "L0.H2": 8 * 32,  # the output: queries, keys and values are one fused projection
    "L0.MLP, L1.H0, L1.N1": 64 * 65 + 32 + 8 * 32 + 65,
}


@pytest.mark.parametrize(("text", "count"), LLAMA.items())
def test_parameters_of_a_llama(tiny_model: LanguageModel, text: str, count: int):
    assert n_parameters(tiny_model, Circuit.parse(text, tiny_model.component_shape)) == count


@pytest.mark.parametrize(("text", "count"), GPT2.items())
def test_parameters_of_a_gpt2(tiny_gpt2: LanguageModel, text: str, count: int):
    assert n_parameters(tiny_gpt2, Circuit.parse(text, tiny_gpt2.component_shape)) == count


def test_no_weight_is_counted_twice(either_model: LanguageModel):
    """Every component of the model at once: all of the MLPs, and of the attention what belongs to heads."""
    shape = either_model.component_shape
    names = [f"L{l}.MLP, L{l}.N0" for l in range(shape.n_layers)]
    names += [f"L{l}.H{h}" for l in range(shape.n_layers) for h in range(shape.n_heads)]
    pieces = circuit_slices(either_model, Circuit.parse(", ".join(names), shape))
    counted = {id(piece.parameter): torch.zeros_like(piece.parameter) for piece in pieces}
    for piece in pieces:
        counted[id(piece.parameter)].index_add_(
            piece.axis, piece.indices, torch.ones_like(piece.parameter.index_select(piece.axis, piece.indices))
        )
    assert all((values == 1).all() for values in counted.values())
    total = {"tiny-llama": 3 * (48 * 3 * 32 + 2 * 32 * 32), "tiny-gpt2": 2 * (64 * 65 + 32 + 32 * 32)}
    assert sum(values.numel() for values in counted.values()) == total[Path(either_model.name).name]


def test_a_slice_writes_nothing_but_itself(tiny_model: LanguageModel):
    (piece, *_) = circuit_slices(tiny_model, Circuit.parse("L1.H2", tiny_model.component_shape))
    before = piece.parameter.detach().clone()
    with torch.no_grad():
        piece.write(piece.read() + 1)
    assert torch.equal(piece.parameter[16:24], before[16:24] + 1)
    assert torch.equal(piece.parameter[:16], before[:16])
    assert torch.equal(piece.parameter[24:], before[24:])


def test_what_is_left_of_a_slice(tiny_model: LanguageModel):
    shape = tiny_model.component_shape
    mlp, others = (circuit_slices(tiny_model, Circuit.parse(text, shape)) for text in ("L1.MLP", "L1.N3, L1.N7, L2.N0"))
    left = mlp[0].without(others)
    assert sorted({*range(48)} - {*left.indices.tolist()}) == [3, 7]
    assert mlp[0].is_whole
    assert not left.is_whole
    assert mlp[0].without([]) is mlp[0]


def test_a_circuit_of_another_model(tiny_model: LanguageModel):
    with pytest.raises(EditError, match="2 layers"):
        n_parameters(tiny_model, Circuit.parse("L1.N1", Shape(2, 4, 64)))
