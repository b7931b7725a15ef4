"""The fleet's own list of its hosts, as this host keeps it; what it says, the operator reads."""

from __future__ import annotations

from deploytool.agent.model import MembersFile
from deploytool.agent.words import DOCUMENT_AT_MOST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from deploytool.agent.host import AgentHost
    from deploytool.agent.model import Rights


def members_file(host: AgentHost) -> MembersFile | None:
    """The list, and whose it is; None where no root keeps one."""
    path, files = host.settings.members, host.system.files
    if path is None:
        return None
    text = None
    try:
        text = files.read(path, DOCUMENT_AT_MOST).decode("utf-8")
    except (OSError, UnicodeDecodeError):
        if not files.exists(path):
            return MembersFile(missing=True)
    return MembersFile(text=text, rights=rights_at(host, path))


def rights_at(host: AgentHost, path: str) -> tuple[Rights, ...]:
    """Of a file and its folder; fewer where one is not there."""
    inodes = (host.system.files.inode(p) for p in (path, path.rpartition("/")[0] or "/"))
    return tuple(inode.rights for inode in inodes if inode is not None)
