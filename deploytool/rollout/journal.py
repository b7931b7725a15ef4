"""The operator's journal: what a rollout is about to do, written and synced before it is done.

One SQLite file a fleet. What is in it helps a person and ``resume`` on this machine; the hosts'
own marks are what a rollout is finished or undone by, so that another machine can do it too.
"""

from __future__ import annotations

import json
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from deploytool.errors import EnvironmentProblem
from deploytool.rollout.model import Effect, Event, State

SCHEMA_VERSION = 1
_BUSY_S = 5.0
_SCHEMA = """
CREATE TABLE rollout (
    id TEXT NOT NULL, number INTEGER PRIMARY KEY, purpose TEXT NOT NULL, fleet TEXT NOT NULL,
    release TEXT NOT NULL, holder TEXT NOT NULL, began REAL NOT NULL, ended REAL, state TEXT
) STRICT;
CREATE TABLE record (
    number INTEGER PRIMARY KEY, rollout INTEGER NOT NULL REFERENCES rollout(number),
    at REAL NOT NULL, kind TEXT NOT NULL CHECK (kind IN ('intent', 'outcome', 'note')),
    state TEXT NOT NULL, what TEXT NOT NULL, hosts TEXT NOT NULL
) STRICT;
"""


class Recorder(Protocol):
    """What a runner writes down. An error here stops it before its next effect."""

    def intent(self, state: State, effect: Effect, hosts: tuple[str, ...]) -> None:
        """This effect is about to be done on these hosts."""

    def outcome(self, state: State, event: Event) -> None:
        """This is what came of it."""

    def end(self, state: State) -> None:
        """The rollout is at one of its ends."""


@dataclass(frozen=True)
class Unfinished:
    """A rollout that this machine began and did not end."""

    plan: str
    purpose: str
    release: str
    holder: str
    began: float
    last_state: str
    last_what: str


def _broken(path: Path, error: sqlite3.Error | OSError) -> EnvironmentProblem:
    return EnvironmentProblem(
        f"The journal {path} can't be written: {error}",
        "Nothing more is done to any host until it can: what isn't written down isn't done.",
        f"Make room, or move a damaged {path.name} away; deploytool status -i INVENTORY",
    )


class Journal:
    """The journal of one fleet on this machine."""

    def __init__(self, path: Path) -> None:
        """Opens the file, or makes it.

        Raises:
            EnvironmentProblem: it can't be made, is damaged, or is of a later version.
        """
        self._path = path
        self._rollout: int | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.touch(mode=0o600)
            self._db = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
            self._prepare()
        except (sqlite3.Error, OSError) as error:
            raise _broken(path, error) from error

    def _prepare(self) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA foreign_keys = ON")
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise sqlite3.DatabaseError(f"it has version {version}, known is {SCHEMA_VERSION}")
        if version == 0:
            self._db.executescript(
                f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            )
        health = self._db.execute("PRAGMA quick_check").fetchone()[0]
        if health != "ok":
            raise sqlite3.DatabaseError(f"it is damaged: {health}")

    def __enter__(self) -> Self:
        """The journal itself; it is closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the file."""
        self._db.close()

    def _write(self, statement: str, values: tuple[object, ...]) -> int:
        """One transaction, on disk when it returns (synchronous=FULL)."""
        try:
            return int(self._db.execute(statement, values).lastrowid or 0)
        except sqlite3.Error as error:
            raise _broken(self._path, error) from error

    def begin(self, plan: str, purpose: str, fleet: str, release: str, holder: str) -> None:
        """A rollout begins; what follows belongs to it."""
        self._rollout = self._write(
            "INSERT INTO rollout (id, purpose, fleet, release, holder, began)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (plan, purpose, fleet, release, holder, time.time()),
        )

    def _record(self, kind: str, state: State, what: str, hosts: tuple[str, ...]) -> None:
        if self._rollout is None:
            raise ValueError("a record belongs to a rollout, and none was begun")
        self._write(
            "INSERT INTO record (rollout, at, kind, state, what, hosts) VALUES (?, ?, ?, ?, ?, ?)",
            (self._rollout, time.time(), kind, state.name, what, json.dumps(hosts)),
        )

    def intent(self, state: State, effect: Effect, hosts: tuple[str, ...]) -> None:
        """Writes down what is about to be done."""
        self._record("intent", state, effect.name, hosts)

    def outcome(self, state: State, event: Event) -> None:
        """Writes down what came of it."""
        self._record("outcome", state, event.name, ())

    def end(self, state: State) -> None:
        """Writes down that the rollout ended, and where."""
        self._write(
            "UPDATE rollout SET ended = ?, state = ? WHERE number = ?",
            (time.time(), state.name, self._rollout),
        )

    def unfinished(self) -> Unfinished | None:
        """The last rollout, where it has no end or ended HELD; None where all is well."""
        row = self._db.execute(
            "SELECT number, id, purpose, release, holder, began FROM rollout"
            " WHERE ended IS NULL OR state = 'HELD' ORDER BY number DESC LIMIT 1"
        ).fetchone()
        if row is None:
            return None
        later = self._db.execute(
            "SELECT 1 FROM rollout WHERE number > ? AND state IN ('DONE', 'RESTORED')", (row[0],)
        ).fetchone()
        if later is not None:
            return None
        last = self._db.execute(
            "SELECT state, what FROM record WHERE rollout = ? ORDER BY number DESC LIMIT 1",
            (row[0],),
        ).fetchone()
        state, what = last or ("CHECKING", "nothing yet")
        return Unfinished(row[1], row[2], row[3], row[4], row[5], state, what)


def journal_path(folder: Path, fleet: str) -> Path:
    """Where a fleet's journal lies."""
    return folder / f"{fleet}.sqlite"
