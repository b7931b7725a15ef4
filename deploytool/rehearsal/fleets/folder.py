"""The folder of a throwaway fleet: its lock, its record, and its removal.

``fleet.json`` is the first file to come and the last to go: as long as anything of the fleet may
be left, it says what.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from deploytool.errors import EnvironmentProblem, InputError
from deploytool.rehearsal.fleets.model import HOSTS_AT_MOST, FleetRecord, Kind

_RECORD = "fleet.json"
_LOCK_S = 3.0
_DRAFT = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
_ADAPTER = TypeAdapter(FleetRecord)


class FleetFolder:
    """Where one throwaway fleet lives. Nothing is created before ``locked(create=True)``."""

    def __init__(self, path: Path, kind: Kind) -> None:
        self.path = path.absolute()
        self.kind = kind
        self._named = path

    def command(self, verb: str) -> str:
        """The command that a person types for this fleet."""
        folder = f" --folder {self._named}" if self._named.parts[:1] != (".deploytool",) else ""
        return f"deploytool fleet {verb} --fleet {self.kind}{folder}"

    @contextmanager
    def locked(self, *, create: bool) -> Iterator[bool]:
        """Holds the fleet for this process; gives whether its folder is there.

        The lock lies on the folder itself: it goes with the process, however that ends.

        Raises:
            InputError: another process holds it, or the folder can't be made.
        """
        try:
            if create:
                self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            yield False
            return
        except OSError as error:
            raise InputError(
                f"The folder {self.path} can't be used: {error.strerror}.",
                "Nothing was started.",
                f"Name another one: deploytool fleet up --fleet {self.kind} --folder DIR",
            ) from error
        try:
            self._take(handle)
            yield self.path.exists()
        finally:
            os.close(handle)

    def _take(self, handle: int) -> None:
        deadline = time.monotonic() + _LOCK_S
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise InputError(
                        f"Another `fleet up` or `fleet down` is at work in {self.path}.",
                        "This one did nothing.",
                        f"Let it end (or break it off with Ctrl-C), then: {self.command('down')}",
                    ) from None
                time.sleep(0.1)
            else:
                return

    def load(self) -> FleetRecord | None:
        """What was written down; nothing when there is no fleet.

        Raises:
            InputError: the record can't be understood, so nothing may be removed by it.
        """
        try:
            text = (self.path / _RECORD).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            return _ADAPTER.validate_json(text)
        except ValidationError as error:
            raise InputError(
                f"{self.path / _RECORD} is not the record of a throwaway fleet.",
                "Nothing was touched: it is not known what belongs to that fleet.",
                f"Look at it: less {self.path / _RECORD}",
            ) from error

    def save(self, record: FleetRecord) -> None:
        """Writes the record down: on the disk when this returns, whole or not at all."""
        self.write(_RECORD, _ADAPTER.dump_json(record, indent=2).decode() + "\n")

    def write(self, name: str, text: str) -> Path:
        """Writes a file of the fleet in one step, readable by its owner only."""
        path = self.path / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = path.with_name(f"{path.name}.new")
        with os.fdopen(os.open(draft, _DRAFT, 0o600), "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(path)
        return path

    def claim(self, count: int) -> None:
        """Makes sure that a new fleet may be built here. The lock is held.

        Raises:
            InputError: a fleet is already here, the folder holds other things, or the count is off.
        """
        if not 1 <= count <= HOSTS_AT_MOST:
            raise InputError(
                f"A throwaway fleet has 1 to {HOSTS_AT_MOST} hosts, not {count}.",
                "Nothing was started.",
                f"{self.command('up')} --hosts 8",
            )
        record = self.load()
        if record is not None:
            state = "is already up" if record.phase == "up" else "was begun and never finished"
            raise InputError(
                f"The {self.kind} fleet in {self.path} {state}.",
                "It was left as it is.",
                f"To start over: {self.command('down')} && {self.command('up')}",
            )
        new = f"Name an empty folder: deploytool fleet up --fleet {self.kind} --folder DIR"
        self._refuse_strangers("Nothing was touched.", new)
        self.path.chmod(0o700)

    def _refuse_strangers(self, means: str, now: str) -> None:
        record_draft = f"{_RECORD}.new"
        strangers = [item.name for item in self.path.iterdir() if item.name != record_draft]
        if strangers:
            raise InputError(
                f"{self.path} holds files that are no fleet's: {', '.join(sorted(strangers)[:5])}.",
                means,
                now,
            )

    def remove(self, *, known: bool = False) -> None:
        """Removes the folder with all that is in it; the record last.

        ``known``: it is known to be a fleet's by something else than its record.

        Raises:
            InputError: nothing says that what is in it is a fleet's.
            EnvironmentProblem: something could not be removed.
        """
        if not known and self.load() is None:
            means = f"The folder was left as it is: it has no record of a fleet ({_RECORD})."
            self._refuse_strangers(means, f"See what they are: ls -lA {self.path}")
        try:
            for parent, folders, _files in os.walk(self.path):
                for name in folders:  # a host may have made some of its folders read-only
                    inner = Path(parent, name)
                    if not inner.is_symlink():
                        inner.chmod(0o700)
            for item in self.path.iterdir():
                if item.is_dir() and not item.is_symlink():
                    shutil.rmtree(item)
                elif item.name != _RECORD:
                    item.unlink()
            (self.path / _RECORD).unlink(missing_ok=True)
            self.path.rmdir()
        except OSError as error:
            raise EnvironmentProblem(
                f"{error.filename or self.path} can't be removed: {error.strerror}.",
                "The fleet's processes and containers are gone; its folder is not.",
                self.command("down"),
            ) from error
        with suppress(OSError):  # only when this was the last fleet in it
            self.path.parent.rmdir()
