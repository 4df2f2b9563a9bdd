"""The typed interface to a language model: tokenising, forward passes, hooks, embeddings and weights by name.

Nothing outside this package touches the TransformerLens bridge or the transformers model inside it, so differences
between families (fused projections, scaled embeddings, tied or capped heads) are handled here. Views of a model's parts
have their own modules: `blocks`, `norms`, `readout`, `linear_layers`, `block_inputs`. `loading` constructs a model.

Axes: `B` batch, `P` position, `K` last position, `D` d_model, `V` vocabulary.
"""

import inspect
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from analysis.components.circuit import Shape
from analysis.errors import ConceptError, MissingHookError, UnsupportedArchitectureError
from analysis.models.block_inputs import BlockInputs
from analysis.models.blocks import Block, HeadWeight, NeuronWeight, count_neurons
from analysis.models.catalog import ModelSource
from analysis.models.fingerprint import Fingerprint
from analysis.models.linear_layers import Linear, is_linear, lies_inside
from analysis.models.parameter_names import Place, named_parameters, plain_name
from analysis.models.readout import Readout
from analysis.models.special_tokens import SpecialTokens
from analysis.models.weights_hash import weights_hash

__all__ = ["EMBEDDING_HOOK", "LanguageModel", "TokenizedText"]

EMBEDDING_HOOK = "embed.hook_out"
"""TransformerLens' hook on the token embeddings, with every factor that a family applies to them."""


@dataclass(frozen=True)
class TokenizedText:
    """A text's token ids, with the character range of each."""

    ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]
    """Character range [start, end) of each token in the text; (0, 0) for special tokens."""

    def __len__(self) -> int:
        return len(self.ids)


class LanguageModel:
    """A causal language model with its tokenizer, dimensions, hooks and weights.

    Forward passes that install hooks run under `lock`, because a model is shared between a server's sessions.
    """

    name: str
    """Name under which it was loaded: catalog name, hub id, or name of the folder or file."""
    dtype: str
    """Dtype of its weights: "float32", "bfloat16" or "float16"."""
    n_layers: int
    d_model: int
    """Width of the residual stream."""
    n_neurons: int
    """Neurons in each layer's MLP."""
    n_heads: int
    """Query heads in each layer's attention; under grouped-query attention they share keys and values."""
    d_head: int
    """Width of a head; `n_heads * d_head` may differ from `d_model` (Gemma, Qwen 3)."""
    n_parameters: int
    """Number of stored weights; tied ones count once."""
    vocabulary_size: int
    context_length: int
    """Most tokens the model can read at once."""
    blocks: tuple[Block, ...]
    """Views of the layers."""
    readout: Readout
    """Final norm and unembedding."""
    special_tokens: SpecialTokens
    """Tokens that end a text, and the one to pad with."""

    def __init__(
        self, bridge: Any, tokenizer: Any, source: ModelSource, dtype: str, names: Mapping[Place, str] | None = None
    ):
        """Check a bridge and read its dimensions and weights; use `loading.from_parts` to construct a model.

        Args:
            bridge: A `TransformerBridge` in raw mode.
            tokenizer: A fast tokenizer of transformers.
            source: Where the model came from.
            dtype: Dtype of the weights.
            names: Plain names of the parameters, taken before the bridge wrapped them.

        Raises:
            MissingHookError: a layer's neurons have no hook.
            UnsupportedArchitectureError: neurons own no weights, or the bridge computes with a copy of a weight.
        """
        self._bridge = bridge
        self._inner: Any = bridge.original_model
        self.tokenizer = tokenizer
        self.source = source
        self.name = source.name
        self.dtype = dtype
        self.lock = threading.RLock()
        self.n_layers = len(bridge.blocks)
        self.d_model = int(bridge.cfg.d_model)
        self.n_heads = int(bridge.cfg.n_heads)
        self.d_head = int(bridge.cfg.d_head)
        self.blocks = tuple(
            Block(block, layer, source.name, self.n_heads, self.d_head) for layer, block in enumerate(bridge.blocks)
        )
        self.readout = Readout(bridge, source.name)
        self.n_neurons = count_neurons(self.blocks, self.hook_names, list(self.parameters()), source.name)
        self._named = named_parameters(self._inner, bridge.blocks, names or {}, source.name)
        self._loaded = set(self.parameters())
        self._keeps_logits = "logits_to_keep" in inspect.signature(type(self._inner).forward).parameters
        self.n_parameters = sum(parameter.numel() for parameter in self._named.weights.values())
        self.special_tokens = SpecialTokens.of(tokenizer, self._inner, len(self.input_embeddings_VD))
        self.vocabulary_size = int(self._inner.config.get_text_config().vocab_size)
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
        """Numbers of layers, attention heads and neurons."""
        return Shape(self.n_layers, self.n_heads, self.n_neurons)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

    @property
    def architecture(self) -> str:
        """Name of the model's transformers class, such as `LlamaForCausalLM`."""
        return type(self._inner).__name__

    # Text

    def encode(self, text: str) -> TokenizedText:
        """Token ids and character offsets of a text, with the special tokens that the tokenizer itself puts before it.

        Tokens that it puts after a text (EOS) are left out: everything here reads on from the text's end.

        Raises:
            ConceptError: the model has no embedding of a token.
        """
        encoded = self.tokenizer(text, return_offsets_mapping=True)
        end = len(encoded["input_ids"]) - self.special_tokens.n_appended
        ids = tuple(encoded["input_ids"][:end])
        if max(ids, default=0) >= len(self.input_embeddings_VD):
            token = self.tokenizer.convert_ids_to_tokens(max(ids))
            raise ConceptError(
                f"“{self.name}” has no embedding of the token “{token}” in “{text[:60]}”: its tokenizer has more tokens than "
                "the model. Take the token out of the text, or give the model its own tokenizer."
            )
        return TokenizedText(ids, tuple(tuple(pair) for pair in encoded["offset_mapping"][:end]))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens included."""
        return self.tokenizer.decode(list(ids))

    # Forward passes. None of them changes gradient mode or takes the lock: callers decide on both.

    def residual(self, tokens_BP: Int[Tensor, "B P"]) -> Float[Tensor, "B P D"]:
        """The final residual stream after the final norm; hooks of all layers fire, the LM head is skipped."""
        return self._inner.base_model(input_ids=tokens_BP, use_cache=False).last_hidden_state

    def logits(self, tokens_BP: Int[Tensor, "B P"], *, keep: int = 0) -> Float[Tensor, "B K V"]:
        """Next-token logits at the last `keep` positions (0 = all)."""
        if self._keeps_logits:
            return self._inner(input_ids=tokens_BP, use_cache=False, logits_to_keep=keep).logits
        return self._inner(input_ids=tokens_BP, use_cache=False).logits[:, -keep:]

    def logits_from_embeddings(self, embeddings_BPD: Float[Tensor, "B P D"]) -> Float[Tensor, "B P V"]:
        """Next-token logits of texts given as input embeddings (`embed`) instead of tokens.

        Raises:
            UnsupportedArchitectureError: the model takes no embeddings as input.
        """
        try:
            return self._inner(inputs_embeds=embeddings_BPD, use_cache=False).logits
        except (TypeError, ValueError) as error:
            raise UnsupportedArchitectureError(
                f"“{self.name}” takes no embeddings as input ({error}). Choose a model of another architecture."
            ) from error

    def logits_and_cache(self, tokens_BP: Int[Tensor, "B P"], cache: Any = None) -> tuple[Float[Tensor, "B P V"], Any]:
        """Next-token logits for stepwise generation, and the key-value cache from which the next call continues.

        Args:
            tokens_BP: In the first call the prompts, without padding; later only the new tokens.
            cache: The cache that the previous call returned; it must not be used again.
        """
        output = self._inner(input_ids=tokens_BP, past_key_values=cache, use_cache=True)
        return output.logits, output.past_key_values

    def fingerprint(self) -> Fingerprint:
        """Fingerprint of the current weights without hooks; waits for the lock, under which hooks are installed."""
        with self.lock:
            return Fingerprint.of(self._inner)

    def weights_hash(self) -> str:
        """Hash of the bits of all current weights; takes one to three seconds per GB."""
        with self.lock:
            stored = self._inner.state_dict().keys()
            return weights_hash(
                [*self.parameters(), *(value for name, value in self._inner.named_buffers() if name in stored)]
            )

    # Hooks, by TransformerLens' names, such as `blocks.3.hook_resid_post`.

    @property
    def hook_names(self) -> frozenset[str]:
        """Names of all the model's hooks, including TransformerLens' older aliases."""
        return frozenset(self._bridge.hook_dict)

    def require_hooks(self, names: Iterable[str], needed_by: str) -> None:
        """Check that the model has these hooks.

        Args:
            names: Names of the hooks.
            needed_by: The analysis that needs them, for the message, such as "the logit lens".

        Raises:
            MissingHookError: one is missing; the message names the first.
        """
        present = self.hook_names
        for name in names:
            if name not in present:
                raise MissingHookError(
                    f"“{self.name}” has no hook {name}, which {needed_by} needs. Choose another method or model."
                )

    @contextmanager
    def hooks(self, functions: Sequence[tuple[str, Callable]]) -> Iterator[None]:
        """Install forward hooks `(name, function(activation, hook))` inside the context, under the model's lock.

        Raises:
            MissingHookError: the model has no hook of one of the names.
        """
        self.require_hooks([name for name, _ in functions], "this analysis")
        with self.lock, self._bridge.hooks(fwd_hooks=list(functions)):
            yield

    def record_block_inputs(self) -> AbstractContextManager[BlockInputs]:
        """Record the inputs of every block in the one forward pass run inside, to rerun blocks from any layer.

        Hold the lock, as inside `hooks`; otherwise another session's pass would be recorded, too.
        """
        return BlockInputs(list(self._bridge.blocks)).recording()

    # Input embeddings

    @property
    def input_embeddings_VD(self) -> Float[Tensor, "V D"]:
        """The stored embedding table, one row per token, detached, sharing the weights' memory.

        Gemma multiplies rows by sqrt(D) at the lookup, Granite by a constant after it; the table contains neither.
        GPT-2, Gemma, and small Llamas and Qwens use the same memory for the unembedding.
        """
        return self._inner.get_input_embeddings().weight.detach()

    def embed(self, tokens_BP: Int[Tensor, "B P"]) -> Float[Tensor, "B P D"]:
        """Input embeddings of tokens, as `logits_from_embeddings` takes them.

        Includes Gemma's factor, but nothing that a family applies later (GPT-2's positions, Granite's factor).
        """
        return self._inner.get_input_embeddings()(tokens_BP)

    def embed_at_hook(self, tokens_BP: Int[Tensor, "B P"]) -> Float[Tensor, "B P D"]:
        """Embeddings of tokens as `EMBEDDING_HOOK` sees them, and as a hook there must return them; without gradient.

        Includes Gemma's and Granite's factor, but no positions.

        Raises:
            MissingHookError: the model has no such hook.
        """
        seen: list[Tensor] = []

        def note(embedded: Tensor, hook: object) -> None:
            seen.append(embedded.detach().clone())

        self.require_hooks([EMBEDDING_HOOK], "a corruption of embeddings")
        with self.hooks([(EMBEDDING_HOOK, note)]), torch.no_grad():
            self.embed(tokens_BP)
        return seen[0]

    # Weights

    @property
    def weights(self) -> dict[str, nn.Parameter]:
        """Every weight once, by its name in plain transformers, including biases that an edit added.

        The parameters are the model's own: writing to one changes the model. Tied weights have one name. Where the bridge
        runs query, key and value as copies of a fused projection (GPT-NeoX, BLOOM, Falcon, MPT, CodeGen), these three are
        listed in its place; `stored_weights` has the projection.
        """
        now = self._inner.named_parameters()
        added = {plain_name(name): parameter for name, parameter in now if parameter not in self._loaded}
        return self._named.weights | added

    @property
    def views(self) -> dict[str, nn.Parameter]:
        """Parts of fused projections (GPT-2, Phi-3) by name, which share the memory of an entry of `weights`.

        These are what the forward pass reads and what gets a gradient.
        """
        return dict(self._named.views)

    def stored_weights(self) -> dict[str, Tensor]:
        """The current weights as plain transformers stores them, by its names, detached; biases that an edit added, too."""
        copies = {part for split in self._named.splits.values() for part in split.parts}
        plain = {name: one.detach() for name, one in self.weights.items() if one not in copies}
        return plain | {name: split.composed() for name, split in self._named.splits.items()}

    def stored_constants(self) -> dict[str, Tensor]:
        """What is stored with the weights but never trained (Apertus' activation function), by plain names, detached."""
        stored = self._inner.state_dict().keys()
        return {plain_name(name): one.detach() for name, one in self._inner.named_buffers() if name in stored}

    def parameters(self) -> Iterator[nn.Parameter]:
        """Every parameter in the model's modules, in the order in which training states store them.

        Besides `weights` and `views`, these are fused projections of which the bridge runs copies; they get no gradient.
        """
        return self._inner.parameters()

    def stored_parameter(self, parameter: nn.Parameter) -> nn.Parameter | None:
        """The entry of `weights` that contains a parameter: itself, the fused projection it is part of, or None."""
        weights = self.weights.values()
        if any(one is parameter for one in weights):
            return parameter
        return next((one for one in weights if lies_inside(parameter, one)), None)

    def named_linears(self) -> dict[str, Linear]:
        """Every linear layer by name, including the unembedding, fused projections and their parts.

        A fused projection of which the bridge runs copies is left out: only its parts are linear layers of the model.

        Names are those of plain transformers, except in blocks with fused attention (GPT-2, GPT-NeoX, Phi-3), where the
        bridge calls its layers q, k, v, qkv and o. They are written to disk (`edits.deltas`) and must not change.
        """
        unread = {split.stored for split in self._named.splits.values()}
        found = ((name, Linear(module)) for name, module in self._inner.named_modules() if is_linear(module))
        return {plain_name(name): linear for name, linear in found if linear.weight not in unread}

    def neuron_weights(self, layer: int) -> list[NeuronWeight]:
        """All parameters in which each neuron of `layer` owns a slice, incoming weights first, the output weight last.

        Gated MLPs (Llama, Qwen, Gemma) have "gate", "in" and "out"; plain ones (GPT-2, GPT-NeoX) "in" and "out".
        """
        return self.blocks[layer].neuron_weights()

    def head_weights(self, layer: int) -> list[HeadWeight]:
        """The parameters in which each attention head of `layer` owns a slice of `d_head`, the output projection last.

        Always includes the output projection; the query projection if it is stored separately; keys and values if heads
        do not share them (grouped-query attention shares them, fused projections store all three as one).

        Raises:
            UnsupportedArchitectureError: the output projection has no slice per head.
        """
        return self.blocks[layer].head_weights()
