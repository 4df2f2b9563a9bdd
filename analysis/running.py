"""Carries out a relearning run: stores what `relearn.run` yields and keeps the status alive.

The control run follows in the same process, in `RUN_DIR/control`.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass

from analysis import relearn, runs
from analysis.jobs import JobStatus, StatusKeeper
from analysis.runs import RunDirectory

__all__ = ["RunReport", "carry_out"]


@dataclass(frozen=True)
class RunReport:
    """Progress of a run, for whoever drives the worker in its own process (the command line)."""

    stage: str
    done: int
    total: int


def carry_out(run: RunDirectory, report: Callable[[RunReport], None] | None = None) -> JobStatus:
    """Carry out a run and its control, store everything, and return the final status.

    Raises:
        PalimpsestError: the run failed; its status says so too.
    """
    # Must be set before CUDA starts, for deterministic matrix products.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    report = report or (lambda _: None)
    status = _one_run(run, report, stop=run.stop_requested, prefix="")
    if status.state == "finished" and run.config.control and run.config.edit is not None:
        concepts = run.concepts()
        control = runs.create(run.config.as_control(), run.path / "control", concepts=concepts, title="control")
        found = run.facts()
        assert found is not None  # a finished run has written it
        beginning = relearn.Beginning(facts=found.table, base=run.snapshot(0))
        _one_run(control, report, stop=run.stop_requested, prefix="control: ", beginning=beginning)
    return status


def _one_run(
    run: RunDirectory,
    report: Callable[[RunReport], None],
    *,
    stop: Callable[[], bool],
    prefix: str,
    beginning: relearn.Beginning | None = None,
) -> JobStatus:
    total, keeper = run.config.n_snapshots, StatusKeeper(run)

    def stage(text: str) -> None:
        keeper.update(message=text)
        run.append_event("stage", text=text)
        report(RunReport(prefix + text, keeper.status.snapshots, total))

    def step(done: relearn.StepReport) -> None:
        stopping = "stopping" if stop() else "running"
        keeper.update(state=stopping, step=done.step, message=f"Step {done.step} of {run.config.steps}")
        run.append_event("step", step=done.step, loss=done.loss, seconds=done.seconds)
        report(RunReport(f"{prefix}step {done.step} of {run.config.steps}", keeper.status.snapshots, total))

    def work() -> str:
        snapshots = relearn.run(
            run.config,
            concepts=run.concepts(),
            beginning=beginning,
            on_start=run.write_start,
            on_step=step,
            on_progress=stage,
            should_stop=stop,
        )
        for snapshot in snapshots:
            run.write_snapshot(snapshot)
            keeper.update(snapshots=snapshot.index + 1)
            report(RunReport(f"{prefix}snapshot {snapshot.index + 1} of {total}", snapshot.index + 1, total))
            if stop() and snapshot.phase != "training":
                break  # asked to stop before the first training step
        return "Stopped on request" if stop() and keeper.status.snapshots < total else "Finished"

    return keeper.carry_out(work)
