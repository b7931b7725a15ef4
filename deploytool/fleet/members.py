"""Who belongs to a fleet: one document, which every member keeps as root's own file. Pure.

An inventory is a file on one machine, and may list seven hosts of eight. The members' own document
says who the eight are. Each change of it is a new epoch, and names the digests of the documents
that it replaced: so a host that was away is told from one of another fleet's past.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from deploytool.agent.record import Malformed, Record
from deploytool.agent.words import DOCUMENT_AT_MOST
from deploytool.fleet.names import HOST

if TYPE_CHECKING:
    from deploytool.agent.words import Count, Digest, Path, Text, Word

REMEMBERED = 16
"""So many replaced documents are named: a host that missed more is settled by a preparation."""


class Member(Record):
    """One host: its machine-id and release root, and the keys that its SSH server was pinned by."""

    name: Word
    machine: Word
    root: Path
    keys: tuple[Text, ...] = ()

    @property
    def identity(self) -> tuple[str, str]:
        """What makes it one host: eight release roots on one machine are eight hosts."""
        return self.machine, self.root


class Members(Record):
    """The document. ``before``: digests of those that it replaced, the newest last."""

    fleet: Word
    epoch: Count
    before: tuple[Digest, ...] = ()
    hosts: tuple[Member, ...]

    @property
    def text(self) -> str:
        """It as a file, always the same bytes."""
        return json.dumps(self.to_json(), sort_keys=True, separators=(",", ":")) + "\n"

    @property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.text.encode("ascii")).hexdigest()

    @property
    def names(self) -> frozenset[str]:
        """The names of the members."""
        return frozenset(host.name for host in self.hosts)

    def member(self, name: str) -> Member | None:
        """The member of this name; None where there is none."""
        return next((host for host in self.hosts if host.name == name), None)

    def replaced(self, other: Members) -> bool:
        """Whether it came out of ``other``, at once or over several epochs."""
        return self.epoch > other.epoch and other.digest in self.before


class NotMembers(ValueError):
    """A file, or a change, that can't be a fleet's document; says why, and of which host."""

    def __init__(self, text: str, host: str = "") -> None:
        super().__init__(text)
        self.host = host


def read_members(text: str) -> Members:
    """The document in ``text``.

    Raises:
        NotMembers: it is not one.
    """
    try:
        read = Members.from_json(json.loads(text), "members", strict=True)
    except (ValueError, RecursionError, Malformed) as error:
        raise NotMembers(f"it is not a list of members: {error}") from error
    if read.text != text:
        raise NotMembers("it is not written as a preparation writes it")
    _check(read)
    return read


def _check(members: Members) -> None:
    """Makes sure that it could have been written by a preparation.

    Raises:
        NotMembers: it could not.
    """
    identities = [host.identity for host in members.hosts]
    if not members.hosts:
        raise NotMembers("it names no host")
    if not all(re.fullmatch(HOST, name) for name in members.names):  # they end up in advice
        raise NotMembers("it names a host as none can be named")
    if len(members.names) != len(members.hosts) or len(set(identities)) != len(identities):
        raise NotMembers("it names a host twice")
    if members.epoch < 1 or len(members.before) > REMEMBERED:
        raise NotMembers("its epoch, or what it replaced, can't be")
    if len(members.text) > DOCUMENT_AT_MOST:
        raise NotMembers(f"it is larger than {DOCUMENT_AT_MOST} bytes")


Shown = Members | str
"""What one host keeps: its document, or why there is none."""


@dataclass(frozen=True)
class Agreement:
    """What the documents of several hosts come to.

    ``newest``: the one that holds; None where none does. ``lacking``: of each host that does not
    keep it, why. ``conflict``: why no document holds although some are there.
    """

    newest: Members | None
    lacking: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    conflict: str = ""


def agree(shown: Mapping[str, Shown] | Mapping[str, Members]) -> Agreement:
    """The document that holds: the one of the highest epoch, if it replaced every other.

    A host that keeps none, or one that can't be read, does not decide which one holds.
    """
    kept = {host: item for host, item in shown.items() if isinstance(item, Members)}
    lacking = {host: item for host, item in shown.items() if isinstance(item, str)}
    if not kept:
        return Agreement(None, lacking)
    newest = max(kept.values(), key=lambda item: item.epoch)
    for host, item in kept.items():
        if item == newest:
            continue
        if not newest.replaced(item):
            other = next(name for name, one in kept.items() if one == newest)
            why = (
                f"epoch {item.epoch} on {host} and epoch {newest.epoch} on {other} "
                "do not come from each other"
            )
            return Agreement(None, lacking | dict.fromkeys(kept, why), why)
        lacking[host] = f"epoch {item.epoch}, which epoch {newest.epoch} replaced"
    return Agreement(newest, lacking)


def belongs(shown: Mapping[str, Shown] | Mapping[str, Members], name: str) -> Member | None:
    """The member of this name, where the document that holds has it.

    Where documents contradict each other, each of them must have it.
    """
    agreed = agree(shown)
    kept = [item for item in shown.values() if isinstance(item, Members)]
    counting = [agreed.newest] if agreed.newest is not None else kept
    found = [item.member(name) for item in counting]
    return found[-1] if found and all(found) else None


def with_hosts(fleet: str, shown: Mapping[str, Shown], hosts: Iterable[Member]) -> Members:
    """The document that has the members of the one that holds, and these hosts.

    It is that one where nothing changes, else a new epoch. Contradictions end with it: a member
    that any of the documents has stays one, until it is retired.

    Raises:
        NotMembers: a host is another machine than the member of its name, or the same as another.
    """
    newest = agree(shown).newest
    kept = (newest,) if newest is not None else _by_epoch(shown)
    members = {host.name: host for item in kept for host in item.hosts}
    for host in hosts:
        known = members.get(host.name)
        if known is not None and known.identity != host.identity:
            text = f"{host.name} is another machine, or release root, than the member of its name"
            raise NotMembers(text, host.name)
        members[host.name] = host
    made = _next(fleet, kept, members.values())
    return newest if newest is not None and newest.hosts == made.hosts else made


def without(fleet: str, shown: Mapping[str, Shown], name: str) -> Members | None:
    """The document without this member; None where no document holds that has it.

    Raises:
        NotMembers: documents contradict each other, or no member would be left.
    """
    agreed = agree(shown)
    if agreed.conflict:
        raise NotMembers(agreed.conflict)
    if agreed.newest is None or name not in agreed.newest.names:
        return None
    left = [host for host in agreed.newest.hosts if host.name != name]
    return _next(fleet, (agreed.newest,), left)


def _by_epoch(shown: Mapping[str, Shown]) -> tuple[Members, ...]:
    """Each document once, the newest last."""
    kept = {item.digest: item for item in shown.values() if isinstance(item, Members)}
    return tuple(sorted(kept.values(), key=lambda item: (item.epoch, item.digest)))


def _next(fleet: str, kept: tuple[Members, ...], hosts: Iterable[Member]) -> Members:
    """The document that replaces these."""
    replaced: dict[str, None] = {}
    for digest in (digest for item in kept for digest in item.before):
        replaced.setdefault(digest)
    for item in kept:  # those on the hosts now must not be crowded out
        replaced.pop(item.digest, None)
        replaced[item.digest] = None
    made = Members(
        fleet=fleet,
        epoch=max((item.epoch for item in kept), default=0) + 1,
        before=tuple(replaced)[-REMEMBERED:],
        hosts=tuple(sorted(hosts, key=lambda host: host.name)),
    )
    _check(made)
    return made
