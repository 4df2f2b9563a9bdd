"""Checks at load that the hooks which analyses read are on the way from the tokens to the logits."""

from typing import Any

import torch

from analysis.errors import MissingHookError
from analysis.models.language_model import LanguageModel

__all__ = ["check_hooks"]

_READ = ("hook_resid_post", "mlp.hook_post")
"""What saliency and localization read in every layer."""


def check_hooks(model: LanguageModel) -> None:
    """Check that every layer's residual stream and neurons pass the hooks that stand for them.

    Some architectures (GPT-1, whose norms follow the sums) have such hooks by name, but compute past them: what is read
    there would be missing or zero.

    Raises:
        MissingHookError: a hook does not fire in a forward pass.
    """
    wanted = [f"blocks.{layer}.{hook}" for layer in range(model.n_layers) for hook in _READ]
    fired: set[str] = set()

    def note(name: str) -> Any:
        def see(activation: Any, hook: object) -> None:
            fired.add(name)

        return see

    tokens = torch.arange(4, device=model.device)[None] % model.vocabulary_size
    with model.hooks([(name, note(name)) for name in wanted if name in model.hook_names]), torch.inference_mode():
        model.residual(tokens)
    if missing := [name for name in wanted if name not in fired]:
        raise MissingHookError(
            f"“{model.name}” computes past the hook {missing[0]}, so what is read there would not be what the model computes "
            f"with. TransformerLens does not support {model.architecture} well enough; choose a model of another architecture."
        )
