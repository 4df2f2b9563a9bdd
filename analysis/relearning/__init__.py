"""Retrain an edited model and watch the concept come back: `run(config)` yields snapshots.

The training mix is statements of the facts to retrain on plus neutral sentences; facts held out are never trained on.
Without the neutral share the model unlearns ordinary language while it relearns the concept. With the task “tagging” the
model is fine-tuned to find the concept's words, edited, and retrained to find them. A control run is the same training,
batch for batch, without the edit.

Snapshots are yielded, not written: `analysis.runs` stores and reads them, and handles status, listing and the queue. Only
what a resumed run needs is written here, into a folder that the caller names: what the edit changed, checkpoints, and the
fine-tuned model.
"""

from analysis.relearning.config import Origin, RelearnConfig
from analysis.relearning.run import run
from analysis.relearning.snapshot import Beginning, Earlier, FactTable, Phase, RunFacts, Snapshot, StepReport
from analysis.relearning.tasks.known_facts import choose_facts
from analysis.relearning.tasks.select import check_concept
from analysis.relearning.tasks.tagging import epoch_steps

__all__ = [
    "Beginning",
    "Earlier",
    "FactTable",
    "Origin",
    "Phase",
    "RelearnConfig",
    "RunFacts",
    "Snapshot",
    "StepReport",
    "check_concept",
    "choose_facts",
    "epoch_steps",
    "run",
]
