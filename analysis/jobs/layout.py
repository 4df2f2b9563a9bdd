"""The names of the files in a job's folder, so that what writes one and what reads it agree.

What every job keeps (`jobs.job`), and what a relearning run keeps besides (`runs.library` shows the whole folder). The
names are part of the format: renaming one would make runs of earlier versions unreadable.
"""

from pathlib import Path

__all__ = [
    "BASE_SNAPSHOT",
    "CHECKPOINTS",
    "CONCEPTS",
    "CONFIG",
    "CONTROL",
    "EDITS",
    "EVENTS",
    "FACTS",
    "FINE_TUNED",
    "FROM_MEMORY",
    "LOG",
    "ORIGIN",
    "SNAPSHOTS",
    "STATUS",
    "STOP",
    "TEXT",
    "WEIGHTS",
    "concept_file",
    "snapshot_file",
]

STATUS = "status.json"
"""The job's status; replaced atomically."""
EVENTS = "events.jsonl"
"""The event log, one JSON object per line."""
STOP = "stop"
"""Exists once the job was asked to stop."""
LOG = "worker.log"
"""Output of the worker's process."""

CONFIG = "config.json"
"""A run's configuration, package versions and time of creation; also the configuration of each stage of `ORIGIN`."""
FROM_MEMORY = "from_memory"
"""Key in `CONFIG` of a run that was carried out in memory: it has no state to resume from."""
CONCEPTS = "concepts"
"""Folder of the concepts that the run uses."""
TEXT = "text.jsonl"
"""The further text that a run trains on."""
FACTS = "facts.json"
"""The facts chosen, the components edited, digests."""
SNAPSHOTS = "snapshots"
"""Folder of snapshots."""
CHECKPOINTS = "checkpoints"
"""Folder of training states."""
EDITS = "edits"
"""Folder of the edits' delta files (`edits.ledger.edit_file`)."""
FINE_TUNED = "fine_tuned"
"""Folder of the model that the run begins with, if that was fine-tuned."""
CONTROL = "control"
"""Folder of the control run, with the same layout."""
ORIGIN = "origin"
"""Folder of what a branch begins with: `FACTS`, `BASE_SNAPSHOT` and a folder for each run before it."""
BASE_SNAPSHOT = "base.safetensors"
"""In `ORIGIN`: the snapshot of the unedited model."""
WEIGHTS = "weights.safetensors"
"""In a stage of `ORIGIN`: the trained weights that the next one begins with."""


def concept_file(folder: Path, name: str) -> Path:
    """Path of a concept of the run in `folder`."""
    return folder / CONCEPTS / f"{name}.jsonl"


def snapshot_file(folder: Path, number: int) -> Path:
    """Path of a snapshot of the run in `folder`."""
    return folder / SNAPSHOTS / f"{number:06d}.safetensors"
