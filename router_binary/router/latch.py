"""A stop that survives: written down, synced, and there again after a restart."""

import json
import os
import secrets
from pathlib import Path
from typing import Final

ACTIVE: Final = "ACTIVE"
REDUCING: Final = "REDUCING"
HALTED: Final = "HALTED"
BY_SIGNAL: Final = "signal USR1"
MAX_BYTES = 65536


class ResumeRefusedError(Exception):
    """The router goes on being stopped; the rule and the message say why."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule


class Latch:
    """The trading state and why. A latch that can't be read counts as HALTED."""

    __slots__ = ("_path", "_unwritten", "by", "latch_id", "reason", "state")

    def __init__(self, folder: Path) -> None:
        self._path = folder / "latch.json"
        self.state = ACTIVE
        self.reason = ""
        self.by = ""
        self.latch_id: str | None = None
        self._unwritten = ""
        self._read()

    def _read(self) -> None:
        try:
            with self._path.open("rb") as file:
                found = json.loads(file.read(MAX_BYTES))
            state, reason = found["state"], str(found["reason"])
            latch_id, by = str(found["latch"]), str(found["by"])
            state = {REDUCING: REDUCING, HALTED: HALTED}[state]
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            # The id lets a person release it once the file has been looked at.
            state, latch_id, by = HALTED, f"unreadable-{secrets.token_hex(8)}", ""
            reason = f"{self._path.name} can't be read ({error}): assumed halted"
        self.state, self.reason, self.latch_id, self.by = state, reason, latch_id, by

    def close(self, state: str, reason: str, by: str) -> str:
        """Stop, or stop harder.

        A second halt keeps the first one's id and reason. A halt of what only was REDUCING is a
        latch of its own: who let it trade freely again has not let it trade again.
        """
        harder = (self.state, state) == (REDUCING, HALTED)
        if self.latch_id is None or harder:
            self.state, self.latch_id = state, secrets.token_hex(8)
            self._because(reason, by)
        elif self.reason == BY_SIGNAL != reason:
            self._because(reason, by)  # a signal can't say why or by whom: this says it for it
        elif not self._unwritten:
            return self.latch_id
        self.reason = self.reason.removesuffix(self._unwritten)
        document = {
            "state": self.state, "reason": self.reason, "by": self.by, "latch": self.latch_id,
        }  # fmt: skip
        try:
            self._write(json.dumps(document).encode())
            self._unwritten = ""
        except OSError as error:
            # Stopped all the same; but a restart wouldn't know, so the reason says it.
            self._unwritten = f" (NOT on disk: {error}; a restart would not be halted)"
            self.reason += self._unwritten
        return self.latch_id

    @property
    def on_disk(self) -> bool:
        """Say whether a restart would find it."""
        return not self._unwritten

    def _because(self, reason: str, by: str) -> None:
        self.reason = reason[:1000] or "no reason given"
        self.by = by[:100]

    def _write(self, data: bytes) -> None:
        draft = self._path.with_suffix(".new")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
        try:
            os.write(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        draft.replace(self._path)
        self._sync_folder()

    def _sync_folder(self) -> None:
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def open(self, latch_id: str) -> None:
        """Release, if the caller has seen what was latched. Raises ResumeRefusedError otherwise."""
        if self.latch_id is None:
            raise ResumeRefusedError("LATCH", "nothing is latched")
        if not secrets.compare_digest(latch_id.encode(), self.latch_id.encode()):
            raise ResumeRefusedError(
                "LATCH", f"that is not the latch's id ({self.latch_id}: {self.reason})"
            )
        self._path.unlink(missing_ok=True)
        self._sync_folder()
        self.state, self.reason, self.by, self.latch_id = ACTIVE, "", "", None
        self._unwritten = ""
