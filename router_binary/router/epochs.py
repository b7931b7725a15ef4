"""The newest epoch that was ever accepted here: it only grows, also across restarts.

It is on disk before a certificate is promised anything. A file that can't be read leaves it
unknown, and then no certificate is new enough.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from router.certificate import MAX_EPOCH
from router.flags import FlagRefusedError
from router.subprocesses import Ended, Subprocesses

MAX_BYTES: Final = 4096

Written = Callable[[str], None]
"""Told once: nothing where it is on disk, else why it may not be."""


class Epochs:
    """Remembers one number in `epoch.json`."""

    def __init__(self, subprocesses: Subprocesses, folder: Path) -> None:
        self._subprocesses = subprocesses
        self._folder = folder
        self._path = folder / "epoch.json"
        self._unknown = ""
        self._writing = False
        self.shown = 0
        self._read()

    def _read(self) -> None:
        try:
            with self._path.open("rb") as file:
                found = json.loads(file.read(MAX_BYTES))["epoch"]
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            self._unknown = f"{self._path} can't be read ({error!r})"
            return
        if type(found) is int and 0 < found <= MAX_EPOCH:
            self.shown = found
        else:
            self._unknown = f"{self._path} has no epoch in it, but {found!r}"

    @property
    def newest(self) -> int:
        """The newest ever accepted, 0 where none was. Raises FlagRefusedError: not known."""
        if self._unknown:
            raise FlagRefusedError(
                "EPOCH_UNKNOWN",
                f"{self._unknown}: no certificate is believed. Remove that file and start the "
                "router again: a new certificate's epoch is newer than all before it",
            )
        return self.shown

    def write(self, epoch: int, done: Written) -> None:
        """Put a newer one on disk; `done` is called once, later.

        It counts from now, whatever comes of it. Raises FlagRefusedError: it can't be written.
        """
        if self._writing:
            raise FlagRefusedError("EPOCH_BUSY", "another epoch is being written; try again")
        self.shown = max(self.shown, epoch)
        draft = self._path.with_suffix(".new")

        def end(trouble: str) -> None:
            self._writing = False
            done(trouble)

        def draft_synced(ended: Ended) -> None:
            trouble = _why(draft, ended)
            if not trouble:
                try:
                    draft.replace(self._path)
                except OSError as error:
                    trouble = f"{self._path} can't be replaced: {error}"
            if trouble:
                end(trouble)
            else:
                self._sync(self._folder, lambda ended: end(_why(self._path, ended)))

        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
            try:
                os.write(descriptor, json.dumps({"epoch": self.shown}).encode() + b"\n")
            finally:
                os.close(descriptor)
        except OSError as error:
            raise FlagRefusedError(
                "EPOCH_NOT_WRITTEN", f"{draft} can't be written: {error}"
            ) from error
        self._writing = True
        self._sync(draft, draft_synced)

    def _sync(self, path: Path, done: Callable[[Ended], None]) -> None:
        # A disk takes its time: orders must not wait for it, so another program does.
        self._subprocesses.run(["sync", "--", str(path)], done)


def _why(path: Path, ended: Ended) -> str:
    return "" if ended.code == 0 else f"{path} may not be on disk: {ended.trouble}"
