"""Fine-tunes the model for a task before anything is measured; the result is the model that a run begins with.

FOLDER/state/step-000050.safetensors   the state to resume from, during fine-tuning
FOLDER/values.safetensors              the trained parameters, once fine-tuning is done
"""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from analysis.models import LanguageModel
from analysis.relearning.config import RelearnConfig
from analysis.relearning.snapshot import StepReport
from analysis.relearning.tasks.base import Task
from analysis.relearning.trainable import trainable
from analysis.relearning.trainer import Trainer
from analysis.training.checkpoint import load_values, save_values
from analysis.training.lora import LowRank

__all__ = ["VALUES", "fine_tune"]

VALUES = "values.safetensors"


def fine_tune(
    model: LanguageModel,
    config: RelearnConfig,
    task: Task,
    folder: Path | None,
    *,
    weights: str = "",
    clock: Callable[[], float],
    on_step: Callable[[StepReport], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> bool:
    """Train the whole model and the task's parameters for `fine_tune_steps`, or load the result from `folder`.

    Args:
        model: Its weights change.
        config: Configuration of the run; batches, optimiser and rate are the same. Factors (`lora_rank`) are merged in
            the end.
        task: Its parameters change, too.
        folder: Where the result and, during fine-tuning, the state are kept; None keeps nothing.
        weights: Digest of the model's weights, if known; the contents of `folder` must come from the same weights.
        clock: Seconds since the start of the run.
        on_step: Called after every step.
        should_stop: Called after every step; True stops.

    Returns:
        Whether fine-tuning is done; False after a stop.

    Raises:
        ConfigError: training diverged.
        EditError: the contents of `folder` are damaged, or belong to other texts, weights or settings.
    """
    config = replace(config, steps=config.fine_tune_steps, train_only="")
    with trainable(model, config, ()) as trained:
        if folder is not None and (folder / VALUES).is_file():
            load_values(folder / VALUES, [*trained.parameters, *task.parameters], weights=weights)
        elif not _train(
            Trainer(model, config, task, trained, weights=weights), weights, folder, clock, on_step, should_stop
        ):
            return False
        if isinstance(trained, LowRank):
            trained.merge()
    return True


def _train(
    trainer: Trainer,
    weights: str,
    folder: Path | None,
    clock: Callable[[], float],
    on_step: Callable[[StepReport], None] | None,
    should_stop: Callable[[], bool] | None,
) -> bool:
    config, state = trainer.config, folder / "state" if folder else None
    if state is not None:
        trainer.resume(state)

    def report(arrived: list[tuple[int, float]]) -> None:
        for step, loss in arrived:
            if on_step:
                on_step(StepReport(step, loss, clock()))

    while trainer.done < config.steps:
        report(trainer.step())
        stopping = should_stop is not None and should_stop() and trainer.done < config.steps
        due = config.checkpoint_every > 0 and trainer.done % config.checkpoint_every == 0
        if state is not None and (stopping or (due and trainer.done < config.steps)):
            report(trainer.arrived(wait=True))
            trainer.save(state)
        if stopping:
            return False
    report(trainer.arrived(wait=True))
    if folder is not None and state is not None:
        save_values(folder / VALUES, config.steps, trainer.parameters, weights=weights)
        shutil.rmtree(state, ignore_errors=True)
    return True
