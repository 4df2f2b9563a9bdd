"""The process behind a job: `python -m analysis.worker JOB` carries out the run or the operation found there.

Exit code 0: finished or stopped; 2: failed, with the reason in the status.
"""

import logging
import sys
from pathlib import Path

from analysis import operations, running
from analysis.errors import PalimpsestError
from analysis.operations import Operation
from analysis.runs import RunDirectory

_log = logging.getLogger(__name__)


def main() -> int:
    """Entry point of the worker process."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if len(sys.argv) != 2:
        _log.error("usage: python -m analysis.worker JOB")
        return 2
    try:
        path = Path(sys.argv[1])
        if (path / "operation.json").is_file():
            operations.carry_out(Operation(path))
        else:
            running.carry_out(RunDirectory(path))
    except PalimpsestError as error:
        _log.error("%s", error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
