"""A view of one transformer block: its output projections, its norms, and the weights of neurons and heads.

Axes: `B` batch, `P` position, `H` attention head, `Z` width of a head, `D` d_model.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from analysis.components.neurons import hook_name
from analysis.errors import MissingHookError, UnsupportedArchitectureError
from analysis.models.fused import divisions
from analysis.models.linear_layers import Linear, is_linear, stores_in_out, wrapped
from analysis.models.norms import Norm

__all__ = ["Block", "HeadWeight", "NeuronWeight", "count_neurons"]


@dataclass(frozen=True)
class NeuronWeight:
    """An MLP parameter in which each neuron owns one slice along `axis`."""

    name: str
    """Role of the weight: "gate", "in" or "out", with ".bias" for a bias."""
    parameter: nn.Parameter
    axis: int
    """The axis of `parameter` that indexes neurons."""


@dataclass(frozen=True)
class HeadWeight:
    """An attention parameter in which head `h` owns the slice [h * d_head, (h + 1) * d_head) along `axis`."""

    name: str
    """One of q, k, v, o, with ".bias" for a bias."""
    parameter: nn.Parameter
    axis: int
    """The axis of `parameter` of length n_heads * d_head."""


class Block:
    """One layer of a model. Its modules are the model's own: calling them fires no hook, changing them changes the model.

    Families differ in their norms: Llama, Qwen and GPT-2 norm once before attention and once before the MLP; GPT-J, Phi
    and Cohere share one norm; Gemma 2 and 3 norm again after attention and after the MLP, OLMo 2 only there.
    """

    def __init__(self, block: Any, layer: int, model_name: str, n_heads: int, d_head: int):
        self._block, self._layer, self._model_name = block, layer, model_name
        self._width_of_heads, self._d_head = n_heads * d_head, d_head

    @property
    def attention_output(self) -> nn.Module:
        """The linear layer from the heads' outputs, [..., H * Z], to attention's output, [..., D].

        Raises:
            UnsupportedArchitectureError: the layer has no such projection.
        """
        linear = wrapped(getattr(self._block, "attn", None), "o")
        if linear is None:
            raise self._no_heads()
        return linear

    @property
    def mlp_output(self) -> nn.Module:
        """The linear layer from the neurons' activations, [..., N], to the MLP's output, [..., D]."""
        return self._block.mlp.out.original_component

    @property
    def norm_after_attention(self) -> Norm | None:
        """The norm between `attention_output` and the residual stream (Gemma 2 and 3, OLMo 2); else None."""
        return self._norm("ln1_post")

    @property
    def norm_before_mlp(self) -> Norm | None:
        """The norm at the MLP's input, possibly shared with attention; None if there is none (OLMo 2)."""
        return self._norm("ln2") or self._norm("ln1")

    @property
    def norm_after_mlp(self) -> Norm | None:
        """The norm between `mlp_output` and the residual stream (Gemma 2 and 3, OLMo 2); else None."""
        return self._norm("ln2_post")

    def attention_writes(self, z_BPHZ: Float[Tensor, "B P H Z"]) -> Float[Tensor, "B P D"]:
        """Computes what attention adds to the residual stream from its heads' outputs (the hook `attn.hook_z`).

        Granite multiplies this once more by a constant, which is not included.
        """
        written_BPD = self.attention_output(z_BPHZ.flatten(2))
        after = self.norm_after_attention
        return written_BPD if after is None else after(written_BPD)

    def neuron_weights(self) -> list[NeuronWeight]:
        """All parameters in which each neuron owns a slice, incoming weights first, the output weight last.

        Where a norm runs over all neurons (BitNet), this is the output weight alone: through the norm, a neuron's incoming
        weights change the other neurons' activations.
        """
        weights = []
        incoming = () if _longest_norm(self._block.mlp) > 1 else (("gate", "out"), ("in", "out"))
        for name, neuron_side in (*incoming, ("out", "in")):
            linear = wrapped(self._block.mlp, name)
            if linear is None:
                continue
            in_out = stores_in_out(linear)
            axis = int(in_out) if neuron_side == "out" else int(not in_out)
            weights.append(NeuronWeight(name, linear.weight, axis))
            if neuron_side == "out" and linear.bias is not None:
                weights.append(NeuronWeight(f"{name}.bias", linear.bias, 0))
        return weights

    def head_weights(self) -> list[HeadWeight]:
        """The parameters in which each attention head owns a slice of `d_head`, the output projection last.

        Where a norm runs over all heads at once (OLMo 2 and 3: over queries and over keys), this is the output projection
        alone: through the norm, any other weight of a head changes what the other heads compute.

        Raises:
            UnsupportedArchitectureError: the output projection has no slice per head.
        """
        attention = getattr(self._block, "attn", None)
        if attention is None:
            raise self._no_heads()
        separate = getattr(attention, "qkv", None) is None and _longest_norm(attention) <= self._d_head
        weights = []
        for name in ("q", "k", "v", "o") if separate else ("o",):
            linear = wrapped(attention, name)
            if linear is None or getattr(linear, "weight", None) is None:
                continue
            axis = int(stores_in_out(linear)) if name != "o" else int(not stores_in_out(linear))
            if linear.weight.shape[axis] == self._width_of_heads:
                weights.append(HeadWeight(name, linear.weight, axis))
                if name != "o" and linear.bias is not None:
                    weights.append(HeadWeight(f"{name}.bias", linear.bias, 0))
        if not weights or weights[-1].name != "o":
            raise self._no_heads()
        return weights

    def linears(self) -> list[Linear]:
        """The linear layers that are run, each once; a fused projection is replaced by its parts."""
        here = [Linear(one) for one in self._block.modules() if is_linear(one)]
        divided = {id(one.fused.weight) for one in divisions(self._block)}
        return list({id(one.weight): one for one in here if id(one.weight) not in divided}.values())

    @property
    def mlp_kind(self) -> str:
        """Class name of the MLP; "NoneType" if the block has none."""
        return type(getattr(self._block, "mlp", None)).__name__

    def _norm(self, name: str) -> Norm | None:
        wrapped = getattr(self._block, name, None)
        return None if wrapped is None else Norm(wrapped.original_component)

    def _no_heads(self) -> UnsupportedArchitectureError:
        return UnsupportedArchitectureError(
            f"Layer {self._layer} of “{self._model_name}” has no attention that stores one slice of weights per head, so "
            "its heads cannot be edited. Choose MLP layers or neurons."
        )


def count_neurons(
    blocks: Sequence[Block], hook_names: Collection[str], parameters: Sequence[torch.Tensor], model_name: str
) -> int:
    """Number of neurons in a layer, after checking that every layer has the hook and editable neurons.

    Args:
        blocks: All blocks of a model.
        hook_names: Names of all hooks of the model.
        parameters: All parameters that the model computes with; neurons must own slices of these.
        model_name: Name of the model, for messages.

    Raises:
        MissingHookError: a layer lacks the hook on its neurons' activations.
        UnsupportedArchitectureError: the model is a mixture of experts, its layers differ in width, or its neurons
            own no weights.
    """
    widths = set()
    owned = {parameter.data_ptr() for parameter in parameters}
    for layer, block in enumerate(blocks):
        if "moe" in block.mlp_kind.lower():
            raise UnsupportedArchitectureError(
                f"“{model_name}” is a mixture of experts: its {hook_name(layer)} does not see single neurons. "
                "Choose a model with dense MLPs."
            )
        if hook_name(layer) not in hook_names:
            raise MissingHookError(
                f"“{model_name}” has no hook {hook_name(layer)}, which neuron saliency needs. Choose a model "
                "whose blocks all have an MLP that TransformerLens has hooks for."
            )
        weights = block.neuron_weights()
        if not weights or weights[-1].name != "out" or any(w.parameter.data_ptr() not in owned for w in weights):
            raise UnsupportedArchitectureError(
                f"The MLP of layer {layer} of “{model_name}” ({block.mlp_kind}) does not store one slice of weights "
                "per neuron, so neurons cannot be edited. Choose a Llama, Qwen, Gemma, GPT-2 or GPT-NeoX style model."
            )
        widths.add(weights[-1].parameter.shape[weights[-1].axis])
    if len(widths) != 1:
        raise UnsupportedArchitectureError(
            f"“{model_name}” has layers with different numbers of neurons ({sorted(widths)}); "
            "only models with equally wide MLPs can be shown."
        )
    return int(widths.pop())


def _longest_norm(parent: nn.Module) -> int:
    """Length of the longest gain among the norms inside a module; 0 if there is none."""
    norms = (one for one in parent.modules() if "norm" in type(one).__name__.lower())
    gains = (getattr(one, "weight", None) for one in norms)
    return max((len(one) for one in gains if isinstance(one, Tensor) and one.ndim == 1), default=0)
