"""Whom the hosts' own list of members names, and the inventory does not. Pure.

A stop tells its targets first and reads this afterwards, out of what they answered.
"""

from __future__ import annotations

from deploytool.stop.model import Listed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from deploytool.agent.model import MembersFile
    from deploytool.stop.model import HostOutcome


def listed(kept: MembersFile | None) -> Listed | None:
    """Whom a host's list names; None where it keeps none, or one that can't be read."""
    if kept is None or kept.text is None:
        return None
    from deploytool.fleet.members import NotMembers, read_members

    try:
        read = read_members(kept.text)
    except NotMembers:
        return None
    return Listed(read.epoch, tuple(sorted(read.names)))


def unlisted(climbed: Iterable[HostOutcome], declared: Collection[str]) -> tuple[str, ...]:
    """Members that the inventory lacks, by the newest list that a host showed.

    Where two of one epoch differ, whom any of them names counts.
    """
    lists = [one.members for one in climbed if one.members is not None]
    newest = max((one.epoch for one in lists), default=0)
    names = {name for one in lists if one.epoch == newest for name in one.names}
    return tuple(sorted(names - set(declared)))
