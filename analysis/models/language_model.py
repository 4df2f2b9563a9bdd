"""Load a language model through TransformerLens' `TransformerBridge`, and the narrow interface the analysis uses.

Everything that touches the bridge is here (reading a model's files: `model_files`); the other modules see `LanguageModel`:
token ids in, activations at hooks and logits out, and each layer's MLP weights as views on the real parameters.
The bridge stays in raw mode (compatibility mode cannot be undone and changes the weights).

Axes: `B` batch, `P` position, `D` d_model, `N` neuron, `V` vocabulary.
"""

import hashlib
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from analysis import paths
from analysis.components.circuit import Shape
from analysis.components.neurons import hook_name
from analysis.errors import ConfigError, MissingHookError, UnsupportedArchitectureError
from analysis.models import memory
from analysis.models.catalog import ModelSource, resolve
from analysis.models.fetch import locate
from analysis.models.files import read_folder
from analysis.models.fingerprint import Fingerprint
from analysis.progress import Progress, none

__all__ = ["HeadWeight", "LanguageModel", "NeuronWeight", "TokenizedText", "from_parts", "load", "pick_device"]

_log = logging.getLogger(__name__)

_Place = tuple[int, tuple[int, ...]]
"""Where a parameter's memory begins, and its shape: the same before and after the bridge wraps it."""


@dataclass(frozen=True)
class TokenizedText:
    """A text's token ids with the characters each one stands for."""

    ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]
    """Character range [start, end) of each token in the text; (0, 0) for special tokens."""

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class NeuronWeight:
    """A parameter of an MLP of which each neuron owns one slice."""

    name: str
    """Part of the neuron: "gate", "in", "out", with ".bias" for a bias."""
    parameter: nn.Parameter
    axis: int
    """The axis of `parameter` that counts neurons."""


@dataclass(frozen=True)
class HeadWeight:
    """A parameter of an attention layer of which head `h` owns the slice [h * d_head, (h + 1) * d_head)."""

    name: str
    """One of q, k, v, o, with ".bias" for a bias."""
    parameter: nn.Parameter
    axis: int


class LanguageModel:
    """A causal language model inside a bridge, with what every analysis needs to know about it.

    Forward passes that install hooks run under `lock`, because a bridge is shared between a server's sessions.
    """

    def __init__(
        self, bridge: Any, tokenizer: Any, source: ModelSource, dtype: str, names: Mapping[_Place, str] | None = None
    ):
        self.bridge = bridge
        self.tokenizer = tokenizer
        self.source = source
        self.name = source.name
        self.dtype = dtype
        self.lock = threading.RLock()
        self.inner: Any = bridge.original_model
        self.n_layers = len(bridge.blocks)
        self.d_model = int(bridge.cfg.d_model)
        self.n_neurons = self._check_mlps()
        self.n_heads = int(bridge.cfg.n_heads)
        self.d_head = int(bridge.cfg.d_head)
        self._weights = self._named_once(names or {})
        self._loaded = set(self.inner.parameters())
        self.n_parameters = sum(parameter.numel() for parameter in self._weights.values())
        self.vocabulary_size = int(self.inner.config.get_text_config().vocab_size)
        self.context_length = int(bridge.cfg.n_ctx)

    def __repr__(self) -> str:
        return (
            f"LanguageModel({self.name}: {self.n_layers} layers, {self.n_neurons:,} neurons and {self.n_heads} heads in "
            f"each, {self.n_parameters / 1e6:,.1f} M parameters, {self.dtype} on {self.device})"
        )

    @property
    def shape(self) -> tuple[int, int]:
        """(number of layers, neurons in a layer)."""
        return self.n_layers, self.n_neurons

    @property
    def component_shape(self) -> Shape:
        """Layers, attention heads and neurons."""
        return Shape(self.n_layers, self.n_heads, self.n_neurons)

    @property
    def device(self) -> torch.device:
        return next(self.inner.parameters()).device

    @property
    def weights(self) -> dict[str, nn.Parameter]:
        """Every stored weight once, by the name that plain transformers gives it, with biases that an edit added."""
        now = self.inner.named_parameters()
        return self._weights | {_plain(name): parameter for name, parameter in now if parameter not in self._loaded}

    def encode(self, text: str) -> TokenizedText:
        """Token ids and character offsets of a text, with the special tokens the tokenizer itself adds."""
        encoded = self.tokenizer(text, return_offsets_mapping=True)
        return TokenizedText(tuple(encoded["input_ids"]), tuple(tuple(pair) for pair in encoded["offset_mapping"]))

    def decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(list(ids))

    def residual(self, tokens_BP: Int[Tensor, "B P"]) -> Float[Tensor, "B P D"]:
        """The final residual stream after the last norm; hooks of all layers fire, the LM head is skipped."""
        return self.inner.base_model(input_ids=tokens_BP, use_cache=False).last_hidden_state

    def logits(self, tokens_BP: Int[Tensor, "B P"], *, keep: int = 0) -> Float[Tensor, "B K V"]:
        """Next-token logits at the last `keep` positions (0 = all)."""
        if self._keeps_logits:
            return self.inner(input_ids=tokens_BP, use_cache=False, logits_to_keep=keep).logits
        return self.inner(input_ids=tokens_BP, use_cache=False).logits[:, -keep:]

    def fingerprint(self) -> Fingerprint:
        """Of the weights as they are, without anybody's hooks: waits until they are gone."""
        with self.lock:
            return Fingerprint.of(self.inner)

    @contextmanager
    def hooks(self, functions: Sequence[tuple[str, Callable]]) -> Iterator[None]:
        """Install forward hooks `(name, function(activation, hook))` for the duration, under the model's lock."""
        with self.lock, self.bridge.hooks(fwd_hooks=list(functions)):
            yield

    def neuron_weights(self, layer: int) -> list[NeuronWeight]:
        """All parameters of which each neuron of `layer` owns a slice, incoming ones first, the output last."""
        mlp = self.bridge.blocks[layer].mlp
        weights = []
        for name, neuron_side in (("gate", "out"), ("in", "out"), ("out", "in")):
            module = getattr(mlp, name, None)
            linear = getattr(module, "original_component", None)
            if linear is None:
                continue
            in_out = _stores_in_out(linear)
            axis = int(in_out) if neuron_side == "out" else int(not in_out)
            weights.append(NeuronWeight(name, linear.weight, axis))
            if neuron_side == "out" and linear.bias is not None:
                weights.append(NeuronWeight(f"{name}.bias", linear.bias, 0))
        return weights

    def head_weights(self, layer: int) -> list[HeadWeight]:
        """The parameters of which each attention head of `layer` owns a slice of `d_head`, its output last.

        Always the output projection; the query projection, too, where it is stored by itself, and keys and values
        where no two heads share them (grouped-query attention shares them, fused projections hold all three in one).

        Raises:
            UnsupportedArchitectureError: the output projection is not made of heads.
        """
        attention = self.bridge.blocks[layer].attn
        separate = getattr(attention, "qkv", None) is None
        weights = []
        for name in ("q", "k", "v", "o") if separate else ("o",):
            linear = getattr(getattr(attention, name, None), "original_component", None)
            if linear is None or getattr(linear, "weight", None) is None:
                continue
            axis = int(_stores_in_out(linear)) if name != "o" else int(not _stores_in_out(linear))
            if linear.weight.shape[axis] == self.n_heads * self.d_head:
                weights.append(HeadWeight(name, linear.weight, axis))
                if name != "o" and linear.bias is not None:
                    weights.append(HeadWeight(f"{name}.bias", linear.bias, 0))
        if not weights or weights[-1].name != "o":
            raise UnsupportedArchitectureError(
                f"The attention of layer {layer} of “{self.source.name}” does not store one slice of weights a head, so "
                "heads cannot be edited. Choose MLP layers or neurons."
            )
        return weights

    def output_linear(self, layer: int) -> nn.Module:
        """The module that writes the MLP's output to the residual stream."""
        return self.bridge.blocks[layer].mlp.out.original_component

    def _check_mlps(self) -> int:
        """Number of neurons in a layer, after checking that every layer has the hook and editable neurons."""
        present = self.bridge.hook_dict
        widths = set()
        owned = {parameter.data_ptr() for parameter in self.inner.parameters()}
        for layer in range(self.n_layers):
            block = self.bridge.blocks[layer]
            kind = type(getattr(block, "mlp", None)).__name__
            if "moe" in kind.lower():
                raise UnsupportedArchitectureError(
                    f"“{self.source.name}” is a mixture of experts: its {hook_name(layer)} does not see single neurons. "
                    "Choose a model with dense MLPs."
                )
            if hook_name(layer) not in present:
                raise MissingHookError(
                    f"“{self.source.name}” has no hook {hook_name(layer)}, which neuron saliency needs. Choose a model "
                    "whose blocks all have an MLP that TransformerLens can look into."
                )
            weights = self.neuron_weights(layer)
            if not weights or weights[-1].name != "out" or any(w.parameter.data_ptr() not in owned for w in weights):
                raise UnsupportedArchitectureError(
                    f"The MLP of layer {layer} of “{self.source.name}” ({kind}) does not store one slice of weights a "
                    "neuron, so neurons cannot be edited. Choose a Llama, Qwen, Gemma, GPT-2 or GPT-NeoX style model."
                )
            widths.add(weights[-1].parameter.shape[weights[-1].axis])
        if len(widths) != 1:
            raise UnsupportedArchitectureError(
                f"“{self.source.name}” has layers with different numbers of neurons ({sorted(widths)}); "
                "only models with equally wide MLPs can be shown."
            )
        return int(widths.pop())

    def _named_once(self, names: Mapping["_Place", str]) -> dict[str, nn.Parameter]:
        """The bridge renames modules, and splits a fused projection into further parameters on the same memory."""
        found = {}
        for name, parameter in self.inner.named_parameters():
            plain = names.get(_place(parameter)) if names else _plain(name)
            if plain is not None:
                found.setdefault(plain, parameter)
        if lost := sorted({*names.values()} - found.keys()):
            raise UnsupportedArchitectureError(
                f"TransformerLens keeps a copy of {lost[0]} of “{self.source.name}”, so its weights could not be edited. "
                "Choose a model of another architecture."
            )
        return found

    @property
    def _keeps_logits(self) -> bool:
        import inspect

        return "logits_to_keep" in inspect.signature(type(self.inner).forward).parameters


def pick_device(device: str = "auto") -> str:
    """ "auto" is CUDA where there is one, else MPS, else the CPU.

    Raises:
        ConfigError: the named device does not exist here.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise ConfigError(f"“{device}” is no device. Use auto, cpu, cuda, cuda:1 or mps.") from error
    if kind not in ("cpu", "cuda", "mps"):
        raise ConfigError(f"“{device}” cannot be used. Use auto, cpu, cuda, cuda:1 or mps.")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"“{device}” was asked for, but PyTorch sees no CUDA device here. Use cpu or auto.")
    if kind == "cuda" and (torch.device(device).index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"“{device}” was asked for, but there are only {torch.cuda.device_count()} CUDA devices.")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("“mps” was asked for, but is not available here. Use cpu or auto.")
    return device


def load(
    reference: str, *, device: str = "auto", dtype: str = "float32", progress: Progress | None = None
) -> LanguageModel:
    """Load a model for analysis: fetch if needed, check memory, weights, architecture, hooks and fingerprint.

    Args:
        reference: Catalog name, hub id, folder or GGUF file (`catalog.resolve`).
        device: "auto", "cpu", "cuda", ...
        dtype: "float32", "bfloat16" or "float16".
        progress: Called with a stage's name and its share done.

    Raises:
        PalimpsestError: one subclass for each way this can fail; the message says what to do.
    """
    if dtype not in memory.DTYPE_BYTES:
        raise ConfigError(f"“{dtype}” is no dtype. Use {', '.join(memory.DTYPE_BYTES)}.")
    source = resolve(reference)
    device = pick_device(device)
    report = progress or none
    folder = locate(source, progress)
    report("Loading", 0.0)
    memory.load_estimate(memory.count_parameters(folder), dtype, device).check()
    inner, tokenizer = read_folder(folder, dtype, source.name)
    report("Loading", 0.6)
    model = from_parts(inner.to(device), tokenizer, source, folder=folder, dtype=dtype)
    _check_fingerprint(model, folder)
    report("Loading", 1.0)
    return model


def from_parts(inner: nn.Module, tokenizer: Any, source: ModelSource, *, folder: Path, dtype: str) -> LanguageModel:
    """Wrap an already loaded transformers model whose config lies in `folder`."""
    from transformer_lens.model_bridge import TransformerBridge

    names = {_place(parameter): name for name, parameter in inner.named_parameters()}
    architecture = (inner.config.architectures or [type(inner).__name__])[0]  # type: ignore[union-attr,index]
    try:
        bridge = TransformerBridge.boot_transformers(
            str(folder),
            hf_model=inner,
            tokenizer=tokenizer,
            device=str(next(inner.parameters()).device),
            dtype=getattr(torch, dtype),
        )
    except (ValueError, AttributeError, NotImplementedError) as error:
        raise UnsupportedArchitectureError(
            f"TransformerLens cannot look into {architecture} ({error}). Choose a model of another architecture."
        ) from error
    if not hasattr(bridge, "blocks"):
        raise UnsupportedArchitectureError(f"{architecture} has no stack of blocks to look into.")
    model = LanguageModel(bridge, tokenizer, source, dtype, names)
    if not _is_causal(model):
        raise UnsupportedArchitectureError(
            f"{architecture} is no causal language model: its predictions depend on later tokens, so P(answer) would "
            "mean nothing. Choose a model that predicts the next token."
        )
    return model


def _check_fingerprint(model: LanguageModel, folder: Path) -> None:
    """Compare with the fingerprint stored at conversion or at the first load of exactly these files; else store it."""
    computed = model.fingerprint()
    stored = folder / "fingerprint.json"
    if not stored.is_file():
        states = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(folder.glob("*.safe*"))]
        key = hashlib.sha256(f"{folder.resolve()}{states}".encode()).hexdigest()[:16]
        stored = paths.home() / "fingerprints" / f"{key}.json"
        if not stored.is_file() and model.dtype == "float32":
            stored.parent.mkdir(exist_ok=True)
            computed.save(stored)
    if stored.is_file():
        Fingerprint.load(stored).check(computed, dtype=model.dtype, name=model.name)


def _is_causal(model: LanguageModel) -> bool:
    """Whether changing the last token leaves the logits before it as they were."""
    tokens = torch.arange(8, device=model.device)[None] % model.vocabulary_size
    changed = tokens.clone()
    changed[0, -1] = (changed[0, -1] + 1) % model.vocabulary_size
    with torch.inference_mode():
        first, second = (model.logits(one)[0, :-1].float() for one in (tokens, changed))
    if not bool(torch.isfinite(first).all()):
        return True  # damaged weights are the fingerprint's and the activations' business
    noise = 1e-4 if model.dtype == "float32" else 1e-2
    return bool((first - second).abs().max() <= noise * first.std())


def _plain(name: str) -> str:
    """The bridge wraps modules: a name as it was before."""
    return name.replace("._original_component", "")


def _place(parameter: nn.Parameter) -> _Place:
    return parameter.data_ptr(), tuple(parameter.shape)


def _stores_in_out(linear: nn.Module) -> bool:
    """Whether a linear module stores its weight as [in, out] (GPT-2's Conv1D) rather than [out, in]."""
    return type(linear).__name__ == "Conv1D"
