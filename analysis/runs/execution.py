"""Carries out a relearning run: stores what `relearning.run` yields and keeps the status alive.

The control run follows in the same process, in `RUN_DIR/control`. A run that was stopped, or whose worker died, resumes
where it was when it is executed again.
"""

import errno
import gc
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from analysis import relearning, runs
from analysis.errors import ConfigError, PalimpsestError, RunError
from analysis.jobs import JobStatus, layout, lock, queue
from analysis.jobs.job import StatusKeeper, by_this_process
from analysis.models import catalog, fetch
from analysis.models.memory import as_gib
from analysis.relearning import Beginning
from analysis.relearning.resources import ModelSize, memory_estimate
from analysis.runs.branching import beginning_of, branch
from analysis.runs.directory import RunDirectory

__all__ = ["RunReport", "branch", "execute", "prepare", "restart", "resume"]

_WAIT = 5.0
"""Seconds to wait for a process that changes the run's settings; one that executes the run holds the lock longer."""
_RESERVE = ".reserve"
_RESERVE_BYTES = 64 * 2**10
"""Size of a file that is deleted when the disk is full, so that the final status can be written."""


@dataclass(frozen=True)
class RunReport:
    """Progress of a run, for a caller that executes it in its own process (the command line)."""

    stage: str
    done: int
    """Training steps done; while the model is fine-tuned, fine-tuning steps."""
    total: int
    """Steps in all, of the same kind."""


class _Keeper(StatusKeeper):
    """Also counts the time that a run had taken before it was resumed."""

    def add(self, seconds: float) -> None:
        self._started -= seconds


def execute(run: RunDirectory, report: Callable[[RunReport], None] | None = None) -> JobStatus:
    """Execute a run and its control, or what is left of them, store everything, and return the run's final status.

    Raises:
        BusyError: another process executes the run; nothing was written.
        PalimpsestError: the run failed; its status says so too.
    """
    # Must be set before CUDA starts, for deterministic matrix products.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    with lock.held(run.path, wait=_WAIT):
        return _execute(run, report or (lambda _: None))


def _execute(run: RunDirectory, report: Callable[[RunReport], None]) -> JobStatus:
    run.reread()
    _check_steps(run)
    if run.is_complete():
        status = _write_finished(run)
    else:
        status = _one_run(run, run, report, prefix="", beginning=beginning_of(run))
    if status.state == "finished" and run.has_control():
        control = _control_of(run)
        if control.is_complete():
            if not _has_ended(control):  # its process died between the last snapshot and the last status
                _write_finished(control)
        else:
            found = run.facts()
            assert found is not None  # a finished run has written it
            beginning = Beginning(
                table=found.table,
                base=run.snapshot(0),
                followed=found.followed,
                digests=found.digests,
                precision=found.precision,
            )
            if (before := beginning_of(run)) is not None:  # the control has earlier edits, but not the run's own
                beginning = replace(beginning, edited=before.edited, edited_heads=before.edited_heads)
            gc.collect()  # free the run's model before the control loads its own
            _one_run(control, run, report, prefix="control: ", beginning=beginning)
    return status


def prepare(run: RunDirectory, *, steps: int | None = None) -> None:
    """Make a run ready to be executed again. If that is not allowed, nothing is changed.

    Args:
        run: A run that was stopped, failed, crashed, or has finished and is to be continued.
        steps: New total number of steps, which the learning rate schedule then spans. None keeps the number.

    Raises:
        RunError: the run or its control is running or queued, or there is nothing left to do.
        ConfigError: at least `steps` steps are done already.
    """
    with lock.held(run.path):
        _check(run, steps)
        _change_steps(run, steps)
        (run.path / layout.STOP).unlink(missing_ok=True)


def resume(
    run: RunDirectory, report: Callable[[RunReport], None] | None = None, *, steps: int | None = None
) -> JobStatus:
    """Resume a run in this process; see `prepare`.

    Raises:
        PalimpsestError: the run cannot be resumed, or it failed.
    """
    prepare(run, steps=steps)
    return execute(run, report)


def _check(run: RunDirectory, steps: int | None) -> None:
    """Raise the errors of `prepare`, without changing anything."""
    run.reread()
    if run.record.get(layout.FROM_MEMORY):
        raise RunError(
            f"“{run.name}” was carried out in memory and saved without the state of its training, so it cannot go on. "
            "Start a new run."
        )
    _check_at_rest(run, run.name)
    if (control := run.control) is not None:
        _check_at_rest(control, f"{run.name}: control")
    if _is_queued(run):
        raise RunError(f"“{run.name}” is in the queue already. Cancel it there, or wait until it has ended.")
    if steps is not None and steps != run.config.steps:
        run.check_steps(steps)
        return
    _check_steps(run)
    followed = control is not None and control.config.steps == run.config.steps and _has_ended(control)
    if _has_ended(run) and (followed or not run.has_control()):
        raise RunError(f"“{run.name}” has finished. Give it more steps to go on.")


def restart(run: RunDirectory, *, steps: int | None = None, owner: str = "") -> None:
    """Put a run that is not running into the queue of its device; see `prepare`. This also starts a new branch.

    Raises:
        RunError: the run or its control is running or queued, or there is nothing left to do.
        ConfigError: at least `steps` steps are done already, or the device does not exist here.
    """
    queue.device_of(run.config.device)
    # the worker that the queue starts waits for the lock, so it reads the changed number of steps
    with lock.held(run.path):
        _check(run, steps)
        queue.submit(run.path, "run", run.config.device, owner)
        try:
            _change_steps(run, steps)
        except BaseException:
            queue.cancel(run.path)
            raise


def _change_steps(run: RunDirectory, steps: int | None) -> None:
    if steps is not None and steps != run.config.steps:
        run.set_steps(steps)


def _has_ended(run: RunDirectory) -> bool:
    """Whether a run is complete and says so."""
    return run.is_complete() and run.status().state == "finished"


def _check_at_rest(run: RunDirectory, name: str) -> None:
    status = run.status()
    if status.active and not (status.state == "starting" and status.pid is None):
        raise RunError(f"“{name}” is {status.state}. Stop it first, or wait until it has ended.")


def _check_steps(run: RunDirectory) -> None:
    """Refuse a configuration that was edited by hand to fewer steps than are done."""
    if run.config.steps < (done := run.steps_done()):
        raise ConfigError(
            f"“{run.name}” is to have {run.config.steps} steps, but {done} are done already. Give it more."
        )


def _is_queued(run: RunDirectory) -> bool:
    with suppress(RunError):  # `queue.submit` reports a queue that cannot be read
        queue.tend()  # removes the run if its process has died
        return queue.place(run.path) is not None
    return False


def _control_of(run: RunDirectory) -> RunDirectory:
    """The control run; created if missing, with as many steps as its run."""
    control, config = run.control, run.config.as_control()
    if control is None:

        def fill(folder: Path) -> None:
            if (run.path / layout.TEXT).is_file():
                shutil.copyfile(run.path / layout.TEXT, folder / layout.TEXT)

        return runs.create(config, run.path / layout.CONTROL, concepts=run.concepts(), title="control", fill=fill)
    if control.config.steps != config.steps:
        control.set_steps(config.steps)
    return control


def _write_finished(run: RunDirectory) -> JobStatus:
    """Write the status of a complete run: its control is still to be executed, or its process died before it wrote it."""
    count, seconds = run.n_snapshots(), run.moments()[-1].seconds
    status = JobStatus(state="finished", message="Finished", step=run.config.steps, snapshots=count, seconds=seconds)
    run.write_status(status := replace(status, **by_this_process(run), heartbeat=time.time()))
    return status


def _one_run(
    run: RunDirectory,
    main: RunDirectory,
    report: Callable[[RunReport], None],
    *,
    prefix: str,
    beginning: Beginning | None,
) -> JobStatus:
    """Execute `run`, which is `main` or its control."""
    steps, keeper = run.config.steps, _Keeper(run)

    def tell(text: str) -> None:
        report(RunReport(f"{prefix}{text}", keeper.status.step, steps))

    def stage(text: str) -> None:
        keeper.update(message=text)
        run.append_event("stage", text=text)
        tell(text)

    def step(done: relearning.StepReport) -> None:
        state = "stopping" if main.stop_requested() else "running"
        keeper.update(state=state, step=done.step, message=f"Step {done.step} of {steps}")
        run.append_event("step", step=done.step, loss=done.loss, seconds=done.seconds)
        tell(f"step {done.step} of {steps}")

    def fine_tuning(done: relearning.StepReport) -> None:
        text, total = f"Fine-tuning: step {done.step} of {run.config.fine_tune_steps}", run.config.fine_tune_steps
        keeper.update(state="stopping" if main.stop_requested() else "running", message=text)
        run.append_event("fine_tune_step", step=done.step, loss=done.loss, seconds=done.seconds)
        report(RunReport(f"{prefix}{text}", done.step, total))

    def train() -> str:
        run.end_events_line()
        earlier = run.earlier()
        if earlier is not None:
            keeper.add(earlier.seconds)
            keeper.update(snapshots=earlier.n_snapshots, step=max(earlier.steps, default=0))
        _make_room(run, stage)
        snapshots = relearning.run(
            run.config,
            concepts=run.concepts(),
            text=main.text(),
            beginning=beginning,
            earlier=earlier,
            folder=run.path,
            origin_folder=main.path / layout.ORIGIN if run.config.origin else None,
            tuned_folder=main.fine_tuned,
            on_facts=run.write_facts,
            on_step=step,
            on_fine_tune=fine_tuning,
            on_progress=stage,
            should_stop=main.stop_requested,
        )
        for snapshot in snapshots:
            run.write_snapshot(snapshot)
            keeper.update(snapshots=snapshot.index + 1)
            f1 = snapshot.metrics.get("f1")
            tell(f"snapshot {snapshot.index + 1}" + ("" if f1 is None else f": F1 {f1:.3f}"))
            if main.stop_requested() and snapshot.phase != "training":
                break  # asked to stop before the first training step
        return "Finished" if run.is_complete() else "Stopped on request"

    def work() -> str:
        try:
            (run.path / _RESERVE).write_bytes(b"\0" * _RESERVE_BYTES)
            return train()
        except (OSError, PalimpsestError) as error:
            if not _is_full(error):
                raise
            (run.path / _RESERVE).unlink(missing_ok=True)
            raise RunError(_full(run)) from error
        finally:
            (run.path / _RESERVE).unlink(missing_ok=True)

    return keeper.execute(work)


def _make_room(run: RunDirectory, say: Callable[[str], None]) -> None:
    """Ask dashboards to free the memory that the run needs, and refuse to start if there is too little."""
    device = queue.device_of(run.config.device)
    size = ModelSize.stored(fetch.locate(catalog.resolve(run.config.model)))
    queue.wait_for_memory(lambda: memory_estimate(run.config, size, device), run, say)


def _is_full(error: BaseException | None) -> bool:
    """Whether an error was caused by a full disk."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return error is not None and _is_full(error.__cause__)


def _full(run: RunDirectory) -> str:
    free = as_gib(shutil.disk_usage(run.path).free)
    last = max(run.checkpoints(), default=0)
    goes_on = f"after step {last}" if last else "with the edited model"
    return (
        f"The disk of {run.path} is full: {free} are free. Free some space (delete runs), then resume the run: it goes on "
        f"{goes_on}, and everything that was written is kept."
    )
