"""Retrain an edited model and watch the concept come back: `run(config)` yields snapshots.

The training mix is statements of the facts to retrain on plus neutral sentences; facts held out are never trained on.
Without the neutral share the model unlearns ordinary language while it relearns the concept. With the task “tagging” the
model is fine-tuned to find the concept's words, and retrained to find them. A control run is the same training, batch for
batch, without the edit.

Knows nothing of files: `worker` stores the snapshots, `runs` reads them.
"""

from analysis.relearn.config import Origin, RelearnConfig
from analysis.relearn.loop import run
from analysis.relearn.record import Beginning, Earlier, FactTable, Phase, RunStart, Snapshot, StepReport
from analysis.relearn.split import choose_facts, split_neutral
from analysis.relearn.tagging_task import epoch_steps
from analysis.relearn.tasks import check_concept

__all__ = [
    "Beginning",
    "Earlier",
    "FactTable",
    "Origin",
    "Phase",
    "RelearnConfig",
    "RunStart",
    "Snapshot",
    "StepReport",
    "check_concept",
    "choose_facts",
    "epoch_steps",
    "run",
    "split_neutral",
]
