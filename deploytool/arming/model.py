"""What a process shows of its flags, and the words for each one's state. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from deploytool.errors import HostFault

ON = frozenset({"provisional", "armed"})
NOT_RUNNING = "not running"
"""The state of every flag where nothing runs: what starts there comes up with all of them off."""
OFF = frozenset({"off", "promised", "absent", NOT_RUNNING})
"""States in which a host obeys nothing: a promise arms nothing, and lapses by itself."""


@dataclass(frozen=True)
class FlagState:
    """One flag as a process shows it; ``since`` in seconds since the epoch."""

    name: str
    bit: int
    state: str
    epoch: int
    since: int | None


@dataclass(frozen=True)
class Shown:
    """What one process says of its flags; ``epoch`` is the newest that its host ever accepted.

    Not ``running``: nobody says anything, for a look showed that nothing runs there.
    """

    flags: tuple[FlagState, ...]
    armed: tuple[str, ...]
    epoch: int
    running: bool = True

    def state(self, flag: str) -> str:
        """The flag's state; ``absent`` where the build has none of that name."""
        if not self.running:
            return NOT_RUNNING
        return next((f.state for f in self.flags if f.name == flag), "absent")

    def bit_of(self, flag: str) -> int | None:
        """The flag's bit; None where the build has none of that name."""
        return next((f.bit for f in self.flags if f.name == flag), None)

    def epoch_of(self, flag: str) -> int:
        """The epoch of the certificate that the flag was last prepared with."""
        return next((f.epoch for f in self.flags if f.name == flag), 0)


NOTHING_RUNS = Shown((), (), 0, running=False)


def bits_said(seen: Mapping[str, Shown | HostFault], flag: str) -> dict[str, int]:
    """The flag's bit by the word of each host that has it."""
    shown = ((host, item) for host, item in seen.items() if isinstance(item, Shown))
    return {host: bit for host, item in shown if (bit := item.bit_of(flag)) is not None}
