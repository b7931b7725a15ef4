"""The list of members on simulated hosts, and root's shell that reads and replaces it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from deploytool.errors import FaultKind, HostFault
from deploytool.fleet.members import Member, Members, with_hosts
from deploytool.fleet.membership import RootShells
from deploytool.fleet.model import Inventory
from deploytool.fleet.protocol import Reply
from deploytool.simulation.host import SimulatedHost
from deploytool.simulation.memory.computer import machine_id


def listed(inventory: Inventory) -> Members:
    """The list that a preparation of this simulated fleet writes."""
    numbered = enumerate(inventory.names, start=1)
    hosts = [
        Member(name=name, machine=machine_id(number), root=inventory.root(name))
        for number, name in numbered
    ]
    return with_hosts(inventory.fleet, {}, hosts)


def shells(hosts: Mapping[str, SimulatedHost], silent: frozenset[str] = frozenset()) -> RootShells:
    """What ``members.sh`` does, on these hosts; ``silent`` ones let no one in."""

    def ask(host: str, kept: str, members: str) -> Reply:
        if host in silent:
            raise HostFault(FaultKind.UNREACHABLE, "no route to host")
        computer, path = hosts[host].computer, hosts[host].service.settings.members or ""
        content = computer.read(path)
        if members:
            if (hashlib.sha256(content).hexdigest() if content is not None else "") != kept:
                raise HostFault(FaultKind.REFUSED, "its list of members was changed meanwhile")
            content = f"{members}\n".encode()
            computer.put(path, content)
        said = [("machine", computer.machine_id)]
        if content is not None:
            text = content.decode("utf-8", "replace").replace("\n", "")
            said += [("digest", hashlib.sha256(content).hexdigest()), ("list", text)]
        return Reply(tuple(said))

    return ask
