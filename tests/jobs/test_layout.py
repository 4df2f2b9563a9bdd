"""The names of files in a run's folder are a format: runs that were written before must still be found."""

from pathlib import Path

from analysis.edits.ledger import edit_file
from analysis.jobs import layout


def test_the_names_that_stored_runs_have():
    folder = Path("run")
    assert [layout.STATUS, layout.EVENTS, layout.STOP] == ["status.json", "events.jsonl", "stop"]
    assert [layout.CONFIG, layout.FACTS, layout.TEXT] == ["config.json", "facts.json", "text.jsonl"]
    assert [layout.CHECKPOINTS, layout.FINE_TUNED, layout.CONTROL] == ["checkpoints", "fine_tuned", "control"]
    assert [layout.ORIGIN, layout.BASE_SNAPSHOT, layout.WEIGHTS] == [
        "origin",
        "base.safetensors",
        "weights.safetensors",
    ]
    assert layout.concept_file(folder, "capitals") == Path("run/concepts/capitals.jsonl")
    assert layout.snapshot_file(folder, 3) == Path("run/snapshots/000003.safetensors")
    assert edit_file(folder / layout.EDITS, 0) == Path("run/edits/0000.safetensors")
