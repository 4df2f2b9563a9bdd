"""The queue's SQLite database, `queue.sqlite3` in the home folder: tables, transactions, and errors in the user's words.

    jobs       one row for each job: its folder, device and state, and the process that runs it
    workers    one row for each device: the process that works on its queue
    holdings   the device memory that dashboards hold
    requests   jobs that ask dashboards to free device memory

Every change is one IMMEDIATE transaction: if two processes decide at the same moment, the second sees what the first
decided. This module does not read jobs' folders; `queue_rules` and `queue` do.
"""

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from analysis import paths
from analysis.errors import RunError
from analysis.jobs.processes import Process

__all__ = [
    "Entry",
    "State",
    "count_from",
    "database",
    "entries",
    "find",
    "place",
    "process_of",
    "reading",
    "writing",
]

State = Literal["queued", "running", "done", "cancelled"]

BUSY = 5.0
"""Seconds to wait for a database that another process is writing."""
_VERSION = 1
_PROCESS = "pid INTEGER, pid_started REAL, boot TEXT, host TEXT"
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, path TEXT NOT NULL, kind TEXT NOT NULL, device TEXT NOT NULL,
    owner TEXT NOT NULL, state TEXT NOT NULL, foreground INTEGER NOT NULL,
    submitted REAL NOT NULL, started REAL, ended REAL, {_PROCESS});
CREATE UNIQUE INDEX IF NOT EXISTS once ON jobs (path) WHERE state IN ('queued', 'running');
CREATE INDEX IF NOT EXISTS active ON jobs (state);
CREATE TABLE IF NOT EXISTS workers (device TEXT PRIMARY KEY, registered REAL NOT NULL, {_PROCESS});
CREATE TABLE IF NOT EXISTS holdings (device TEXT NOT NULL, bytes INTEGER NOT NULL, {_PROCESS},
    PRIMARY KEY (device, pid, pid_started, boot, host));
CREATE TABLE IF NOT EXISTS requests (
    number INTEGER PRIMARY KEY AUTOINCREMENT, device TEXT NOT NULL, bytes INTEGER NOT NULL, job TEXT NOT NULL, {_PROCESS});
PRAGMA user_version = {_VERSION};
"""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A job that is queued or running."""

    number: int
    """Increases with every job submitted; the smaller number comes first."""
    path: Path
    kind: str
    device: str
    owner: str
    """Who submitted it; empty if unknown."""
    state: State
    foreground: bool
    """It waits and runs in the process that submitted it (a command line), not in a worker."""
    submitted: float
    started: float | None
    process: Process | None
    """The process that runs it or, in the foreground, waits with it."""
    place: int
    """In its device's queue: 0 is running, 1 is next."""

    @property
    def name(self) -> str:
        return self.path.name


def database() -> Path:
    """Path of the database."""
    return paths.home() / "queue.sqlite3"


@contextmanager
def reading() -> Iterator[sqlite3.Connection]:
    """Open a connection for reading; the queue is empty if there is no database yet.

    Raises:
        RunError: the database cannot be used.
    """
    path = database()
    with _user_errors(path), contextlib.closing(_connect(path if path.exists() else None, BUSY)) as connection:
        yield connection


@contextmanager
def writing(wait: float = BUSY) -> Iterator[sqlite3.Connection]:
    """Open a write transaction, of which there is only one at a time; it is rolled back if the block raises.

    Args:
        wait: Seconds to wait for other processes to finish writing.

    Raises:
        RunError: the database cannot be written.
    """
    path = database()
    with _user_errors(path), contextlib.closing(_connect(path, wait)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def entries(connection: sqlite3.Connection, device: str | None = None) -> list[Entry]:
    """All jobs that are queued or running, by device and then by place."""
    rows = connection.execute(
        "SELECT * FROM jobs WHERE state IN ('queued', 'running') AND device = ifnull(?, device) "
        "ORDER BY device, state = 'queued', number",
        (device,),
    )
    found: list[Entry] = []
    ahead: dict[str, int] = {}
    for row in rows:
        queued = row["state"] == "queued"
        ahead[row["device"]] = ahead.get(row["device"], 0) + queued
        found.append(
            Entry(
                number=row["number"],
                path=Path(row["path"]),
                kind=row["kind"],
                device=row["device"],
                owner=row["owner"],
                state=row["state"],
                foreground=bool(row["foreground"]),
                submitted=row["submitted"],
                started=row["started"],
                process=process_of(row),
                place=ahead[row["device"]] if queued else 0,
            )
        )
    return found


def find(connection: sqlite3.Connection, path: Path) -> Entry | None:
    """The queued or running job in a folder, whichever path names the folder; None if there is none.

    A row holds the real path (`paths.real`) of the time when the job was entered. The home folder may have been moved since
    and be reached through a link.
    """
    real, found = paths.real(path), entries(connection)
    exact = next((entry for entry in found if entry.path == real), None)
    return exact or next((entry for entry in found if paths.real(entry.path) == real), None)


def count_from(connection: sqlite3.Connection, number: int) -> None:
    """Make the numbers of jobs and requests start above `number`, so that none of an older database is given again."""
    for table in ("jobs", "requests"):
        row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).fetchone()
        connection.execute("DELETE FROM sqlite_sequence WHERE name = ?", (table,))
        last = number if row is None else max(number, row["seq"])
        connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table, last))


def place(path: Path) -> int | None:
    """A job's place in its device's queue: 0 is running, 1 is next, None is not in the queue.

    Raises:
        RunError: the database cannot be read.
    """
    with reading() as connection:
        found = find(connection, path)
    return None if found is None else found.place


def process_of(row: sqlite3.Row) -> Process | None:
    """The process that a row of any table names; None if it names none."""
    if row["pid"] is None:
        return None
    return Process(pid=row["pid"], started=row["pid_started"], boot=row["boot"], host=row["host"])


def _connect(path: Path | None, wait: float) -> sqlite3.Connection:
    connection = sqlite3.connect(path or ":memory:", timeout=wait, isolation_level=None)
    try:
        connection.row_factory = sqlite3.Row
        if _version(connection) == 0:
            _set_up(connection, wait)
        elif _version(connection) != _VERSION:
            raise RunError(
                f"{path} was made by another version of Palimpsest. Wait until its jobs have ended, then move the file away."
            )
    except BaseException:
        connection.close()
        raise
    return connection


def _version(connection: sqlite3.Connection) -> int:
    return connection.execute("PRAGMA user_version").fetchone()[0]


def _set_up(connection: sqlite3.Connection, wait: float) -> None:
    """Create the tables. Several processes may do so at once, and SQLite does not wait for a change of the journal mode."""
    deadline = time.monotonic() + wait
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}COMMIT;")
            return
        except sqlite3.OperationalError as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


@contextmanager
def _user_errors(path: Path) -> Iterator[None]:
    """Raise errors of the database as RunError, with advice for the user."""
    try:
        yield
    except sqlite3.Error as error:
        text = str(error).lower()
        if "locked" in text or "busy" in text:
            advice = "Another process is writing to it and did not finish in time. Try again."
        elif "full" in text:
            advice = "Free some disk space and try again; what is queued is kept."
        elif "readonly" in text or "unable to open" in text or "disk i/o" in text:
            advice = "Make the file and its folder writable, or set PALIMPSEST_HOME to a folder that is."
        else:
            advice = "It is damaged: `palimpsest queue --rebuild` sets it aside and rebuilds it from the jobs' folders."
        raise RunError(f"The queue {path} cannot be used ({error}). {advice}") from error
