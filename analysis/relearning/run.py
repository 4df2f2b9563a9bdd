"""Carries out a run: measures the base, applies the edit, trains, and yields snapshots."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from analysis import concepts as concept_library
from analysis import models
from analysis.components.neurons import NeuronSet
from analysis.concepts import Concept, Sentence, split_neutral
from analysis.edits import Ledger, Materials, Training, plan
from analysis.edits.ledger import edit_file
from analysis.errors import RunError
from analysis.jobs import layout
from analysis.models import LanguageModel
from analysis.relearning import branch_weights, resources
from analysis.relearning.config import RelearnConfig
from analysis.relearning.fine_tuning import fine_tune
from analysis.relearning.inputs import WEIGHTS, check_inputs, digests_of
from analysis.relearning.snapshot import Beginning, Earlier, RunFacts, Snapshot, StepReport
from analysis.relearning.tasks.select import prepare_task
from analysis.relearning.tracking.followed_neurons import choose_followed
from analysis.relearning.tracking.tracker import Tracker
from analysis.relearning.trainable import trainable
from analysis.relearning.trainer import Trainer
from analysis.relearning.training_loop import TrainingLoop
from analysis.saliency.moments import stream_moments
from analysis.training.lora import LowRank
from analysis.training.precision import choose_precision
from analysis.training.schedule import reproducible
from analysis.training.slices import Head

__all__ = ["run"]


def run(
    config: RelearnConfig,
    *,
    model: LanguageModel | None = None,
    concepts: Mapping[str, Concept] | None = None,
    neutral: tuple[Sentence, ...] | None = None,
    text: Sequence[str] = (),
    beginning: Beginning | None = None,
    earlier: Earlier | None = None,
    folder: Path | None = None,
    origin_folder: Path | None = None,
    tuned_folder: Path | None = None,
    on_facts: Callable[[RunFacts], None] | None = None,
    on_step: Callable[[StepReport], None] | None = None,
    on_fine_tune: Callable[[StepReport], None] | None = None,
    on_progress: Callable[[str], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Iterator[Snapshot]:
    """Edit the model, retrain it, and yield a snapshot before the edit, right after it, and every few steps.

    A branch has the snapshot in the phase “edited” even without an edit: it is that of the weights training begins from.

    An interrupted run with a `folder` resumes from there. On the same device its losses and snapshots are bit for bit those
    of an uninterrupted run.

    Args:
        config: Configuration of the run.
        model: Use (and change!) this float32 model instead of loading `config.model`.
        concepts: Concepts by name, instead of the library's.
        neutral: Neutral sentences, instead of the built-in ones.
        text: Lines of the text that `config.text` names.
        beginning: Facts and base snapshot to take over instead of measuring them: for a control those of its run, for a
            branch those of the run before it.
        earlier: What this same run left in `folder` before it was interrupted.
        folder: Where to keep what the edit changed (`edits/`) and the state of the training (`checkpoints/`).
        origin_folder: Folder of the weights that a branch begins with.
        tuned_folder: Where the fine-tuned model is kept, which a run and its control share; default: `fine_tuned/` in
            `folder`.
        on_facts: Called once with the chosen facts and components; not for a resumed run.
        on_step: Called once for every training step, on CUDA as soon as its loss has arrived.
        on_fine_tune: Called after every step of fine-tuning.
        on_progress: Called with a phrase before every long stage.
        should_stop: Called after every step; True ends the run after one last snapshot, or at once during fine-tuning.

    Raises:
        StoppedError: `should_stop` returned True while a gradient edit was trained.
        PalimpsestError: the model or a concept cannot be used or is not the one that the run began with, or there is too
            little memory or disk space.
        OSError: something cannot be written to `folder`.
    """
    say, started = on_progress or (lambda _: None), time.monotonic()
    begun = earlier.beginning if earlier else beginning

    def clock() -> float:
        return (earlier.seconds if earlier else 0.0) + time.monotonic() - started

    by_name = {name: (concepts or {}).get(name) or concept_library.load(name) for name in config.tracked}
    concept = by_name[config.concept]
    if model is None:
        say("Loading the model")
        model = models.load(config.model, device=config.device, dtype="float32")
    precision = choose_precision(config.precision, model.device)
    if config.precision == "auto":
        precision = (begun and begun.precision) or precision  # one curve is measured in one format, wherever it goes on
        config = replace(config, precision=precision.name)
    size = resources.ModelSize.of(model)
    resources.memory_estimate(config, size, str(model.device), loaded=True).check()
    if folder is not None:
        resources.check_disk(config, size, folder, tuned_folder)
    neutral = neutral or concept_library.neutral_sentences()
    digests: dict[str, str] = {}
    if folder is not None or (begun is not None and begun.digests):
        digests = digests_of(model, list(by_name.values()), neutral)
        check_inputs(begun.digests if begun else {}, digests, model=model.name)
    train_text, measured_text = split_neutral(neutral)
    with reproducible(config.seed, model.device):
        task = prepare_task(model, config, concept, train_text, text, begun, say)
        if config.fine_tune_steps:
            say("Fine-tuning")
            kept = tuned_folder or (folder and folder / layout.FINE_TUNED)
            done = fine_tune(
                model,
                config,
                task,
                kept,
                weights=digests.get(WEIGHTS, ""),
                clock=clock,
                on_step=on_fine_tune,
                should_stop=should_stop,
            )
            if not done:
                return
    with reproducible(config.seed, model.device):
        facts = task.facts
        tracker = Tracker(model, config, list(by_name.values()), task, measured_text, clock)
        if begun is None:
            say("Measuring the unedited model")
            base = tracker.take("base", 0).snapshot()
        elif earlier is None:
            base = tracker.first(begun.base)
        else:
            base, tracker.count = begun.base, earlier.n_snapshots

        written = edit_file(folder / layout.EDITS, 0) if folder else None
        ledger, entry = Ledger(model, folder / layout.EDITS if folder else None), None
        edited, edited_heads = NeuronSet([], model.shape), ()
        followed, words, held, change = edited, {}, (), None
        if config.origin is not None:  # choose followed neurons and their words on the unedited model, before `restore`
            followed = _followed(config, begun, base, edited)
            words = tracker.follow(followed, base.words or None)
            held = branch_weights.restore(model, _origin(origin_folder), task)
        if config.edit is not None and earlier and written and written.is_file():
            say("Writing the edit again")
            entry = ledger.replay(written)
        elif config.edit is not None:
            say("Choosing and editing components")
            materials = Materials(
                concept=concept,
                forget=(*facts.retrained, *facts.held_out),
                neutral=train_text,
                moments=stream_moments(model, tracker.labelled),
            )
            change = plan(config.edit, model, materials)
            edited, edited_heads = change.marked(model.component_shape)
        if config.origin is None:
            followed = _followed(config, begun, base, edited)
            words = tracker.follow(followed, base.words or None)
        edited, edited_heads = _with_earlier(begun, edited, edited_heads)
        if change is not None:
            if isinstance(change, Training):
                change.should_stop, change.hold = should_stop, held
                change.checkpoint_folder = folder / layout.EDITS / "state" if folder else None
            entry = ledger.apply(change, concept=concept.name)
        with trainable(model, config, (*held, *ledger.held())) as trained:
            if earlier is None:
                if on_facts:
                    on_facts(
                        RunFacts(
                            shape=model.shape,
                            table=facts,
                            edited=edited,
                            n_neutral_train=len(train_text),
                            n_neutral_measured=len(measured_text),
                            ledger={"before": entry.hash_before, "after": entry.hash_after} if entry else None,
                            edited_heads=edited_heads,
                            followed=followed,
                            sizes=task.sizes,
                            digests=digests,
                            precision=precision,
                        )
                    )
                yield replace(base, words=words)
            if config.begins_changed and (earlier is None or earlier.n_snapshots < 2):
                say("Measuring the edited model" if entry else "Measuring what training begins from")
                yield tracker.take("edited", 0).snapshot()

            made = {"edit": config.edit.to_dict(), "weights": entry.hash_after} if config.edit and entry else None
            trainer = Trainer(model, config, task, trained, edit=made, weights=digests.get(WEIGHTS, ""))
            loop = TrainingLoop(
                config, trainer, tracker, clock, folder and folder / layout.CHECKPOINTS, earlier, on_step
            )
            say(f"Going on after step {trainer.done}" if trainer.done else "Relearning")
            yield from loop.run(should_stop or (lambda: False))
            if isinstance(trained, LowRank):
                trained.merge()


def _followed(config: RelearnConfig, begun: Beginning | None, base: Snapshot, edited: NeuronSet) -> NeuronSet:
    """The followed neurons of the run that this one begins from; chosen anew if there is none."""
    if begun is not None and begun.followed is not None:
        return begun.followed
    scores_LN = base.saliency[config.concept][config.tracked_methods[0]]
    return choose_followed(scores_LN, edited, config.pinned, config.follow_top)


def _with_earlier(
    begun: Beginning | None, edited: NeuronSet, heads: tuple[Head, ...]
) -> tuple[NeuronSet, tuple[Head, ...]]:
    """The neurons and heads touched by this edit and by earlier ones."""
    if begun is None or begun.edited is None:
        return edited, heads
    return NeuronSet(np.union1d(edited.flat, begun.edited.flat), edited.shape), tuple(
        sorted({*heads, *begun.edited_heads})
    )


def _origin(folder: Path | None) -> Path:
    if folder is None:
        raise RunError("The weights that this branch begins with are missing. Make it with `branch`.")
    return folder
