"""Arms or disarms one flag: asks the table what is next, has it done, and tells the table.

Nothing is written down on the operator's machine: the hosts and the senders are what there is. An
operator who is gone leaves what ``flags status`` shows and ``flags disarm`` ends, from anywhere.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping

from deploytool.agent.model import KnownRelease
from deploytool.arming.asking import ask_outside, idle
from deploytool.arming.certificate import certify, next_epoch
from deploytool.arming.checks import (
    AGE_AT_MOST_S,
    SenderObservation,
    Situation,
    find_flag,
    obstacles,
)
from deploytool.arming.hosts import FlagHosts
from deploytool.arming.keys import Signing
from deploytool.arming.model import NOTHING_RUNS, OFF, ON, Shown, bits_said
from deploytool.arming.report import OPERATOR, SENDERS, Report
from deploytool.arming.senders import Outside, of_now
from deploytool.arming.table import ENDS, FIRST, TABLE, Effect, Event, Purpose, State
from deploytool.core.faults import came_of, fault_finding, faults_of
from deploytool.core.finding import trouble
from deploytool.core.machine import run
from deploytool.core.observer import Observer
from deploytool.errors import DeploytoolError, HostFault, IllegalEvent
from deploytool.fleet.host import Host
from deploytool.fleet.model import Inventory
from deploytool.fleet.sealed import seal
from deploytool.parity.judge import judge, shown_manifest
from deploytool.parity.round import probe_request, take_round

_STEPS_AT_MOST = 32
_POLL_S = 0.05
_BREAKABLE = frozenset(State) - ENDS - {State.CLOSING, State.WITHDRAWING, State.PROVING_OFF}
"""Where the user may break it off; on the way back there is nothing safer than to go on."""


class Runner:
    """One arming or disarming of one flag on one fleet.

    ``sign`` makes the armoured signature over a certificate; it is not asked when disarming.
    """

    def __init__(
        self,
        inventory: Inventory,
        hosts: Mapping[str, Host],
        flag: str,
        outside: Outside,
        observer: Observer,
        *,
        purpose: Purpose,
        sign: Signing,
        interrupted: Callable[[], bool] = lambda: False,
        pause: Callable[[float], None] = time.sleep,
        known: tuple[KnownRelease, ...] = (),
    ) -> None:
        self.report = Report(purpose, flag, FIRST[purpose].state)
        self._inventory = inventory
        self._hosts = hosts
        self._flag = flag
        self._outside = outside
        self._observer = observer
        self._sign_with = sign
        self._interrupted = interrupted
        self._pause = pause
        self._known = known
        self._routers = FlagHosts(hosts, inventory.ssh.command_timeout_s, self._done)
        self._taken = 0.0
        self._meaning = ""
        self._nonces: dict[str, str] = {}
        self._epochs: set[int] = set()
        self._sealed = ""
        self._committed_at: float | None = None
        self._perform: Mapping[Effect, Callable[[], Event]] = {
            Effect.CHECK: self._check,
            Effect.ASK_NONCES: self._ask_nonces,
            Effect.SIGN: self._sign,
            Effect.PREPARE: self._prepare,
            Effect.COMMIT: self._commit,
            Effect.OBSERVE_ARMED: self._observe_armed,
            Effect.SETTLE: self._settle,
            Effect.PROVE_ARMED: self._prove_armed,
            Effect.OPEN_SENDERS: self._open_senders,
            Effect.CLOSE_SENDERS: self._close_senders,
            Effect.DISARM: self._disarm,
            Effect.PROVE_OFF: self._prove_off,
        }

    def run(self) -> Report:
        """Runs it to one of the table's ends.

        Raises:
            IllegalEvent: a bug; what was reached is in the report.
        """
        first = FIRST[self.report.purpose]
        run(TABLE, first, self._enter, self._step, steps_at_most=_STEPS_AT_MOST)
        return self.report

    def _enter(self, state: State) -> None:
        self.report.state = state
        self.report.path.append(state)

    def _step(self, state: State, effect: Effect) -> Event:
        if state in _BREAKABLE and self._interrupted():
            self.report.interrupted = True
            return Event.INTERRUPTED
        self._observer.state(state, self._inventory.names)
        return self._perform[effect]()

    # --- before anything is committed -----------------------------------------------------------

    def _check(self) -> Event:
        self._taken = time.time()
        outside = ask_outside(self._inventory, self._outside)
        request = probe_request(known=self._known, whole=True)
        seen = take_round(self._hosts, request, self._inventory.ssh.command_timeout_s)
        census, gateway = outside()
        manifest = shown_manifest(seen)
        taken = judge(self._inventory, seen, manifest)
        self.report.round, self.report.label = taken, taken.label
        situation = Situation(
            flag=self._flag,
            declared=self._inventory.names,
            round=taken,
            manifest=manifest,
            taken=self._taken,
            now=time.time(),
            census=census,
            gateway=gateway,
        )
        self.report.obstacles = obstacles(situation)
        if self.report.obstacles:
            return Event.REFUSED
        entry = find_flag(manifest, self._flag)
        self._meaning, self.report.bit, self.report.release = entry.digest, entry.bit, taken.release
        return Event.ALLOWED

    def _ask_nonces(self) -> Event:
        outcomes = self._routers.nonces(self._flag)
        given = {h: item for h, item in outcomes.items() if not isinstance(item, HostFault)}
        self._nonces = {host: nonce for host, (nonce, _) in given.items()}
        self._epochs = {epoch for _, epoch in given.values()}
        return self._event(outcomes, Event.NONCES)

    def _sign(self) -> Event:
        now = time.time()
        if self.report.round is None:
            raise IllegalEvent("there is no round to certify")
        if now - self._taken > AGE_AT_MOST_S:
            self._note(OPERATOR, "round", f"the evidence round is {now - self._taken:.0f} s old")
            return Event.FAILED
        self.report.epoch = next_epoch(self._epochs, int(now))
        try:
            certificate = certify(
                self._inventory,
                self.report.round,
                self._nonces,
                {self._flag: self._meaning},
                nonce=secrets.token_hex(32),
                now=int(now),
                epoch=self.report.epoch,
            )
            line = certificate.canonical()
            self._sealed = seal(line, self._sign_with(line))
        except (DeploytoolError, ValueError) as error:
            self._note(OPERATOR, "certificate", f"no certificate was made: {error}")
            return Event.FAILED
        return Event.SIGNED

    def _prepare(self) -> Event:
        epoch = self.report.epoch or 0
        return self._event(self._routers.prepare(self._flag, self._sealed, epoch), Event.PROMISED)

    # --- the short while in which not all are alike ---------------------------------------------

    def _commit(self) -> Event:
        self._committed_at = time.monotonic()
        outcomes = self._routers.commit(self._flag)
        for_s = [item for item in outcomes.values() if not isinstance(item, HostFault)]
        self.report.provisional_s = max(for_s, default=None)
        return self._event(outcomes, Event.COMMITTED)

    def _observe_armed(self) -> Event:
        return self._see(ON, Event.SEEN_ARMED)

    def _settle(self) -> Event:
        event = self._event(self._routers.settle(self._flag), Event.SETTLED)
        if self._committed_at is not None:
            self.report.window_s = time.monotonic() - self._committed_at
        return event

    def _prove_armed(self) -> Event:
        return self._see(frozenset({"armed"}), Event.SEEN_SETTLED)

    def _see(self, wanted: frozenset[str], good: Event) -> Event:
        """Whether every host shows the flag in one of these states, by this very certificate."""
        self.report.seen = dict(self._routers.observe())
        for host, item in self.report.seen.items():
            if isinstance(item, HostFault):
                self.report.trouble[host] = fault_finding(host, item)
            elif (state := item.state(self._flag)) not in wanted:
                self._note(host, "flag-state", f"{self._flag} is {state} there", state=state)
            elif (other := item.epoch_of(self._flag)) != self.report.epoch:
                text = f"armed by another certificate, epoch {other}"
                self._note(host, "flag-epoch", text, epoch=other)
            else:
                continue
            self._observer.host(host, self.report.trouble[host].text, good=False)
        if not self.report.seen.keys() & self.report.trouble.keys():
            return good
        faults = any(isinstance(item, HostFault) for item in self.report.seen.values())
        return Event.UNKNOWN if faults else Event.FAILED

    # --- the senders ----------------------------------------------------------------------------

    def _open_senders(self) -> Event:
        bit, release = self.report.bit, self.report.release
        if bit is None or release is None:
            raise IllegalEvent("nothing was certified")

        def wrong(shown: SenderObservation) -> str:
            others = {h: s for h, s in shown.sessions.items() if s != {release}}
            if {*shown.sessions} != {*self._inventory.names} or others:
                return "they are not logged in to the certified release on every host"
            return "" if bit in shown.bits else f"they don't use bit {bit}"

        event = self._tell(lambda: self._outside.use(self._flag, bit, release), wrong, Event.IN_USE)
        # Somebody else may have disarmed while the senders were told: the last word is the hosts'.
        return event if event is not Event.IN_USE else self._see(frozenset({"armed"}), event)

    def _close_senders(self) -> Event:
        bit = self.report.bit
        if bit is None:  # by the first host that can say: one that hangs must not hold this up
            bit = self._routers.find_bit(self._flag, self._inventory.ssh.connect_timeout_s)
        self.report.bit = bit

        def wrong(shown: SenderObservation) -> str:
            if bit is None:
                return f"no host could say which bit {self._flag} is"
            return f"bit {bit} is still in use, or in open orders" if bit in shown.bits else ""

        return self._tell(lambda: self._outside.withdraw(self._flag, bit), wrong, Event.WITHDRAWN)

    def _tell(
        self, tell: Callable[[], None], wrong: Callable[[SenderObservation], str], good: Event
    ) -> Event:
        """Tells the senders, and watches until they show what they were told, or time is up."""
        self.report.trouble.pop(SENDERS, None)
        gateway = self._inventory.gateway
        ends = time.monotonic() + (gateway.timeout_s if gateway else 0.0)
        try:
            tell()
            while why := wrong(self._watch()):
                if time.monotonic() > ends:
                    self._senders(why)
                    return Event.FAILED
                self._pause(_POLL_S)
        except HostFault as fault:
            self._senders(str(fault))
            return Event.UNKNOWN
        self._observer.host(SENDERS, good.value, good=True)
        return good

    def _watch(self) -> SenderObservation:
        """What the senders show now."""
        self.report.in_use = None
        shown = of_now(self._outside.observe(), time.time())
        if self.report.bit is not None:
            self.report.in_use = self.report.bit in shown.bits
        return shown

    def _senders(self, why: str) -> None:
        self._note(SENDERS, "senders", why)
        self._observer.host(SENDERS, why, good=False)

    # --- back -----------------------------------------------------------------------------------

    def _disarm(self) -> Event:
        return self._event(self._routers.disarm(self._flag), Event.DISARMED)

    def _prove_off(self) -> Event:
        """Looks at every host and at the senders, whatever was heard before."""
        event = Event.SEEN_OFF
        self.report.seen = dict(self._routers.observe(insist=True))
        self._look_where_nobody_answers()
        for host, item in self.report.seen.items():
            if isinstance(item, Shown) and item.state(self._flag) in OFF:
                continue
            event = Event.UNKNOWN if isinstance(item, HostFault) else Event.FAILED
            self._note(host, "flag-state", self.report.flag_states[host])
        bits = self._bits_said()
        if len(bits) > 1:
            event = Event.FAILED
        try:
            used = sorted(self._watch().bits & bits)
        except HostFault as fault:
            self._senders(str(fault))
        else:
            self.report.in_use = bool(used) if bits else None
            if used:
                named = ", ".join(map(str, used))
                self._senders(f"bit {named} is still in use, or in open orders")
        if self.report.in_use is not False:
            if self.report.bit is None:
                self._senders(f"no host could say which bit {self._flag} is")
            return Event.UNKNOWN
        return event

    def _bits_said(self) -> frozenset[int]:
        """Every bit that the flag is by anybody's word: the senders were told the first that came.

        One host that says another bit than the rest must not pass for all of them.
        """
        mine = self.report.bit
        if mine is None:
            return frozenset()
        said = bits_said(self.report.seen, self._flag)
        for host, bit in said.items():
            if bit != mine:
                text = f"says that {self._flag} is bit {bit}; the senders were told bit {mine}"
                self._note(host, "flag-bit", text, bit=bit)
        return frozenset({mine, *said.values()})

    def _look_where_nobody_answers(self) -> None:
        """A process that is gone obeys nothing; that it is gone is seen by the kernel's word.

        An arming that failed has more to prove than that: its hosts are to be what they were.
        """
        if self.report.purpose is not Purpose.DISARM:
            return
        for host in idle(self._inventory, self._hosts, self.report.seen):
            self.report.seen[host] = NOTHING_RUNS
            self.report.trouble.pop(host, None)
            self._observer.host(host, "nothing runs there", good=True)

    # --- small things ---------------------------------------------------------------------------

    def _note(self, host: str, rule: str, text: str, **facts: object) -> None:
        self.report.trouble[host] = trouble(host, rule, text, flag=self._flag, **facts)

    def _event(self, outcomes: Mapping[str, object], good: Event) -> Event:
        faults = faults_of(outcomes)
        for host, fault in faults.items():
            self.report.trouble[host] = fault_finding(host, fault)
        return came_of(faults, good, Event.FAILED, Event.UNKNOWN)

    def _done(self, host: str, text: str, fault: HostFault | None) -> None:
        self._observer.host(host, str(fault) if fault else text, good=fault is None)
