"""One optimiser step after the other, on a seeded mixture of texts."""

from collections.abc import Sequence

import torch

from analysis import measure
from analysis.concepts import Concept, Sentence
from analysis.edits import WeightMask
from analysis.edits.lowrank import LowRank
from analysis.models import LanguageModel
from analysis.relearn.arrivals import Arrivals
from analysis.relearn.config import RelearnConfig
from analysis.relearn.mixture import Mixture
from analysis.relearn.record import FactTable
from analysis.text import pad, to_device
from analysis.training import check_loss, learning_share

__all__ = ["Trainer"]


class Trainer:
    """AdamW or SGD on a seeded mixture of fact statements, sentences and other text.

    Nothing in a step waits for a CUDA device: losses are reported when they have arrived.
    """

    def __init__(
        self,
        model: LanguageModel,
        config: RelearnConfig,
        concept: Concept,
        facts: FactTable,
        neutral: Sequence[Sentence],
        trained: WeightMask | LowRank,
        text: Sequence[str] = (),
    ):
        self.model, self.config, self.trained = model, config, trained
        self.mixture = Mixture(model, config, concept, facts, neutral, text)
        self.optimiser = _optimiser(config, trained, model.device)
        self.done = 0
        """Steps taken."""
        self._losses = Arrivals(model.device)

    def step(self) -> list[tuple[int, float]]:
        """One optimiser step; gives the steps whose loss has arrived since the last call, each with that loss.

        A loss is in nats per token. On the CPU it is that of this step, on CUDA that of a few steps before.

        Raises:
            ConfigError: a loss that has arrived is not finite; on the CPU the weights are as they were before the step.
        """
        config, self.done = self.config, self.done + 1
        rows = self.mixture.draw()
        n_predicted = sum(len(row) - 1 for row in rows)
        self.optimiser.zero_grad(set_to_none=True)
        loss = torch.zeros((), device=self.model.device)
        # every part has its share of each kind of text
        for part in (rows[i :: config.accumulate] for i in range(config.accumulate)):
            tokens = pad(part, self.model)
            lengths = to_device(torch.tensor([len(row) for row in part]), self.model.device)
            with measure.precision_context(self.model, config.precision):
                logits = self.model.logits(tokens)
            part_loss = measure.token_losses(logits, tokens, lengths).sum() / n_predicted
            part_loss.backward()
            loss += part_loss.detach()
        self._losses.put(self.done, loss)
        arrived = self.arrived()
        self.trained.mask_gradients()
        torch.nn.utils.clip_grad_norm_(self.trained.parameters, config.clip)
        share = learning_share(config.schedule, self.done, config.steps, config.warmup)
        for group in self.optimiser.param_groups:
            group["lr"] = config.learning_rate * share
        self.optimiser.step()
        self.trained.mask_update()
        return arrived

    def arrived(self, *, wait: bool = False) -> list[tuple[int, float]]:
        """The steps whose loss has arrived since the last call; with `wait` all there are.

        Raises:
            ConfigError: a loss is not finite.
        """
        arrived = self._losses.take(wait=wait)
        for _, loss in arrived:
            check_loss(loss, self.config.learning_rate)
        return arrived


def _optimiser(config: RelearnConfig, trained: WeightMask | LowRank, device: torch.device) -> torch.optim.Optimizer:
    fused = device.type in ("cpu", "cuda")
    if config.optimiser == "sgd":
        return torch.optim.SGD(
            trained.parameters,
            lr=config.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            fused=fused,
        )
    return torch.optim.AdamW(trained.parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=fused)
