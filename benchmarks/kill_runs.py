"""Kill relearning runs at random moments, take them up again, and count what was lost.

    python benchmarks/kill_runs.py [--kills 200] [--seed 0] [--at-control 0.5] [--json]

Each run is the whole thing on a tiny random model: loading, choosing, the edit, training with checkpoints and snapshots,
then the control. Its process gets SIGKILL at a random moment of the time that an uninterrupted run takes (or ends before
it), and another process takes the run up, until it has finished. A share of the kills is aimed at the hand-over: from the
last snapshot of the run, over the making of the control's folder, to the control's first snapshot. After every kill all that was committed is read again
and must be there, unchanged. A finished run is compared with an uninterrupted one: the loss of every step and every number
of every snapshot, bit for bit. Processes are forked from one that has imported everything, because importing takes longer
than the whole run.

The last line with --json: kills, runs, lost (snapshots committed and gone or changed), diverged (runs that ended otherwise
than the uninterrupted one), stuck (runs that could not be taken up; what their last process said goes to stderr), aimed
(kills during the hand-over), seconds.
"""

import argparse
import hashlib
import json
import logging
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: a forked process has no pool of threads
os.environ["HF_HUB_OFFLINE"] = "1"

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]  # run from anywhere, without installing

import tiny
import torch
import transformer_lens  # noqa: F401 (imported here once, not in every forked process)

from analysis import runs
from analysis.errors import PalimpsestError
from analysis.jobs import layout
from analysis.relearning import RelearnConfig, Snapshot
from analysis.runs import RunDirectory, execution

_MOST_ATTEMPTS = 200
_STEPS, _EVERY = 12, 2
_LAST = _STEPS // _EVERY + 1
"""Index of the run's last snapshot: the base, the edited model, and one for every second step."""
_HAND_OVER = 0.5
"""Seconds after the run's last snapshot within which aimed kills come."""
_SAID = "said.log"


@dataclass
class Tally:
    """What happened so far."""

    kills: int = 0
    aimed: int = 0
    runs: int = 0
    lost: int = 0
    diverged: int = 0
    stuck: int = 0
    why: list[str] = field(default_factory=list)


def main() -> None:
    """Kill until there were enough kills; exit code 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--at-control", type=float, default=0.5, help="share of the kills aimed at the hand-over")
    parser.add_argument("--json", action="store_true", help="one JSON line instead of text")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    chance, started, tally = random.Random(options.seed), time.monotonic(), Tally()
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        os.environ["PALIMPSEST_HOME"] = str(home)
        config = RelearnConfig(
            model=str(tiny.save_model(home / "tiny")),
            concept="tiny-capitals",
            known_threshold=0.0,
            steps=_STEPS,
            batch_size=4,
            cadence="steps",
            snapshot_every=_EVERY,
            checkpoint_every=3,
            precision="float32",
            device="cpu",
        )
        whole = _create(config, home / "whole")
        begun = time.monotonic()
        if not _waited(_forked(whole)):
            sys.exit(f"the uninterrupted run failed: {whole.status().message}")
        usual = time.monotonic() - begun
        expected = _outcome(whole)
        while tally.kills < options.kills:
            run = _create(config, home / f"run-{tally.runs:04d}")
            _one_run(run, expected, usual, options.kills, options.at_control, chance, tally)
            if tally.runs % 10 == 0:
                print(f"{tally.kills} kills, {tally.runs} runs, {tally.lost} lost", file=sys.stderr, flush=True)
    result = {
        **{name: getattr(tally, name) for name in ("kills", "aimed", "runs", "lost", "diverged", "stuck")},
        "uninterrupted_seconds": round(usual, 2),
        "seconds": round(time.monotonic() - started, 1),
    }
    for line in tally.why:
        print(line, file=sys.stderr)
    print(json.dumps(result) if options.json else ", ".join(f"{name} {value}" for name, value in result.items()))
    sys.exit(bool(tally.lost or tally.diverged or tally.stuck))


def _one_run(
    run: RunDirectory,
    expected: Mapping[str, Any],
    usual: float,
    most_kills: int,
    at_control: float,
    chance: random.Random,
    tally: Tally,
) -> None:
    """Kill a run and take it up until it has finished."""
    tally.runs += 1
    committed: dict[str, str] = {}
    for _ in range(_MOST_ATTEMPTS):
        child = _forked(run)
        if tally.kills < most_kills:
            # more of the kills that are left are aimed, if too few were
            aimed = tally.aimed < at_control * (tally.kills + 1) and not _control_has_begun(run)
            seconds = chance.uniform(0, _HAND_OVER) if aimed else chance.uniform(0, usual)
            if _dies_within(child, seconds, after=(lambda: _hands_over(run)) if aimed else lambda: True):
                tally.kills += 1
                tally.aimed += aimed
        elif not _waited(child):
            break
        now = _snapshots(run)
        for name, digest in committed.items():
            if now.get(name) != digest:
                tally.lost += 1
                tally.why.append(f"{run.name}: {name} was committed and is {'changed' if name in now else 'gone'}")
        committed = now
        if _is_over(run):
            break
    if not _is_over(run):
        tally.stuck += 1
        said = (run.path / _SAID).read_text(encoding="utf-8", errors="replace")[-2000:]
        tally.why.append(f"{run.name}: {run.status().state}: {run.status().message}. Its last process said:\n{said}")
    elif differences := [key for key, value in _outcome(run).items() if expected[key] != value]:
        tally.diverged += 1
        tally.why.append(f"{run.name} differs in {', '.join(differences)}")


def _create(config: RelearnConfig, path: Path) -> RunDirectory:
    return runs.create(config, path, concepts={"tiny-capitals": tiny.concept()})


def _forked(run: RunDirectory) -> int:
    """A process that carries the run out, or takes it up where it was."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        said = os.open(run.path / _SAID, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(said, 1)
        os.dup2(said, 2)
        execution.execute(run)
        code = 0
    except (PalimpsestError, OSError):
        traceback.print_exc()
        code = 2
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        os._exit(code)


def _hands_over(run: RunDirectory) -> bool:
    """Whether the run has written its last snapshot."""
    return layout.snapshot_file(run.path, _LAST).is_file()


def _control_has_begun(run: RunDirectory) -> bool:
    return layout.snapshot_file(run.path / layout.CONTROL, 0).is_file()


def _dies_within(child: int, seconds: float, after: Callable[[], bool]) -> bool:
    """Kill the process so many seconds after a condition holds; False if it had ended by then."""
    end: float | None = None
    while end is None or time.monotonic() < end:
        if os.waitpid(child, os.WNOHANG)[0]:
            return False
        if end is None and after():
            end = time.monotonic() + seconds
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def _waited(child: int) -> bool:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _is_over(run: RunDirectory) -> bool:
    control = run.control
    return run.status().state == "finished" and control is not None and control.status().state == "finished"


def _parts(run: RunDirectory) -> dict[str, RunDirectory]:
    return {"run": run} | ({"control": run.control} if run.control else {})


def _snapshots(run: RunDirectory) -> dict[str, str]:
    """Every committed snapshot that can be read, by name, with a digest of its file."""
    found = {}
    for part, folder in _parts(run).items():
        for index in range(folder.n_snapshots()):
            path = layout.snapshot_file(folder.path, index)
            try:
                folder.snapshot(index)
            except PalimpsestError:
                continue
            found[f"{part} snapshot {index}"] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _outcome(run: RunDirectory) -> dict[str, Any]:
    """Everything that must be the same whatever happened on the way."""
    outcome: dict[str, Any] = {}
    for part, folder in _parts(run).items():
        losses = [(event["step"], event["loss"]) for event in folder.events() if event["kind"] == "step"]
        outcome[f"losses of the {part}"] = losses
        outcome[f"snapshots of the {part}"] = [_numbers(one) for one in folder.snapshots()]
    return outcome


def _numbers(snapshot: Snapshot) -> tuple[Any, ...]:
    """A snapshot without the time it took."""
    arrays = [snapshot.p_retrained_F, snapshot.p_held_out_F]
    arrays += [scores for methods in snapshot.saliency.values() for _, scores in sorted(methods.items())]
    digest = hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()
    words = tuple(sorted(snapshot.words.items()))
    return snapshot.phase, snapshot.step, snapshot.loss, snapshot.neutral_loss, digest, words


if __name__ == "__main__":
    main()
