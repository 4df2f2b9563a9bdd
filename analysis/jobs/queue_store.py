"""The queue's database, `queue.sqlite3` in the home folder: its tables, its transactions, and what can go wrong.

    jobs       one row a job: where it is, its device, its state, the process at work on it
    workers    one row a device: the process that serves it
    holdings   what dashboards hold in the memory of a device
    requests   jobs that ask dashboards for room there

Every change is one IMMEDIATE transaction, so that of two processes that decide at the same moment the second sees what
the first decided. Knows nothing of jobs' folders; `queue` and `room` do.
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
_WHO = "pid INTEGER, pid_started REAL, boot TEXT, host TEXT"
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, path TEXT NOT NULL, kind TEXT NOT NULL, device TEXT NOT NULL,
    owner TEXT NOT NULL, state TEXT NOT NULL, foreground INTEGER NOT NULL,
    submitted REAL NOT NULL, started REAL, ended REAL, {_WHO});
CREATE UNIQUE INDEX IF NOT EXISTS once ON jobs (path) WHERE state IN ('queued', 'running');
CREATE INDEX IF NOT EXISTS active ON jobs (state);
CREATE TABLE IF NOT EXISTS workers (device TEXT PRIMARY KEY, registered REAL NOT NULL, {_WHO});
CREATE TABLE IF NOT EXISTS holdings (device TEXT NOT NULL, bytes INTEGER NOT NULL, {_WHO},
    PRIMARY KEY (device, pid, pid_started, boot, host));
CREATE TABLE IF NOT EXISTS requests (
    number INTEGER PRIMARY KEY AUTOINCREMENT, device TEXT NOT NULL, bytes INTEGER NOT NULL, job TEXT NOT NULL, {_WHO});
PRAGMA user_version = {_VERSION};
"""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A job in the queue."""

    number: int
    """Counts up with every job submitted; the smaller comes first."""
    path: Path
    kind: str
    device: str
    owner: str
    """Who submitted it, as far as that is known."""
    state: State
    foreground: bool
    """It waits and works in the process that asked for it (a command line), not in a worker."""
    submitted: float
    started: float | None
    process: Process | None
    """At work on it, or (in the foreground) waiting with it."""
    place: int
    """In its device's line: 0 is at work, 1 is next."""

    @property
    def name(self) -> str:
        return self.path.name


def database() -> Path:
    return paths.home() / "queue.sqlite3"


@contextmanager
def reading() -> Iterator[sqlite3.Connection]:
    """A connection to look with; an empty queue where there is no database yet.

    Raises:
        RunError: the database cannot be used.
    """
    path = database()
    with _told(path), contextlib.closing(_connect(path if path.exists() else None, BUSY)) as connection:
        yield connection


@contextmanager
def writing(wait: float = BUSY) -> Iterator[sqlite3.Connection]:
    """A transaction that nobody else writes beside; it is undone where the block raises.

    Args:
        wait: Seconds to wait for others.

    Raises:
        RunError: the database cannot be written.
    """
    path = database()
    with _told(path), contextlib.closing(_connect(path, wait)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def entries(connection: sqlite3.Connection, device: str | None = None) -> list[Entry]:
    """All jobs that are queued or running, in the order of their devices' lines."""
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
    """The queued or running job in a folder, by whatever path the folder is named; None where there is none.

    A row holds the path that was the real one when it was entered (`paths.real`); the home may have moved since, with a
    link left behind.
    """
    sought, line = paths.real(path), entries(connection)
    exact = next((entry for entry in line if entry.path == sought), None)
    return exact or next((entry for entry in line if paths.real(entry.path) == sought), None)


def count_from(connection: sqlite3.Connection, number: int) -> None:
    """Let the numbers of jobs and requests begin above `number`, so that none comes again that an older database gave."""
    for table in ("jobs", "requests"):
        row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).fetchone()
        connection.execute("DELETE FROM sqlite_sequence WHERE name = ?", (table,))
        last = number if row is None else max(number, row["seq"])
        connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table, last))


def place(path: Path) -> int | None:
    """A job's place in its device's line: 0 is at work, 1 is next, None is not in the queue.

    Raises:
        RunError: the database cannot be read.
    """
    with reading() as connection:
        found = find(connection, path)
    return None if found is None else found.place


def process_of(row: sqlite3.Row) -> Process | None:
    """The process that a row of any table names."""
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
    """Make the tables; several processes may be at it at once, and SQLite does not wait for a change of the journal."""
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
def _told(path: Path) -> Iterator[None]:
    """Errors of the database as what they mean to the user."""
    try:
        yield
    except sqlite3.Error as error:
        text = str(error).lower()
        if "locked" in text or "busy" in text:
            advice = "Another process is writing it and did not end in time. Try again."
        elif "full" in text:
            advice = "Free some disk space and try again; what is queued is kept."
        elif "readonly" in text or "unable to open" in text or "disk i/o" in text:
            advice = "Make the file and its folder writable, or set PALIMPSEST_HOME to a folder that is."
        else:
            advice = (
                "It is damaged: `palimpsest queue --rebuild` sets it aside and makes it anew from the jobs' folders."
            )
        raise RunError(f"The queue {path} cannot be used ({error}). {advice}") from error
