"""A Vagrant fleet before it is there: its record, its network, and where its machines are then."""

from __future__ import annotations

import ipaddress
import random
import secrets
from collections.abc import Mapping
from dataclasses import replace

from deploytool.errors import EnvironmentProblem
from deploytool.rehearsal.fleets import hypervisor
from deploytool.rehearsal.fleets.model import Client, Endpoint, FleetRecord, HostRecord
from deploytool.rehearsal.fleets.vagrantcmd import VagrantLogin

_MARKET_PORT = 9001
_ROUTER_PORT = 7001
_SUBNETS_TRIED = 50
_VIRTUALBOX_NET = "192.168.56"
"""The one range that VirtualBox gives to such networks without being configured."""


def plan(identity: str, network: str, count: int, provider: str) -> FleetRecord:
    """The fleet before anything of it exists; addresses come with the machines.

    Raises:
        EnvironmentProblem: no free network was found for it.
    """
    isolated = provider == "libvirt"
    net = _free_net() if isolated else _VIRTUALBOX_NET
    hosts = tuple(
        HostRecord(
            name=f"router{number}",
            address="",
            port=22,
            listen=f"{'0.0.0.0' if isolated else f'{net}.{10 + number}'}:{_ROUTER_PORT}",  # noqa: S104
        )
        for number in range(1, count + 1)
    )
    return FleetRecord(
        id=identity,
        kind="vagrant",
        phase="rising",
        hosts=hosts,
        market=Endpoint(f"{net}.1", _MARKET_PORT),
        client=Client("GATE01", secrets.token_hex(5)),
        engine=provider,
        network=network,
        subnet=f"{net}.0/24",
    )


def addressed(record: FleetRecord, ways: Mapping[str, VagrantLogin]) -> FleetRecord:
    """The fleet with the addresses that Vagrant gives for its machines.

    Raises:
        EnvironmentProblem: it gives none for one of them.
    """
    lacking = [host.name for host in record.hosts if host.name not in ways]
    if lacking:
        raise EnvironmentProblem(
            f"Vagrant names no way into {', '.join(lacking)}.",
            "The fleet is not up.",
            "See why: deploytool fleet status --fleet vagrant",
        )
    hosts = tuple(
        replace(host, address=ways[host.name].address, port=ways[host.name].port)
        for host in record.hosts
    )
    return replace(record, hosts=hosts)


def _free_net() -> str:
    """The first three parts of a private /24 that this machine has no address in."""
    taken = [ipaddress.ip_network(text, strict=False) for text in hypervisor.subnets()]
    for _ in range(_SUBNETS_TRIED):
        net = f"10.{random.randrange(200, 250)}.{random.randrange(256)}"  # noqa: S311 (only spread)
        mine = ipaddress.ip_network(f"{net}.0/24")
        if not any(mine.overlaps(other) for other in taken):
            return net
    raise EnvironmentProblem(
        f"No free network was found in {_SUBNETS_TRIED} tries.",
        "Nothing was started.",
        "See which this machine has: ip -4 addr",
    )
