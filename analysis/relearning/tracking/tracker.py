"""Takes a run's snapshots: task scores, neutral loss, saliency, and words of followed neurons.

Axes: `L` layer, `N` neuron in a layer, `C` concept, `M` saliency method, `T` token, `K` followed neuron.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from analysis.components.neurons import NeuronSet
from analysis.concepts import Concept, Sentence
from analysis.models import LanguageModel
from analysis.relearning.config import RelearnConfig
from analysis.relearning.snapshot import Phase, Snapshot
from analysis.relearning.tasks.base import Task
from analysis.relearning.tracking.device_copies import ArrayCopies
from analysis.relearning.tracking.followed_neurons import FollowedNeurons, Words, WordVectors
from analysis.relearning.tracking.saliency_pass import SaliencyPass, check_scores
from analysis.saliency import MOMENT_METHODS, SAMPLE_METHODS, from_sample
from analysis.saliency.moments import stream
from analysis.scoring import factual_recall
from analysis.scoring.batches import label_concepts

__all__ = ["Pending", "Tracker"]

Saliencies = dict[str, dict[str, np.ndarray]]


class Tracker:
    """Takes snapshots; every probe is tokenised once and stays on the device."""

    def __init__(
        self,
        model: LanguageModel,
        config: RelearnConfig,
        concepts: list[Concept],
        task: Task,
        neutral: tuple[Sentence, ...],
        clock: Callable[[], float],
    ):
        """Prepare everything on the unedited model.

        Args:
            model: The model.
            config: Names the concept, the methods and the precision.
            concepts: All tracked concepts, the concept of the run first.
            task: The task to score.
            neutral: Sentences to measure the neutral loss on.
            clock: Seconds since the start of the run.
        """
        self.model, self.config, self.concept = model, config, concepts[0]
        self.task, self.clock = task, clock
        self.count = 0
        """Index of the next snapshot."""
        self.labelled = label_concepts(model, concepts)
        self.neutral = factual_recall.prepare_neutral(model, neutral)
        self.saliency = SaliencyPass(model, self.labelled)
        self.vectors = WordVectors(model, concepts[0])
        self.followed: FollowedNeurons | None = None
        self.base_words: Words = {}
        self.cost: float | None = None
        """Seconds that the last snapshot took."""

    def first(self, base: Snapshot) -> Snapshot:
        """Take over the base snapshot of another run of the same model as this run's first."""
        self.count = 1
        return replace(base, index=0, seconds=self.clock())

    def follow(self, neurons: NeuronSet, base_words: Words | None = None) -> Words:
        """Follow these neurons from now on, and return their words. Call it while the model is still unedited.

        Args:
            neurons: The neurons to follow; may be empty.
            base_words: Their words, if known; otherwise a pass over the text finds them.
        """
        if len(neurons):
            self.followed = FollowedNeurons(self.model, self.labelled, self.concept, neurons, self.vectors)
            if base_words is None:
                with factual_recall.precision_context(self.model, self.config.precision):
                    self.saliency.run(self.followed.hooks())
                base_words = self.followed.words(self.followed.kept().cpu().numpy())
        self.base_words = base_words or {}
        return self.base_words

    def take(self, phase: Phase, step: int) -> "Pending":
        """Start measuring a snapshot; `Pending.snapshot` returns it once its results have been copied to the CPU."""
        begun, seconds = _Stopwatch(self.model.device), self.clock()
        hooks = self.followed.hooks() if self.followed else []
        with (
            torch.inference_mode(),
            self.model.lock,
            factual_recall.precision_context(self.model, self.config.precision),
        ):
            results = {"scores": self.saliency.run(hooks)}
            if self.followed:
                results["followed"] = self.followed.kept()
            results |= self.task.measure()
            results["neutral"] = factual_recall.neutral_total(self.model, self.neutral)
            sampled = self._sampled()
        begun.stop()
        pending = Pending(
            self, self.count, phase, step, seconds, ArrayCopies(results, self.model.device), sampled, begun
        )
        self.count += 1
        return pending

    def _sampled(self) -> Saliencies:
        """The scores that need single activations, computed in a separate pass."""
        methods = [method for method in self.config.tracked_methods if method in SAMPLE_METHODS]
        if not methods:
            return {}
        _, sample = stream(self.model, self.labelled, seed=self.config.seed)
        return {
            name: {
                method: from_sample(sample, name, method, seed=self.config.seed).scores_LN.astype(np.float32)
                for method in methods
            }
            for name in self.labelled.concepts
        }


@dataclass(frozen=True)
class Pending:
    """A snapshot whose results may still be in transfer from the device."""

    tracker: Tracker
    index: int
    phase: Phase
    step: int
    seconds: float
    landing: ArrayCopies
    sampled: Saliencies
    stopwatch: "_Stopwatch"

    def ready(self) -> bool:
        return self.landing.ready()

    def snapshot(self, loss: float | None = None) -> Snapshot:
        """The snapshot; waits for its results. `loss` is the mean training loss since the last one, in nats per token.

        Raises:
            ModelFileError: an activation is not finite; the message names the layer.
        """
        of, results = self.tracker, self.landing.get()
        of.cost = self.stopwatch.seconds()
        check_scores(results["scores"], of.model)
        scores = of.task.scores(results)
        words: Words = {}
        similarity: dict[int, float] = {}
        if of.followed is not None:
            words = of.followed.words(results["followed"])
            similarity = {} if self.phase == "base" else of.followed.similarity(words, of.base_words)
        return Snapshot(
            index=self.index,
            phase=self.phase,
            step=self.step,
            seconds=self.seconds,
            loss=loss,
            p_retrained_F=scores.p_retrained_F,
            p_held_out_F=scores.p_held_out_F,
            metrics=scores.metrics,
            neutral_loss=float(results["neutral"]) / of.neutral.n_predicted,
            saliency={
                name: dict(zip(MOMENT_METHODS, results["scores"][c])) | self.sampled.get(name, {})
                for c, name in enumerate(of.labelled.concepts)
            },
            words=words,
            similarity=similarity,
        )


class _Stopwatch:
    """Measures how long the device was busy with a snapshot."""

    def __init__(self, device: torch.device):
        self._started, self._stopped = time.perf_counter(), 0.0
        self._events: tuple[Any, Any] | None = None
        if device.type == "cuda":
            self._events = (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True))
            self._events[0].record(torch.cuda.current_stream(device))

    def stop(self) -> None:
        self._stopped = time.perf_counter()
        if self._events is not None:
            self._events[1].record(torch.cuda.current_stream())

    def seconds(self) -> float:
        """Elapsed seconds; call it after the snapshot's results have arrived."""
        if self._events is not None:
            return self._events[0].elapsed_time(self._events[1]) / 1000
        return self._stopped - self._started
