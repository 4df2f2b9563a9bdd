"""Measures how strongly neurons fire: on the last token of given prompts, and on general text.

Axes: `A` prompt, `L` layer, `N` neuron in a layer, `B` batch, `P` position, `D` d_model.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.components.neurons import hook_name
from analysis.concepts import neutral_sentences
from analysis.errors import ConceptError
from analysis.models import LanguageModel
from analysis.scoring.batches import MAX_LENGTH, bucket, pad

__all__ = ["N_GENERAL", "contrast_firing", "general_firing", "last_states"]

N_GENERAL = 96
"""Built-in neutral sentences on which a neuron's usual firing is measured."""

_TOKENS_PER_BATCH = 512


def last_states(
    model: LanguageModel, prompts: Sequence[tuple[int, ...]]
) -> tuple[Float[Tensor, "A D"], Float[Tensor, "A L N"], Float[Tensor, " A"]]:
    """Return, at each prompt's last token, the final hidden state, all activations and the last residual stream's norm."""
    last = model.n_layers - 1
    names = [*(hook_name(layer) for layer in range(model.n_layers)), f"blocks.{last}.hook_resid_post"]
    hidden, activations, norms = [], [], []
    for ids in prompts:
        kept: dict[str, Tensor] = {}
        functions = [(name, _keep_last(name, kept)) for name in names]
        with model.hooks(functions), torch.inference_mode():
            hidden.append(model.residual(torch.tensor([ids], device=model.device))[0, -1].float())
        norms.append(kept.pop(names[-1]).norm())
        activations.append(torch.stack([kept[name] for name in names[:-1]]))
    # out of inference mode, so that callers may save them or compute with them as usual
    return torch.stack(hidden).clone(), torch.stack(activations).clone(), torch.stack(norms).clone()


def general_firing(model: LanguageModel, texts: Sequence[str] | None = None) -> Float[Tensor, "L N"]:
    """Root mean square of every neuron's activation over the tokens of `texts`, without each text's first token.

    Args:
        model: The model as it is now.
        texts: Default: the first `N_GENERAL` built-in neutral sentences.

    Raises:
        ConceptError: no text has a second token.
    """
    if texts is None:
        texts = [sentence.text for sentence in neutral_sentences()[:N_GENERAL]]
    rows = [model.encode(text).ids[: min(MAX_LENGTH, model.context_length)] for text in texts]
    rows = [ids for ids in rows if len(ids) > 1]
    if not rows:
        raise ConceptError("There is no general text on which a neuron's usual firing could be measured.")
    squares_LN = torch.zeros(model.shape, dtype=torch.float64, device=model.device)
    for chosen in bucket([len(ids) for ids in rows], _TOKENS_PER_BATCH):
        tokens_BP = pad([rows[i] for i in chosen], model)
        real_BP = torch.zeros(tokens_BP.shape, dtype=torch.bool, device=model.device)
        for b, i in enumerate(chosen):
            # the first token is an attention sink: a few neurons take values there that they never take again
            real_BP[b, 1 : len(rows[i])] = True

        def add(activation: Tensor, hook: object, layer: int, real_BP: Tensor = real_BP) -> None:
            squares_LN[layer] += activation[real_BP].double().square().sum(0)

        functions = [
            (hook_name(layer), lambda activation, hook, layer=layer, add=add: add(activation, hook, layer))
            for layer in range(model.n_layers)
        ]
        with model.hooks(functions), torch.inference_mode():
            model.residual(tokens_BP)
    return (squares_LN / sum(len(ids) - 1 for ids in rows)).sqrt().float()


def contrast_firing(model: LanguageModel, prompts: Sequence[str]) -> Float[Tensor, "L N"]:
    """Largest |activation| of every neuron on the last token of any prompt; 0 without prompts."""
    if not prompts:
        return torch.zeros(model.shape, device=model.device)
    _, activation_ALN, _ = last_states(model, tuple(model.encode(prompt).ids for prompt in prompts))
    return activation_ALN.abs().amax(0)


def _keep_last(name: str, kept: dict[str, Tensor]) -> Callable:
    """Make a hook that stores the last position's activation of a single text in `kept`."""

    def hook(activation: Tensor, hook: object) -> None:
        kept[name] = activation[0, -1].float()

    return hook
