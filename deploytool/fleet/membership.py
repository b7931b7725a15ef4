"""Reads and writes the lists of members on the hosts, as root: who belongs, who comes, who leaves.

A list is written only over the one that was read: of two operators at once, one is refused. What
could not be written is made up for by the next preparation, and until then that host is no MATCH.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from deploytool.errors import FaultKind, HostFault
from deploytool.fleet.fanout import fanout
from deploytool.fleet.known_hosts import read_pins
from deploytool.fleet.members import (
    Member,
    Members,
    NotMembers,
    Shown,
    agree,
    read_members,
    with_hosts,
    without,
)
from deploytool.fleet.model import Inventory
from deploytool.fleet.protocol import Reply
from deploytool.fleet.sshconfig import route

_DEADLINE_S = 150
"""Longer than root's shell is given."""
ABSENT = "no list of members"

RootShells = Callable[[str, str, str], Reply]
"""Asks root on a host, over the list with this digest (empty: none), to keep this text (empty: to
keep what is there); raises HostFault."""
Tell = Callable[[str], None]


@dataclass(frozen=True)
class _Kept:
    """What root showed of a host: its machine-id, and its list with the digest of that file."""

    machine: str
    digest: str
    shown: Shown


def _read(fleet: str, reply: Reply) -> _Kept:
    machine, digest, text = (reply.one(key) or "" for key in ("machine", "digest", "list"))
    if not machine:
        raise HostFault(FaultKind.PROTOCOL, "it did not show its machine-id")
    if not digest:
        return _Kept(machine, "", ABSENT)
    if hashlib.sha256(f"{text}\n".encode()).hexdigest() != digest:
        return _Kept(machine, digest, "it is not one line of text")
    try:
        read = read_members(f"{text}\n")
        return _Kept(machine, digest, read if read.fleet == fleet else f"it is of {read.fleet}")
    except NotMembers as error:
        return _Kept(machine, digest, str(error))


def _each(
    names: Iterable[str], ask: Callable[[str], Reply], fleet: str
) -> dict[str, _Kept | HostFault]:
    jobs = {name: partial(lambda host: _read(fleet, ask(host)), name) for name in names}
    return fanout(jobs, deadline_s=_DEADLINE_S)


def keep_members(
    inventory: Inventory, root: RootShells, failed: Collection[str], tell: Tell
) -> dict[str, HostFault]:
    """Makes every declared host a member, and gives the list to those that don't keep it.

    ``failed``: hosts that could not be prepared; none of them becomes a member now. No list is
    written that lacks a declared host: preparing bare hosts is one act. Returns why a host that
    answered does not keep it.
    """
    seen = _each(inventory.names, lambda host: root(host, "", ""), inventory.fleet)
    kept = {name: item for name, item in seen.items() if isinstance(item, _Kept)}
    shown = {name: item.shown for name, item in kept.items()}
    ready = [name for name in kept if name not in failed]
    listed = {
        host.name for item in shown.values() if isinstance(item, Members) for host in item.hosts
    }
    if missing := sorted({*inventory.names} - {*ready} - listed):
        tell(f"members: no list was written, for these are not prepared: {', '.join(missing)}")
        return {}
    try:
        hosts = [_member(inventory, name, kept[name].machine) for name in ready]
        made = with_hosts(inventory.fleet, shown, hosts)
    except NotMembers as error:
        text = f"no list of members was written: {error}"
        if error.host:
            text += f"; if that one is gone for good: deploytool host retire {error.host} --gone"
        return dict.fromkeys(
            [error.host] if error.host else ready, HostFault(FaultKind.REFUSED, text)
        )
    if beside := sorted(made.names - {*inventory.names}):
        tell(
            f"members: {', '.join(beside)} belong to the fleet, and the inventory does not list "
            "them; one that is gone for good leaves with: deploytool host retire NAME --gone"
        )
    return _write(inventory, root, kept, made, tell)


def strike_member(
    inventory: Inventory, name: str, root: RootShells, tell: Tell
) -> tuple[Members | None, dict[str, HostFault]]:
    """Takes a host off the list, on all other hosts that answer.

    Gives the list that holds now, and why a host that answered does not keep it. Those that did
    not answer get it from the next preparation. None: no list that holds has that host.
    """
    others = [host for host in inventory.names if host != name]
    seen = _each(others, lambda host: root(host, "", ""), inventory.fleet) if others else {}
    kept = {host: item for host, item in seen.items() if isinstance(item, _Kept)}
    shown = {host: item.shown for host, item in kept.items()}
    for host, item in seen.items():
        if isinstance(item, HostFault):
            tell(f"members: {host} did not show its list, and keeps it as it is: {item}")
    try:
        made = without(inventory.fleet, shown, name)
    except NotMembers as error:
        return None, dict.fromkeys(kept, HostFault(FaultKind.REFUSED, str(error)))
    if made is None:
        silent = {host: item for host, item in seen.items() if isinstance(item, HostFault)}
        return None, {} if kept else silent
    return made, _write(inventory, root, kept, made, tell)


def _write(
    inventory: Inventory, root: RootShells, kept: Mapping[str, _Kept], made: Members, tell: Tell
) -> dict[str, HostFault]:
    """Gives the list to each of these hosts that keeps another one, or none."""
    stale = [name for name, item in kept.items() if item.shown != made]
    if not stale:
        return {}
    text = made.text.rstrip("\n")
    written = _each(stale, lambda host: root(host, kept[host].digest, text), inventory.fleet)
    failed = {}
    for name, item in written.items():
        if isinstance(item, HostFault):
            failed[name] = HostFault(item.kind, f"its list of members was not written: {item.text}")
        elif item.shown != made:
            failed[name] = HostFault(FaultKind.PROTOCOL, "it does not show the list it was given")
    done = [name for name in stale if name not in failed]
    names = ", ".join(host.name for host in made.hosts)
    if done:
        tell(f"members: epoch {made.epoch} ({names}) written to {', '.join(done)}")
    if (conflict := agree({n: i.shown for n, i in kept.items()}).conflict) and not failed:
        tell(f"members: settled what contradicted itself: {conflict}")
    return failed


def _member(inventory: Inventory, name: str, machine: str) -> Member:
    keys = _pinned(inventory, name)
    try:
        return Member(name=name, machine=machine, root=inventory.root(name), keys=keys)
    except ValueError as error:  # what a host calls its machine-id
        raise NotMembers(f"{name}: {error}", name) from error


def _pinned(inventory: Inventory, name: str) -> tuple[str, ...]:
    """The fingerprints of the keys that this host is known by."""
    way = route(inventory, name)
    pins = read_pins(Path(inventory.ssh.known_hosts)).under(way.key_name, way.other_name)
    return tuple(sorted(pin.fingerprint for pin in pins))
