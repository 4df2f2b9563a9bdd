"""Computes the losses of gradient edits from logits, log-probabilities or activations.

Each loss is a pure function of the tokens that count, already selected from their batch, and returns a scalar in nats
per token unless it says otherwise.

Axes: `A` token that counts, `B` text of a batch, `V` vocabulary, `D` d_model.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

__all__ = [
    "UNLIKELIHOOD_FLOOR",
    "cross_entropy",
    "kl_from_reference",
    "matching",
    "npo",
    "reversed_cross_entropy",
    "simnpo",
    "steering",
    "text_log_p",
    "unlikelihood",
]

UNLIKELIHOOD_FLOOR = -5.0
"""Tokens of a lower log-probability count as unlearned and give no gradient (released code of Guo et al. 2024)."""


def cross_entropy(logits_AV: Float[Tensor, "A V"], targets_A: Int[Tensor, " A"]) -> Float[Tensor, ""]:
    """Mean of -log p over the tokens."""
    return F.cross_entropy(logits_AV, targets_A)


def reversed_cross_entropy(
    logits_AV: Float[Tensor, "A V"], targets_A: Int[Tensor, " A"], *, cap: float | None = None
) -> Float[Tensor, ""]:
    """-mean of -log p: gradient ascent (Jang et al. 2023, arXiv 2210.01504, equation 2).

    Args:
        logits_AV: Logits where each token is predicted.
        targets_A: The tokens.
        cap: Nats. The loss of a token is clamped to this value, beyond which it gives no gradient. Without a cap (None)
            the term has no lower bound and goes on damaging the model long after the answer is gone.
    """
    losses_A = F.cross_entropy(logits_AV, targets_A, reduction="none")
    return -(losses_A if cap is None else losses_A.clamp(max=cap)).mean()


def unlikelihood(
    logits_AV: Float[Tensor, "A V"], targets_A: Int[Tensor, " A"], *, floor: float = UNLIKELIHOOD_FLOOR
) -> Float[Tensor, ""]:
    """Mean of -log(1 - p), zeroed where log p < `floor` (Guo et al. 2024, arXiv 2410.12949, and its released code).

    1 - p is summed over the other tokens, so that it keeps its digits where p is nearly 1. Zeroed tokens still count in
    the mean.
    """
    total_A = logits_AV.logsumexp(-1)
    log_p_A = logits_AV.gather(1, targets_A[:, None])[:, 0] - total_A
    others_AV = logits_AV.scatter(1, targets_A[:, None], -torch.inf)
    losses_A = total_A - others_AV.logsumexp(-1)
    return torch.where(log_p_A < floor, torch.zeros_like(losses_A), losses_A).mean()


def text_log_p(
    logits_AV: Float[Tensor, "A V"], targets_A: Int[Tensor, " A"], texts_A: Int[Tensor, " A"], n_texts: int
) -> Float[Tensor, " B"]:
    """Sum log p over the tokens of each text, in nats per text; `texts_A` is the text each token belongs to."""
    log_p_A = -F.cross_entropy(logits_AV, targets_A, reduction="none")
    return log_p_A.new_zeros(n_texts).index_add(0, texts_A, log_p_A)


def npo(log_p_B: Float[Tensor, " B"], reference_B: Float[Tensor, " B"], *, beta: float) -> Float[Tensor, ""]:
    """Negative Preference Optimization: mean of (2 / beta) log(1 + (p / p_reference)^beta).

    Bounded below by 0; for beta -> 0 its gradient is that of gradient ascent (Zhang et al. 2024, arXiv 2404.05868,
    section 3).

    Args:
        log_p_B: log p of each text to forget, in nats per text.
        reference_B: The same under the model before training.
        beta: Inverse temperature: the larger, the sooner the gradient fades once a text falls below the reference.
    """
    return -F.logsigmoid(-beta * (log_p_B - reference_B)).mean() * 2 / beta


def simnpo(
    log_p_B: Float[Tensor, " B"], n_tokens_B: Int[Tensor, " B"], *, beta: float, gamma: float
) -> Float[Tensor, ""]:
    """NPO without a reference model, normalised by length: mean of -(2 / beta) log sigmoid(-(beta / |y|) log p - gamma).

    This is the paper's equation (Fan et al. 2024, arXiv 2410.07163, section 4); its released code has beta * gamma
    instead of gamma, which is the same if gamma is 0.

    Args:
        log_p_B: log p of each text to forget, in nats per text.
        n_tokens_B: |y|, the number of tokens that count in each text.
        beta: Inverse temperature.
        gamma: Margin inside the sigmoid: the larger, the further log p is pushed down.
    """
    return -F.logsigmoid(-beta * log_p_B / n_tokens_B - gamma).mean() * 2 / beta


def kl_from_reference(logits_AV: Float[Tensor, "A V"], reference_AV: Float[Tensor, "A V"]) -> Float[Tensor, ""]:
    """KL(reference || model) of the next token, mean over tokens (Veldanda et al. 2024, arXiv 2409.13054).

    Args:
        logits_AV: Logits of the model in training.
        reference_AV: Log-probabilities of the model before training.
    """
    return F.kl_div(logits_AV.log_softmax(-1), reference_AV, reduction="sum", log_target=True) / len(logits_AV)


def steering(hidden_AD: Float[Tensor, "A D"], target_D: Float[Tensor, " D"]) -> Float[Tensor, ""]:
    """RMU's forget loss: mean squared difference from the target c * u (Li et al. 2024, arXiv 2403.03218, section 4).

    The mean is over dimensions too, as in the released code; the paper's equation sums over them. Unit: squared
    activation.
    """
    return (hidden_AD - target_D).square().mean()


def matching(hidden_AD: Float[Tensor, "A D"], frozen_AD: Float[Tensor, "A D"]) -> Float[Tensor, ""]:
    """RMU's retain loss: mean squared difference from the activations before training; a mean as in `steering`."""
    return (hidden_AD - frozen_AD).square().mean()
