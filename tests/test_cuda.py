"""Smoke tests on a CUDA device: training learns, never waits for the device inside a step, and goes on bit for bit."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from analysis import relearning, runs
from analysis.concepts import Concept, Sentence
from analysis.errors import ConfigError
from analysis.models import load
from analysis.relearning import RelearnConfig, trainer
from analysis.relearning.tracking.device_copies import ArrayCopies, ScalarCopies
from analysis.runs import execution
from analysis.runs.directory import RunDirectory
from tests.small_runs import small_run

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")


@pytest.fixture
def config(tiny_folder: Path, tiny_concept: Concept) -> RelearnConfig:
    return small_run(
        tiny_folder,
        tiny_concept,
        steps=12,
        snapshot_every=4,
        neutral_share=0.25,
        learning_rate=3e-3,
        checkpoint_every=4,
        precision="bf16",
        device="cuda",
    )


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """PyTorch raises where a training step waits for the device; not in the first steps, in which buffers are made."""
    original = trainer.Trainer.step

    def step(self: trainer.Trainer) -> list[tuple[int, float]]:
        if self.done < 2:
            return original(self)
        torch.cuda.set_sync_debug_mode("error")
        try:
            return original(self)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(trainer.Trainer, "step", step)
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(
    "settings",
    [{}, {"precision": "float32"}, {"optimiser": "sgd"}, {"accumulate": 2}, {"lora_rank": 2}, {"train_only": "L1.MLP"}],
    ids=lambda settings: ", ".join(settings) or "default",
)
def test_a_run_trains_without_waiting(
    config: RelearnConfig, settings: dict, tiny_concept: Concept, tiny_neutral: tuple[Sentence, ...], no_waiting: None
):
    losses: list[tuple[int, float]] = []
    snapshots = list(
        relearning.run(
            replace(config, **settings),
            concepts={tiny_concept.name: tiny_concept},
            neutral=tiny_neutral,
            on_step=lambda report: losses.append((report.step, report.loss)),
        )
    )
    assert [step for step, _ in losses] == list(range(1, 13))
    assert np.isfinite([loss for _, loss in losses]).all()
    assert [one.step for one in snapshots] == [0, 0, 4, 8, 12]
    if not settings:
        assert losses[-1][1] < losses[0][1]


def test_a_diverged_run_is_noticed_a_few_steps_later(
    config: RelearnConfig, tiny_concept: Concept, tiny_neutral: tuple[Sentence, ...]
):
    model, seen = load(config.model, device="cuda"), []

    def spoil(report: relearning.StepReport) -> None:
        seen.append(report.step)
        if report.step == 1:
            with torch.no_grad():
                next(iter(model.weights.values())).fill_(float("nan"))

    arguments = {"concepts": {tiny_concept.name: tiny_concept}, "neutral": tiny_neutral, "on_step": spoil}
    with pytest.raises(ConfigError, match="diverged"):
        list(relearning.run(replace(config, snapshot_every=12), model=model, **arguments))
    assert max(seen) < 12


def test_a_stopped_run_goes_on_bit_for_bit(config: RelearnConfig, tiny_concept: Concept, tmp_path: Path):
    """The whole run, and one that was stopped after its first checkpoint."""
    concepts = {tiny_concept.name: tiny_concept}
    whole, parts = (runs.create(config, tmp_path / name, concepts=concepts) for name in ("whole", "parts"))
    execution.execute(whole)

    def stop(report: execution.RunReport) -> None:
        if report.done == 5:
            parts.request_stop()

    execution.execute(parts, stop)
    assert parts.status().state == "stopped"
    execution.resume(parts)
    assert _losses(parts) == _losses(whole)
    last, other = whole.snapshots()[-1], parts.snapshots()[-1]
    assert last.p_held_out_F.tobytes() == other.p_held_out_F.tobytes()
    for method, scores in last.saliency[tiny_concept.name].items():
        assert scores.tobytes() == other.saliency[tiny_concept.name][method].tobytes()


def test_the_cpu_and_the_gpu_measure_the_same(
    config: RelearnConfig, tiny_concept: Concept, tiny_neutral: tuple[Sentence, ...]
):
    config = replace(config, precision="float32", steps=2, snapshot_every=2)
    arguments = {"concepts": {tiny_concept.name: tiny_concept}, "neutral": tiny_neutral}
    here, there = (list(relearning.run(replace(config, device=device), **arguments)) for device in ("cpu", "cuda"))
    for one, other in zip(here, there):
        np.testing.assert_allclose(one.p_held_out_F, other.p_held_out_F, rtol=1e-3, atol=1e-6)
        for method, scores in one.saliency[tiny_concept.name].items():
            np.testing.assert_allclose(scores, other.saliency[tiny_concept.name][method], rtol=1e-2, atol=1e-4)


def test_numbers_arrive_in_order_and_whole():
    device = torch.device("cuda", 0)
    arrivals, seen = ScalarCopies(device), []
    for step in range(50):
        arrivals.put(step, torch.full((), float(step), device=device) * 2)
        seen += arrivals.take()
    seen += arrivals.take(wait=True)
    assert seen == [(step, 2.0 * step) for step in range(50)]
    values = torch.arange(1_000_000, device=device).float()
    landing = ArrayCopies({"values": values.sin()}, device)
    np.testing.assert_allclose(landing.get()["values"], values.cpu().sin().numpy(), atol=1e-5)


def _losses(run: RunDirectory) -> list[tuple[int, float]]:
    return [(event["step"], event["loss"]) for event in run.events() if event["kind"] == "step"]
