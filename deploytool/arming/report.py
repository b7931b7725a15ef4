"""What an arming or a disarming comes to, while it goes on and at its end. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from deploytool.arming.model import ON, Shown
from deploytool.arming.table import Purpose, State
from deploytool.core.finding import Finding
from deploytool.errors import HostFault
from deploytool.parity.model import Round

SENDERS = "senders"
"""What troubles are called that are nobody's on the hosts' side."""
OPERATOR = "operator"


@dataclass
class Report:
    """What it came to. ``trouble``: by host, or side, the last thing that it failed at.

    ``seen`` is what each host showed when it was last asked about its flags, ``in_use`` whether
    the senders showed that they use the bit: None where that is not known.
    """

    purpose: Purpose
    flag: str
    state: State
    bit: int | None = None
    release: str | None = None
    label: str = ""
    epoch: int | None = None
    round: Round | None = None
    obstacles: tuple[Finding, ...] = ()
    trouble: dict[str, Finding] = field(default_factory=dict)
    seen: dict[str, Shown | HostFault] = field(default_factory=dict)
    in_use: bool | None = None
    provisional_s: float | None = None
    window_s: float | None = None
    """From the first commit that was sent to the last settle that was answered, in seconds."""
    interrupted: bool = False
    path: list[State] = field(default_factory=list)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All that it rests on: what forbids it, and what went wrong."""
        return (*self.obstacles, *self.trouble.values())

    @property
    def flag_states(self) -> Mapping[str, str]:
        """Each host's state of the flag in a word, or why it is not known."""
        return {host: _word(item, self.flag) for host, item in self.seen.items()}

    @property
    def on(self) -> tuple[str, ...]:
        """The hosts that were last seen to obey the flag."""
        seen = self.seen.items()
        return tuple(h for h, s in seen if isinstance(s, Shown) and s.state(self.flag) in ON)


def _word(item: Shown | HostFault, flag: str) -> str:
    if isinstance(item, HostFault):
        return f"not known: {item}"
    state = item.state(flag)
    return f"{state} (epoch {item.epoch_of(flag)})" if state in ON else state
