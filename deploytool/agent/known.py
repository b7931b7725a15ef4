"""Which releases this host knows of, also after their folders were removed.

A copy of an old build is found by size and digest, so the mark ``known`` keeps both of every
release that was ever seen here: lines ``SHA-256 size``, the newest last.
"""

from __future__ import annotations

from deploytool.agent import marks
from deploytool.agent.model import KnownRelease
from deploytool.agent.record import Malformed
from deploytool.agent.words import is_digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from deploytool.agent.host import AgentHost
    from deploytool.agent.port import Folder

REMEMBERED = 512
"""So many of the newest; a line has less than 100 bytes."""
_AT_MOST = 64 * 1024


def releases(
    host: AgentHost, asked: Iterable[KnownRelease] = (), *, keep: bool
) -> tuple[KnownRelease, ...]:
    """What was ever seen here, what lies here now, and what the request asks for.

    ``keep``: what is new is remembered. A host that can't write is asked all the same: that it
    can't is told by the trial of its marks (``evidence``).

    Raises:
        OSError: the folder of releases can't be listed.
    """
    before = _remembered(host.state)
    found = dict.fromkeys(before)
    remembered = {release.sha for release in before}
    for name in host.releases.names():
        if is_digest(name) and name not in remembered:
            size = _size(host, name)
            if size is not None:
                found[KnownRelease(sha=name, size=size)] = None
    found.update(dict.fromkeys(asked))
    if keep and len(found) > len(before):
        _remember(host.state, list(found)[-REMEMBERED:])
    return tuple(found)


def _size(host: AgentHost, name: str) -> int | None:
    try:
        folder = host.releases.folder(name)
    except OSError:
        return None
    try:
        entry = folder.entry(host.settings.name)
    except OSError:
        return None
    finally:
        folder.close()
    return entry.inode.size if entry is not None and entry.kind == "file" else None


def _remembered(state: Folder) -> list[KnownRelease]:
    """A line that can't be read says nothing; what lies here is found again."""
    try:
        if state.entry("known") is None:
            return []
        text = state.read("known", _AT_MOST).decode("utf-8", "replace")
    except OSError:
        return []
    found = []
    for line in text.split("\n"):
        sha, _, size = line.partition(" ")
        try:
            found.append(KnownRelease(sha=sha, size=marks.number(size)))
        except Malformed:
            continue
    return found


def _remember(state: Folder, listed: list[KnownRelease]) -> None:
    text = "".join(f"{release.sha} {release.size}\n" for release in listed)
    try:
        marks.put(state, known=text)
    except OSError:
        return
