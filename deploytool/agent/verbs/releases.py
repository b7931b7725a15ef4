"""What a host holds of a release, hashed where it lies."""

from __future__ import annotations

from deploytool.agent.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from deploytool.agent.host import AgentHost
    from deploytool.agent.model import Inode
    from deploytool.agent.words import Word

MANIFEST = "release.json"


class ReleaseShown(Record):
    """``state``: ``absent``, ``damaged``, ``unlabelled`` (another manifest) or ``intact``.

    ``direct``: its artifact was read past the page cache. ``artifact``: the file that was read.
    """

    state: Word
    direct: bool = False
    artifact: Inode | None = None


def holding(host: AgentHost, release: str, manifest: str | None) -> ReleaseShown:
    """What is here of a release; both what programs read and what a reboot would find is hashed.

    ``manifest`` None: any that can be read will do.
    """
    entry = host.releases.entry(release)
    if entry is None:
        return ReleaseShown(state="absent")
    if entry.kind != "folder":
        return ReleaseShown(state="damaged")
    try:
        folder = host.releases.folder(release)
    except OSError:
        return ReleaseShown(state="damaged")
    try:
        name = host.settings.name
        artifact = folder.entry(name)
        if artifact is None or folder.digest(name) != release:
            return ReleaseShown(state="damaged")
        # Whole is what a reboot would find too: such a copy is neither sent nor read again.
        disk = folder.digest_disk(name)
        if disk.sha != release:
            return ReleaseShown(state="damaged", direct=disk.direct)
        label = folder.digest(MANIFEST)
        labelled = label is not None and manifest in (None, label)
        state = "intact" if labelled else "unlabelled"
        return ReleaseShown(state=state, direct=disk.direct, artifact=artifact.inode)
    except OSError:
        return ReleaseShown(state="damaged")
    finally:
        folder.close()
