"""Which configuration the running process was started with.

A file on the disk says nothing of what a process read before it was changed. An artifact that can
tells the digest of what it read. For one that can't, the agent notes what lay there just before and
just after each start that it makes: the mark ``started``. A start that it did not make has none.
"""

from __future__ import annotations

from deploytool.agent import marks
from deploytool.agent.host import attempt
from deploytool.agent.model import FileDigest, Started
from deploytool.agent.record import Malformed
from deploytool.agent.words import is_digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from deploytool.agent.host import AgentHost
    from deploytool.agent.port import UnitState

_AT_MOST = 64 * 1024
_MISSING, _CHANGED = "missing", "changed"


def digest(host: AgentHost, path: str) -> FileDigest:
    """A file that the inventory or systemd names; without ``sha`` where it can't be read."""
    files = host.system.files
    if not files.exists(path):
        return FileDigest(path=path, missing=True)
    try:
        return FileDigest(path=path, sha=files.digest(path))
    except OSError:
        return FileDigest(path=path)


def digests(host: AgentHost) -> tuple[FileDigest, ...]:
    """Every configuration file that the inventory names, in its order."""
    return tuple(digest(host, path) for path in host.settings.configs)


def note_start(host: AgentHost, state: UnitState, before: tuple[FileDigest, ...]) -> None:
    """Notes what the main process was started with. A file that changed meanwhile has no digest.

    Where that can't be written, there is no note of this start.
    """
    process = host.system.processes.process(state.main) if state.main else None
    if process is None or not before:
        return
    lines = [f"{host.system.machine.boot_id()} {process.pid} {process.start}"]
    for one, after in zip(before, digests(host)):  # of the same settings
        sha = _MISSING if one.missing else one.sha
        lines.append(f"{sha if sha and one == after else _CHANGED} {one.path}")
    with attempt():
        marks.put(host.state, started="".join(f"{line}\n" for line in lines))


def read_start(host: AgentHost) -> Started | None:
    """The last start that was noted here; None without one, or where its note can't be read.

    Of which process it is, only its number, start time and boot tell.
    """
    try:
        if host.state.entry("started") is None:
            return None
        text = host.state.read("started", _AT_MOST).decode("utf-8")
        first, *lines = text.removesuffix("\n").split("\n")
        boot, pid, start = first.split(" ")
        return Started(
            boot=boot,
            pid=marks.number(pid),
            start=marks.number(start),
            configs=tuple(map(_file, lines)),
        )
    except (OSError, ValueError):
        return None


def _file(line: str) -> FileDigest:
    sha, _, path = line.partition(" ")
    if sha == _MISSING:
        return FileDigest(path=path, missing=True)
    if sha != _CHANGED and not is_digest(sha):
        raise Malformed("started", "a SHA-256", sha)
    return FileDigest(path=path, sha=None if sha == _CHANGED else sha)
