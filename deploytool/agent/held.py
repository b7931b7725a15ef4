"""Digests of files that processes hold: what a process runs, and not what its name says by now."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from deploytool.agent.port import HeldFile, System


def digest_held(system: System, held: HeldFile) -> str | None:
    """SHA-256 by way of the process that holds it; None where it can't be read.

    By its name where that process has ended meanwhile, or the kernel keeps ``map_files`` from this
    account (a container's root): if the name leads to the very same file, before and after.
    """
    try:
        return system.processes.digest(held) or _by_name(system, held)
    except OSError:
        return None


def _by_name(system: System, held: HeldFile) -> str | None:
    if held.how == "argument" or held.deleted or not _is_there(system, held):
        return None
    sha = system.files.digest(held.path)
    return sha if _is_there(system, held) else None


def _is_there(system: System, held: HeldFile) -> bool:
    """Whether its name leads to this very file, unchanged since it was seen."""
    found = system.files.inode(held.path)
    if found is None:
        return False
    same = (found.device, found.number, found.size) == (held.device, held.number, held.size)
    return same and found.changed == held.changed
