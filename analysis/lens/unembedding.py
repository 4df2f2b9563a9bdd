"""Projects a neuron's output vector onto the vocabulary, and formats tokens for display.

The projection uses the model's own norm and unembedding, with their gains, biases and scales.

Axes: `D` d_model, `V` vocabulary.
"""

from dataclasses import dataclass

import pandas as pd
import torch
import torch.nn.functional as F

from analysis.components.neurons import Neuron
from analysis.errors import ConfigError
from analysis.models import LanguageModel

__all__ = ["VocabularyEffect", "neuron_vocabulary", "token_text", "visible"]


@dataclass(frozen=True, kw_only=True)
class VocabularyEffect:
    """The tokens that a neuron's output vector promotes and suppresses most."""

    neuron: Neuron
    promoted: tuple[tuple[str, float], ...]
    """Tokens whose logits rise most with a positive activation, strongest first."""
    suppressed: tuple[tuple[str, float], ...]
    """Tokens whose logits fall most, strongest first."""
    unit: str = "logits per unit of activation × scale of the final norm"

    def table(self) -> pd.DataFrame:
        """One row per token: neuron, direction, place (1 = strongest), token, value."""
        rows = [
            {"neuron": str(self.neuron), "direction": direction, "place": place, "token": token, "value": value}
            for direction, effects in (("promoted", self.promoted), ("suppressed", self.suppressed))
            for place, (token, value) in enumerate(effects, 1)
        ]
        return pd.DataFrame(rows)


def neuron_vocabulary(model: LanguageModel, layer: int, index: int, *, top: int = 10) -> VocabularyEffect:
    """The tokens that a neuron's output vector promotes and suppresses (Geva et al. 2022).

    The vector goes through the final norm's linear part and the unembedding: it is centred where the norm subtracts
    the mean (LayerNorm) and multiplied by the norm's gain, but **not** divided by the norm's scale, which depends on
    the text. A norm on the MLP's output (Gemma 2, OLMo 2) is treated in the same way. The logits are then centred over
    the vocabulary, because softmax ignores a constant added to all tokens. A value, times the neuron's activation and
    divided by the scale of the final norm at a position, is therefore the neuron's direct effect there, before any
    softcap. Gated neurons also take negative activations, for which the two lists swap. Effects through later layers
    are not included.

    Raises:
        ConfigError: the neuron lies outside the model, or `top` is out of range.
        UnsupportedArchitectureError: the model has no norm before its unembedding.
    """
    n_layers, n_neurons = model.shape
    if not (0 <= layer < n_layers and 0 <= index < n_neurons):
        raise ConfigError(
            f"L{layer}.N{index} lies outside “{model.name}”: layers go from 0 to {n_layers - 1}, "
            f"neurons from 0 to {n_neurons - 1}."
        )
    if not 1 <= top <= model.vocabulary_size // 2:
        raise ConfigError(f"top is {top}; it must lie between 1 and {model.vocabulary_size // 2:,}.")
    output = model.neuron_weights(layer)[-1]
    with torch.inference_mode():
        vector_D = output.parameter.select(output.axis, index).float()
        for norm in (model.blocks[layer].norm_after_mlp, model.readout.required_norm()):
            if norm is not None:
                vector_D = norm.parts(vector_D).at_unit_scale(vector_D)
        logits_V = model.readout.scaled(F.linear(vector_D, model.readout.weight_VD.float()))
        logits_V = logits_V - logits_V.mean()
        high, low = logits_V.topk(top), logits_V.topk(top, largest=False)
    lists = (
        tuple((token_text(model, int(i)), float(value)) for value, i in zip(best.values, best.indices))
        for best in (high, low)
    )
    promoted, suppressed = lists
    return VocabularyEffect(neuron=Neuron(layer, index), promoted=promoted, suppressed=suppressed)


def token_text(model: LanguageModel, token_id: int) -> str:
    """A token in visible characters; a token that holds only part of a character is shown as bytes, such as `\\xe2`."""
    name = model.tokenizer.convert_ids_to_tokens(token_id)
    if name is None:  # a row of the unembedding that no token uses
        return f"<{token_id}>"
    text = model.decode([token_id])
    if not text or "\ufffd" in text:
        return visible(_bytes_shown(name))
    if name.startswith("▁") and not text.startswith(" "):  # SentencePiece drops the space of a text's first token
        text = f" {text}"
    return visible(text)


def _bytes_shown(name: str) -> str:
    """Decodes a byte-level token's vocabulary name to its bytes; returns names of other tokenizers unchanged."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    byte_of = {char: byte for byte, char in bytes_to_unicode().items()}
    if not all(char in byte_of for char in name):
        return name
    return bytes(byte_of[char] for char in name).decode("utf-8", errors="backslashreplace")


def visible(text: str) -> str:
    """Shows white space as signs: space ·, newline ⏎, tab ⇥.

    Other unprintable characters, and these three signs themselves, are shown as code points: `<U+200B>`.
    """
    signs = {" ": "·", "\n": "⏎", "\t": "⇥"}
    plain = (char.isprintable() and char not in signs.values() for char in text)
    return "".join(
        signs.get(char) or (char if is_plain else f"<U+{ord(char):04X}>") for char, is_plain in zip(text, plain)
    )
