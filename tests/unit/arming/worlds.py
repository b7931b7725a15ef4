"""A fleet in memory, its senders, and operators who arm flags on it; what is true is looked up."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from deploytool.arming.checks import Census, SenderObservation
from deploytool.arming.outcome import conclude
from deploytool.arming.report import Report
from deploytool.arming.runner import Runner
from deploytool.arming.table import Purpose, State
from deploytool.errors import DeploytoolError, FaultKind, HostFault
from deploytool.parity.judge import judge, shown_manifest
from deploytool.parity.model import RoundAnswers
from deploytool.parity.round import look, probe_request
from deploytool.simulation import board, fleet
from deploytool.simulation.flags import board_of
from deploytool.simulation.host import SimulatedHost

from .fleets import NAMES, NEW, NEW_BUILD, declared, rendered

FLAG, BIT = "RETAIL", 4
ANNA = board.sign(fleet.OPERATOR)


class Told(Enum):
    """What goes wrong with a command to the senders."""

    LOST_BEFORE = "it does not reach them"
    LOST_AFTER = "they do it, and the answer is lost"
    IGNORED = "they say that they do it, and don't"


@dataclass
class Market:
    """The senders, and who knows who serves."""

    bits: set[int] = field(default_factory=lambda: {0})
    sessions: dict[str, frozenset[str]] = field(
        default_factory=lambda: {name: frozenset({NEW.sha256}) for name in NAMES}
    )
    serving: frozenset[str] = frozenset(NAMES)
    skew_s: float = 0.0
    wrong: dict[str, Told] = field(default_factory=dict)
    heard: Callable[[str], None] = lambda _what: None

    def _do(self, what: str, act: Callable[[], None]) -> None:
        self.heard(what)
        wrong = self.wrong.get(what)
        if wrong is Told.LOST_BEFORE:
            raise HostFault(FaultKind.TIMEOUT, "no answer", in_doubt=True)
        if wrong is not Told.IGNORED:
            act()
        if wrong is Told.LOST_AFTER:
            raise HostFault(FaultKind.TIMEOUT, "no answer", in_doubt=True)

    def use(self, flag: str, bit: int, release: str) -> None:
        assert (flag, bit, release) == (FLAG, BIT, NEW.sha256)
        self._do("use", lambda: self.bits.add(bit))

    def withdraw(self, flag: str, bit: int | None) -> None:
        assert flag
        self._do("withdraw", lambda: self.bits.discard(-1 if bit is None else bit))

    def observe(self) -> SenderObservation:
        self._do("observe", lambda: None)
        return SenderObservation(
            time.time() + self.skew_s, frozenset(self.bits), dict(self.sessions)
        )

    def census(self) -> Census:
        self._do("census", lambda: None)
        return Census(time.time() + self.skew_s, self.serving)


class Silent:
    """Nobody watches; but something may happen at each state."""

    def __init__(self, at: Callable[[State], None] = lambda _state: None) -> None:
        self.at = at

    def state(self, state: Enum, hosts: tuple[str, ...]) -> None:
        assert hosts == NAMES
        self.at(State(state))

    def host(self, host: str, text: str, *, good: bool | None) -> None:
        assert host
        assert text or good is None


@dataclass
class World:
    """Eight hosts on the new build, unless others are given."""

    hosts: dict[str, SimulatedHost] = field(
        default_factory=lambda: fleet.fleet_of(rendered(), NEW_BUILD)
    )
    market: Market = field(default_factory=Market)

    def change(
        self,
        purpose: Purpose,
        *,
        at: Callable[[State], None] = lambda _state: None,
        interrupted: Callable[[], bool] = lambda: False,
        sign: Callable[[bytes], str] = ANNA,
        flag: str = FLAG,
    ) -> tuple[Report, DeploytoolError | None]:
        """One operator, to the end."""
        report = Runner(
            declared(),
            self.hosts,
            flag,
            self.market,
            Silent(at),
            purpose=purpose,
            sign=sign,
            interrupted=interrupted,
            pause=lambda _s: None,
        ).run()
        return report, conclude(report, "inventory.yaml")

    def pass_time(self, seconds: float) -> None:
        """What was not settled in time lapses."""
        for host in self.hosts.values():
            host.pass_time(seconds)

    @property
    def truth(self) -> Mapping[str, str]:
        """What each process really does with the flag: on or off, never asked through a probe."""
        return {name: "on" if _on(host) else "off" for name, host in self.hosts.items()}

    @property
    def all_off(self) -> bool:
        return set(self.truth.values()) == {"off"}

    @property
    def all_on(self) -> bool:
        return set(self.truth.values()) == {"on"}

    def look(self) -> RoundAnswers:
        """One evidence round, whatever struck before."""
        return {name: look(h, probe_request(), 5) for name, h in self.hosts.items()}

    def odd_by_status(self) -> set[str]:
        """The hosts that an evidence round finds fault with."""
        seen = self.look()
        taken = judge(declared(), seen, shown_manifest(seen))
        return {verdict.host for verdict in taken.hosts if verdict.findings}


def _on(host: SimulatedHost) -> bool:
    made = board_of(host.service)
    return made is not None and FLAG in made.armed(host.computer.uptime)


def code(error: DeploytoolError | None) -> int:
    return 0 if error is None else error.exit_code
