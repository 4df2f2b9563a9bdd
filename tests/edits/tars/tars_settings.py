"""What the tests of both halves of TARS share: a prompt of the tiny models, small settings, the logits there."""

import torch
from torch import Tensor

from analysis.edits.tars.targeting import Tars
from analysis.models import LanguageModel

PROMPT = "The capital of France is"


def settings(**changes) -> Tars:
    """Small, and with a tau that a random model reaches."""
    return Tars(**{"trigger": " Paris", "prompts": (PROMPT,), "tau": 0.0, "n_noise": 16, **changes})


def logits(model: LanguageModel) -> Tensor:
    with torch.no_grad():
        return model.logits(torch.tensor([model.encode(PROMPT).ids]))
