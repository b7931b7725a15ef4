"""The deployer as a user has it: the console command in a process of its own, with its journal."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self

from deploytool.rehearsal.faults.catalogue import Moment

_POLL_S = 0.003
_DEADLINE_S = 300.0
_READ_S = 5.0
_COMMAND = (sys.executable, "-m", "deploytool.cli.main")

_RECORDS: dict[Moment, tuple[str, str, str]] = {
    Moment.LOCKING: ("intent", "LOCKING", "LOCK"),
    Moment.STAGING: ("intent", "STAGING", "STAGE"),
    Moment.STAGED: ("outcome", "STAGING", "STAGED"),
    Moment.BETWEEN: ("outcome", "SWITCHING", "WAVE_PROVEN"),
    Moment.SWITCHED: ("outcome", "SWITCHING", "LAST_WAVE_PROVEN"),
    Moment.UNLOCKING: ("intent", "UNLOCKING", "UNLOCK"),
}
"""The journal's record that tells each moment."""


@dataclass(frozen=True)
class DeployerEnd:
    """How a command ended, as a shell sees it; ``code`` is None where it had to be given up."""

    verb: str
    code: int | None
    document: dict[str, Any]
    errors: str
    seconds: float

    def names(self, host: str) -> bool:
        """Whether its end says something of this host."""
        said = [str(line) for line in self.document.get("details", [])]
        said += [f"{h['host']}: {h['verdict']}" for h in self.document.get("hosts", [])]
        return any(line.startswith(f"{host}:") for line in said)


@dataclass(frozen=True)
class Operator:
    """Somebody who deploys from somewhere: an inventory, a store, and a folder for the journal."""

    inventory: Path
    store: Path
    journal: Path
    environment: dict[str, str] = field(default_factory=dict)

    def start(self, verb: str, *arguments: str) -> Deployer:
        """Starts a command."""
        more = ["--store", str(self.store)]
        if verb != "status":
            more += ["--journal", str(self.journal)]
        argv = [*_COMMAND, verb, "-i", str(self.inventory), *arguments, *more, "--json"]
        return Deployer(verb, argv, self.journal, self.environment)

    def run(self, verb: str, *arguments: str) -> DeployerEnd:
        """Runs a command to its end."""
        with self.start(verb, *arguments) as deployer:
            return deployer.wait()


class Deployer:
    """A command under way. It can be held, sent on, interrupted and killed."""

    def __init__(
        self, verb: str, argv: list[str], journal: Path, environment: dict[str, str]
    ) -> None:
        self._verb = verb
        self._journal = journal
        self._seen = _last_record(journal)
        self._began = time.monotonic()
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **environment},
            start_new_session=True,
        )
        # Pipes, each with a reader: a file would end with the disk that a fault fills.
        self._out, self._err = (
            _OutputReader(self.process.stdout),
            _OutputReader(self.process.stderr),
        )

    def __enter__(self) -> Self:
        """Itself; at the end of the block it has ended, one way or the other."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leaves nothing running."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def send(self, number: signal.Signals) -> None:
        """Sends it a signal: SIGSTOP holds it, SIGCONT sends it on."""
        self.process.send_signal(number)

    def wait_for(self, moment: Moment) -> bool:
        """Waits until its journal tells the moment; False where it ended without."""
        wanted = _RECORDS[moment]
        return self._watch(lambda rows: wanted in rows)

    def wait_for_record(self, number: int) -> bool:
        """Waits until it has written so many records; False where it ended without."""
        return self._watch(lambda rows: len(rows) >= number)

    def _watch(self, told: Any) -> bool:  # noqa: ANN401 a predicate over rows
        while time.monotonic() - self._began < _DEADLINE_S:
            ended = self.process.poll() is not None
            if told(_records(self._journal, self._seen)):
                return not ended
            if ended:
                return False
            time.sleep(_POLL_S)
        return False

    def wait(self) -> DeployerEnd:
        """Waits for its end; it is given up, and killed, when that does not come."""
        code: int | None
        try:
            code = self.process.wait(max(1.0, _DEADLINE_S - (time.monotonic() - self._began)))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            code = None
        seconds = time.monotonic() - self._began
        errors = self._err.all().decode("utf-8", "replace")
        return DeployerEnd(self._verb, code, _document(self._out.all()), errors, seconds)


class _OutputReader(threading.Thread):
    """Reads all that comes out of a pipe, as it comes."""

    def __init__(self, pipe: IO[bytes] | None) -> None:
        super().__init__(daemon=True)
        self._pipe = pipe
        self._read = b""
        self.start()

    def run(self) -> None:
        """Reads to the end."""
        if self._pipe is not None:
            with self._pipe:
                self._read = self._pipe.read()

    def all(self) -> bytes:
        """What was read, once the process has ended."""
        self.join(_READ_S)
        return self._read


def _document(text: bytes) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        said = json.loads(text)
        if isinstance(said, dict):
            return said
    return {}


def _query(folder: Path, statement: str, values: tuple[int, ...]) -> list[tuple[Any, ...]]:
    """Asks the only journal in a folder; nothing where there is none (yet)."""
    found = sorted(folder.glob("*.sqlite"))
    if not found:
        return []
    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(sqlite3.connect(f"file:{found[0]}?mode=ro", uri=True)) as db,
    ):
        return db.execute(statement, values).fetchall()
    return []


def _last_record(folder: Path) -> int:
    rows = _query(folder, "SELECT max(number) FROM record", ())
    return int(rows[0][0] or 0) if rows else 0


def _records(folder: Path, after: int) -> list[tuple[Any, ...]]:
    statement = "SELECT kind, state, what FROM record WHERE number > ? ORDER BY number"
    return _query(folder, statement, (after,))
