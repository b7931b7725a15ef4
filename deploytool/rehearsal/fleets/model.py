"""What a throwaway fleet is: frozen values. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["local", "container", "vagrant"]
Phase = Literal["rising", "up"]
HostState = Literal["running", "paused", "stopped", "missing"]
FleetState = Literal["absent", "incomplete", "up"]

Progress = Callable[[str], None]
"""Takes one line for the person who waits."""

HOSTS_AT_MOST = 64


def silent(_line: str) -> None:
    """A progress that nobody watches."""


@dataclass(frozen=True)
class Endpoint:
    """An address and a port of this machine."""

    host: str
    port: int


@dataclass(frozen=True)
class Client:
    """Who may send orders to the routers of this fleet."""

    user: str
    password: str


@dataclass(frozen=True)
class HostRecord:
    """One host as it was planned, and, once it runs, by what it is known to this machine."""

    name: str
    address: str
    port: int
    listen: str
    container: str | None = None
    pid: int | None = None
    start_ticks: int | None = None


@dataclass(frozen=True)
class FleetRecord:
    """What ``fleet.json`` says. It is written before anything else of the fleet exists.

    ``engine`` runs the hosts (podman, docker, libvirt...). ``factor``: how many times slower than
    a usual host these are; every deadline of the fleet is stretched by it.
    """

    id: str
    kind: Kind
    phase: Phase
    hosts: tuple[HostRecord, ...]
    market: Endpoint
    client: Client
    engine: str | None = None
    network: str | None = None
    subnet: str | None = None
    factor: float = 1.0
    schema: Literal[1] = 1


@dataclass(frozen=True)
class HostStatus:
    """What one host does now."""

    name: str
    state: HostState
    address: str
    port: int
