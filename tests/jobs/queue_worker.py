"""A worker of the queue whose jobs are stand-ins: `python -m tests.jobs.queue_worker --device cpu`.

A job's folder holds `job.json`: {"seconds": how long it takes, "then": "", "raise", "refuse" or "die"}. It notes in
`seen.json` when it was at work, in which process, and what that process had left over from the job before.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

from analysis import worker
from analysis.errors import RunError
from analysis.jobs import Job
from analysis.jobs.job import StatusKeeper

left_over: list[str] = []


def nap(path: Path) -> None:
    settings, job = json.loads((path / "job.json").read_text()), Job(path)
    seen = {
        "pid": os.getpid(),
        "left_over": list(left_over),
        "torch": "torch" in sys.modules,
        "begun": time.monotonic(),
        "parent": os.getppid(),
        "times": json.loads((path / "seen.json").read_text())["times"] + 1 if (path / "seen.json").exists() else 1,
    }
    (path / "seen.json").write_text(json.dumps(seen))
    left_over.append(job.name)
    if settings["then"] == "raise":
        raise ZeroDivisionError("a bug")
    if settings["then"] == "refuse":
        raise RunError("It cannot be done.")
    if settings["then"] == "die":
        os.kill(os.getpid(), signal.SIGKILL)

    def work() -> str:
        end = time.monotonic() + settings["seconds"]
        while time.monotonic() < end:
            if job.stop_requested():
                return "Stopped on request"
            time.sleep(0.02)
        return "Finished"

    StatusKeeper(job).execute(work)
    (path / "seen.json").write_text(json.dumps(seen | {"ended": time.monotonic()}))


if __name__ == "__main__":
    sys.exit(worker.serve(sys.argv[sys.argv.index("--device") + 1], {"nap": nap}))
