"""What a throwaway fleet is: frozen values, and what every kind of it can do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from pathlib import Path

    from deploytool.rehearsal.fleets.run import Outcome

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


@dataclass(frozen=True)
class FleetStatus:
    """What is there of a fleet now; ``incomplete``: never finished, or a host is not running."""

    kind: Kind
    folder: Path
    state: FleetState
    hosts: tuple[HostStatus, ...] = ()


class Throwaway(Protocol):
    """A fleet that can be brought up and taken away."""

    @property
    def kind(self) -> Kind:
        """Which kind it is."""

    @property
    def folder(self) -> Path:
        """The folder that holds everything of it that is not a process or a container."""

    @property
    def inventory(self) -> Path:
        """Its inventory; there once ``up`` has finished."""

    def record(self) -> FleetRecord | None:
        """What was written down of it; nothing when there is no fleet."""

    def up(self, count: int, progress: Progress) -> Path:
        """Brings ``count`` hosts up, readies them, and gives the path of the inventory."""

    def down(self, progress: Progress) -> tuple[str, ...]:
        """Takes everything away, and names what was removed; nothing when there was nothing."""

    def status(self) -> FleetStatus:
        """Looks at what is there now."""


@runtime_checkable
class Machines(Throwaway, Protocol):
    """A fleet whose hosts have a power switch and a network cable each, and a root account."""

    def inside(
        self, host: str, argv: Sequence[str], stdin: str = "", timeout_s: float = 20.0
    ) -> Outcome:
        """Runs a program as root on a host, past deploytool."""

    def pause(self, host: str) -> None:
        """Freezes a host: it hangs, and its connections stay open."""

    def unpause(self, host: str) -> None:
        """Lets a frozen host go on."""

    def kill(self, host: str) -> None:
        """Ends a host at once, as a power cut does."""

    def start(self, host: str) -> None:
        """Boots a host that was killed, and waits for its SSH server."""

    def reset(self, host: str) -> None:
        """Pulls a host's power and gives it back at once; does not wait until it is up."""

    def await_boot(self, host: str) -> None:
        """Waits for the SSH server of a host that was reset."""

    def kill_when(self, host: str, condition: str) -> AbstractContextManager[None]:
        """Within the block a host loses its power as soon as a shell ``condition`` holds there."""

    def cut_off(self, host: str) -> AbstractContextManager[None]:
        """Pulls a host's network cable for the length of the block."""
