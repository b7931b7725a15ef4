"""What every kind of throwaway fleet can do, and what it is seen to be now."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from deploytool.rehearsal.fleets.model import FleetRecord, FleetState, HostStatus, Kind, Progress

if TYPE_CHECKING:
    from pathlib import Path

    from deploytool.rehearsal.fleets.run import Outcome


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
