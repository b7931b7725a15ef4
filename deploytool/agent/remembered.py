"""Digests that are remembered as long as a file's inode says that no one wrote to it.

An interpreter and its libraries are tens of megabytes that hardly ever change. They are read once
a boot, and again when their change time or size says so; a device's number may be another's after
a boot.
"""

from __future__ import annotations

from deploytool.agent import marks
from deploytool.agent.held import digest_held
from deploytool.agent.words import is_digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from deploytool.agent.host import AgentHost
    from deploytool.agent.port import HeldFile

FILES_AT_MOST = 256
_AT_MOST = 64 * 1024


class Digests:
    """The mark ``digests``: its first line is the boot, then lines ``inode SHA-256``."""

    def __init__(self, host: AgentHost) -> None:
        self._host = host
        self._before: dict[str, str] | None = None
        self._used: dict[str, str] = {}

    def of(self, held: HeldFile) -> str | None:
        """A file's digest; None where it can't be read, or more files were asked for than fit."""
        if self._before is None:
            self._before = self._read()
        word = f"{held.device}:{held.number}:{held.size}:{held.changed}"
        if word not in self._used:
            sha = self._before.get(word)
            if sha is None and len(self._used) < FILES_AT_MOST:
                sha = digest_held(self._host.system, held)
            if sha is None:
                return None
            self._used[word] = sha
        return self._used[word]

    def keep(self) -> None:
        """Remembers what was used, where that is anything new. A host that can't, reads again."""
        if self._before is None or not self._used.keys() - self._before.keys():
            return
        lines = [self._host.system.machine.boot_id()]
        lines += [f"{word} {sha}" for word, sha in self._used.items()]
        try:
            marks.put(self._host.state, digests="".join(f"{line}\n" for line in lines))
        except OSError:
            return

    def _read(self) -> dict[str, str]:
        state = self._host.state
        try:
            if state.entry("digests") is None:
                return {}
            text = state.read("digests", _AT_MOST).decode("utf-8", "replace")
        except OSError:
            return {}
        boot, *lines = text.split("\n")
        if boot != self._host.system.machine.boot_id():
            return {}
        pairs = (line.partition(" ") for line in lines)
        return {word: sha for word, _, sha in pairs if is_digest(sha)}
