"""What two runs must share to be the same run: losses, snapshots, and the state in the newest checkpoint."""

import torch
from safetensors.torch import load_file

from analysis.relearning import Snapshot
from analysis.runs.directory import RunDirectory

__all__ = ["assert_same_snapshots", "assert_same_state", "losses"]


def losses(run: RunDirectory) -> list[tuple[int, float]]:
    return [(event["step"], event["loss"]) for event in run.events() if event["kind"] == "step"]


def assert_same_snapshots(one: list[Snapshot], other: list[Snapshot]) -> None:
    """Bit for bit, but for the time they took."""
    assert [_values(a) for a in one] == [_values(b) for b in other]
    for a, b in zip(one, other):
        assert a.p_retrained_F.tobytes() == b.p_retrained_F.tobytes()
        assert a.p_held_out_F.tobytes() == b.p_held_out_F.tobytes()
        for name, methods in a.saliency.items():
            assert methods.keys() == b.saliency[name].keys()
            for method, scores in methods.items():
                assert scores.tobytes() == b.saliency[name][method].tobytes()


def _values(one: Snapshot) -> tuple:
    return one.index, one.phase, one.step, one.loss, one.neutral_loss, one.words, one.similarity


def assert_same_state(one: RunDirectory, other: RunDirectory) -> None:
    """The newest checkpoints hold the same weights and moments, bit for bit."""
    (a,), (b,) = (list((run.path / "checkpoints").iterdir()) for run in (one, other))
    assert a.name == b.name
    first, second = load_file(a), load_file(b)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
