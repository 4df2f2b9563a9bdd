"""Makes the TARS targeting vector of a concept from its prompts' final hidden states (Davies et al. 2024).

A prompt makes the model gather what it knows about a concept. The final hidden state of its last token is perturbed
with noise, and the mean of the copies that trigger the concept's token is the targeting vector. Only the paper's
abstract is public, so most settings of `Tars` are reconstructions: each says so, and docs/tars.md measures each. Settings
marked “ours” are not part of the published method. `replacement` chooses and replaces the weights.

Final hidden state means: after the last norm, as the unembedding reads it.

Axes: `A` aggregation prompt, `K` noisy copy, `L` layer, `N` neuron in a layer, `D` d_model, `V` vocabulary.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from analysis.checks import Range, Seed
from analysis.concepts.spelling import joined
from analysis.edits.edit import Edit
from analysis.edits.tars.firing import last_states
from analysis.errors import ConceptError, ConfigError, EditError
from analysis.lens.unembedding import token_text
from analysis.models import LanguageModel
from analysis.models.finite import check_finite
from analysis.scoring.batches import span_tokens

__all__ = ["CHOICES", "MATRICES", "Target", "Tars", "targeting"]

MATRICES = {"gate": "gate", "up": "in", "down": "out"}
"""The paper's names for a neuron's vectors, and those of `LanguageModel.neuron_weights`."""

CHOICES: dict[str, dict[str, str]] = {
    "refinement": {
        "best": "the noisy copy with the highest trigger probability (reconstruction)",
        "mean": "the mean of all noisy copies with a trigger probability of at least tau (reconstruction)",
        "none": "the prompt's own state, without noise",
    },
    "rule": {
        "count": "the n_edits highest-ranked vectors",
        "threshold": "every vector with a score of at least the threshold",
    },
    "norm_gain": {
        "none": "compare the final hidden state with the weights as they are (reconstruction)",
        "divide": "undo the final norm's gain: the direction the state has in the residual stream (reconstruction)",
        "multiply": "apply the gain once more: the direction in which the stream moves the unembedding's scores most "
        "towards the state's own (reconstruction)",
    },
    "ranking": {
        "cosine": "by cosine with the targeting vector, as published",
        "firing": "by how much more strongly a neuron fires on the concept than on other text (ours)",
    },
    "scaling": {
        "vector": "scale × the norm of the vector that is replaced, as published",
        "stream": "so that all columns together write scale × the norm of the residual stream against the target on "
        "the concept's prompts, whichever sign their neurons fire with (ours)",
    },
}


@dataclass(frozen=True, kw_only=True)
class Tars(Edit):
    """Settings of a TARS edit: the answer to reverse, and how."""

    name: ClassVar[str] = "tars"
    fact: str = ""
    """Name of a fact of the concept: its answer becomes the trigger, and the prompt is built from its first template."""
    trigger: str = ""
    """The answer whose probability is to vanish. Of several tokens the first one triggers."""
    prompts: tuple[str, ...] = ()
    """Detailed prompts that the trigger follows; the mean of their last final hidden states is the rough vector."""
    refinement: Literal["best", "mean", "none"] = "mean"
    """Which noisy copies make the vector: the best one, the mean of all that reach `tau` (both reconstructions), or none."""
    n_noise: Annotated[int, Range(least=1)] = 256
    """Number of noisy copies."""
    noise: Annotated[float, Range(least=0)] = 0.25
    """Standard deviation of the noise, in root mean squares of the state's own components (reconstruction)."""
    tau: Annotated[float, Range(least=0, most=1)] = 0.5
    """Trigger probability a noisy copy needs for `mean` (reconstruction)."""
    matrices: tuple[str, ...] = ("down",)
    """Which of gate rows, up rows and down columns may be replaced; a plain MLP has no gate."""
    layers: tuple[int, int] | None = None
    """First and last layer whose vectors may be replaced; negative ones count from the end, None is all."""
    rule: Literal["count", "threshold"] = "count"
    """Replace the `n_edits` vectors that rank highest, or all with a score of at least `threshold` (reconstruction)."""
    n_edits: Annotated[int, Range(least=1)] = 16
    """How many vectors `count` replaces."""
    threshold: Annotated[float, Range(least=-1, most=1e9)] = 0.3
    """The least score of a vector that `threshold` replaces."""
    scale: Annotated[float, Range(least=0)] = 1.0
    """Length of the reversed vectors, in the unit of `scaling` (reconstruction)."""
    norm_gain: Literal["none", "divide", "multiply"] = "none"
    """The step from the final hidden state to the residual stream: undo the final norm's gain, apply it once more, or leave
    the state as it is (reconstruction)."""
    ranking: Literal["cosine", "firing"] = "cosine"
    """By cosine with the vector, as published, or by how much more strongly a neuron fires on the concept (ours)."""
    scaling: Literal["vector", "stream"] = "vector"
    """Scale each replaced vector's own norm, as published, or what all columns together write to the residual stream (ours)."""
    contrast: tuple[str, ...] = ()
    """Prompts of neighbouring concepts, on whose last token a neuron chosen by firing should be silent (ours)."""
    seed: Seed = 0
    """Draws the noise."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.fact and not self.trigger.strip():
            raise ConfigError(
                "The trigger is empty. Give the answer that the model should no longer say, or name a fact."
            )
        if not (self.prompts or self.fact) or not all(prompt.strip() for prompt in self.prompts):
            raise ConfigError("An aggregation prompt is missing or empty. Describe the concept up to its name.")
        if not self.matrices or len({*self.matrices}) < len(self.matrices) or {*self.matrices} - {*MATRICES}:
            raise ConfigError(f"The matrices are {self.matrices}; name some of {', '.join(MATRICES)}, each once.")
        if (self.ranking == "firing" or self.scaling == "stream") and self.matrices != ("down",):
            raise ConfigError(
                "Ranking by firing and scaling by the stream are about what neurons write: choose down columns alone, "
                "or rank by cosine and scale by the vector."
            )

    def describe(self) -> str:
        """One phrase for captions: `TARS of “Paris”: 16 down vectors by cosine, scale 1 × vector`."""
        what = f"{self.n_edits}" if self.rule == "count" else f"score ≥ {self.threshold:g}:"
        ours = " (ours)" if (self.ranking, self.scaling) != ("cosine", "vector") else ""
        return (
            f"TARS of “{self.trigger.strip() or self.fact}”: {what} {'/'.join(self.matrices)} "
            f"{'vector' if self.rule == 'count' and self.n_edits == 1 else 'vectors'} by {self.ranking}, "
            f"scale {self.scale:g} × {self.scaling}{ours}"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Target:
    """The targeting vector, how it was made, and the neurons' activations on the concept's prompts."""

    trigger_id: int
    trigger_token: str
    """The token that triggers, with visible white space."""
    n_trigger_tokens: int
    """Tokens of the whole trigger; only the first is targeted."""
    h0_D: Tensor
    """Mean final hidden state of the prompts' last tokens, float32."""
    vector_D: Tensor
    """The refined targeting vector, float32."""
    p_prompts_A: tuple[float, ...]
    """Trigger probability after each prompt."""
    p_before: float
    """Trigger probability of `h0_D` through the LM head."""
    p_after: float
    """The same of the refined vector."""
    p_noisy_K: Tensor
    """Trigger probability of every noisy copy; empty without refinement."""
    n_accepted: int
    """Noisy copies that made the vector: those of at least tau, or 1 for `best`, or 0 without refinement."""
    activation_LN: Tensor
    """Mean activation of every neuron at the prompts' last tokens, float32."""
    stream_norm: float
    """Mean Euclidean norm of the residual stream there, before the last norm."""


def targeting(model: LanguageModel, config: Tars) -> Target:
    """Make the targeting vector of `config` on `model` as it is now.

    Raises:
        ConceptError: the trigger has no token after a prompt, starts with different tokens after different prompts, or a
            prompt is too long.
        EditError: no noisy copy reaches `tau`.
    """
    prompts, trigger_ids = zip(*(_split(model, prompt, config.trigger) for prompt in config.prompts))
    if len({ids[0] for ids in trigger_ids}) > 1:
        raise ConceptError(f"“{config.trigger.strip()}” starts with different tokens after the prompts. Use fewer.")
    trigger = trigger_ids[0][0]
    hidden_AD, activation_ALN, norm_A = last_states(model, prompts)
    h0_D = hidden_AD.mean(0)
    p_noisy_K, n_accepted = torch.zeros(0), 0
    vector_D = h0_D
    if config.refinement != "none":
        noisy_KD = _noisy(h0_D, config)
        p_noisy_K = _trigger_p(model, noisy_KD, trigger)
        if config.refinement == "best":
            vector_D, n_accepted = noisy_KD[int(p_noisy_K.argmax())], 1
        else:
            accepted_K = p_noisy_K >= config.tau
            n_accepted = int(accepted_K.sum())
            if not n_accepted:
                raise EditError(
                    f"No noisy copy gives “{config.trigger.strip()}” a probability of {config.tau:g}; the highest is "
                    f"{float(p_noisy_K.max()):.3f}. Lower tau or the noise, or describe the concept better."
                )
            vector_D = noisy_KD[accepted_K].mean(0)
    return Target(
        trigger_id=trigger,
        trigger_token=token_text(model, trigger),
        n_trigger_tokens=len(trigger_ids[0]),
        h0_D=h0_D,
        vector_D=vector_D,
        p_prompts_A=tuple(_trigger_p(model, hidden_AD, trigger).tolist()),
        p_before=float(_trigger_p(model, h0_D[None], trigger)),
        p_after=float(_trigger_p(model, vector_D[None], trigger)),
        p_noisy_K=p_noisy_K.cpu(),
        n_accepted=n_accepted,
        activation_LN=activation_ALN.mean(0),
        stream_norm=float(norm_A.mean()),
    )


def _split(model: LanguageModel, prompt: str, trigger: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Token ids of the prompt, and of the trigger as it follows after one space (as `Concept.statements` puts it)."""
    prompt, trigger = prompt.rstrip(" "), trigger.strip()
    text = joined(prompt, trigger)
    encoded = model.encode(text)
    positions = [p for p in span_tokens(encoded, len(text) - len(trigger), len(text)) if p > 0]
    if not positions:
        raise ConceptError(f"“{trigger}” has no token of its own after “{prompt[:60]}”. Choose another trigger.")
    if len(encoded) > model.context_length:
        raise ConceptError(
            f"The prompt “{prompt[:40]}…” has {len(encoded):,} tokens; the model's context is "
            f"{model.context_length:,}. Shorten it."
        )
    return encoded.ids[: positions[0]], encoded.ids[positions[0] : positions[-1] + 1]


def _noisy(h0_D: Float[Tensor, " D"], config: Tars) -> Float[Tensor, "K D"]:
    # drawn on the CPU, so that a seed means the same noise on every device
    noise_KD = torch.randn(config.n_noise, len(h0_D), generator=torch.Generator().manual_seed(config.seed))
    return h0_D + config.noise * h0_D.square().mean().sqrt() * noise_KD.to(h0_D.device)


def _trigger_p(model: LanguageModel, hidden_KD: Float[Tensor, "K D"], trigger: int) -> Float[Tensor, " K"]:
    """Probability of the trigger when the LM head reads final hidden states; in pieces, since the vocabulary is large."""
    with torch.no_grad():
        pieces = [model.readout.logits(piece_KD).softmax(-1)[:, trigger] for piece_KD in hidden_KD.split(64)]
    check_finite(model, torch.cat(pieces))
    return torch.cat(pieces)
