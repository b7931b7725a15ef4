"""A host in memory whose agent is the real one, and that breaks where it was told to."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Mapping

from deploytool.agent.protocol import (
    answer_bytes,
    parse_first_line,
    parse_request,
    request_bytes,
)
from deploytool.agent.requests import Answer, FlagStep, Request, TakeLock
from deploytool.errors import FaultKind, HostFault
from deploytool.fleet.host import Payload
from deploytool.fleet.protocol import parse_answer
from deploytool.simulation.events import EVENTS
from deploytool.simulation.faults import AFTER, BEFORE, CallPoint, Fault
from deploytool.simulation.machine import SimulatedMachine
from deploytool.simulation.memory.host import MemoryHost
from deploytool.simulation.memory.run import Run, RunEnded
from deploytool.simulation.oracle import SimulatedTruth, truth

_SAID = {
    Fault.CONNECTION_REFUSED: (FaultKind.UNREACHABLE, "Connection refused"),
    Fault.CONNECT_TIMEOUT: (FaultKind.TIMEOUT, "no SSH session within 5 s"),
    Fault.AUTH_REFUSED: (FaultKind.AUTH, "Authentication failed."),
    Fault.HOST_KEY_CHANGED: (FaultKind.HOST_KEY, "the key CHANGED"),
    Fault.SUDO_ASKS: (FaultKind.RIGHTS, "sudo: a password is required"),
}
_NOISE = b"Welcome!\ndeploytool 00 begin\ndeploytool 00 end ok\nLast login: today\n"
_ENDING = frozenset({Fault.CONNECTION_LOST, Fault.HANGS, Fault.GONE, Fault.REBOOT})
"""In the middle of a request they end the agent's process, and its connection with it."""
_CHANGING = (
    *("write ", "sync ", "rename", "remove", "make_", "create ", "set_mode ", "kill_group "),
    *("signal ", "restart", "stop", "mask", "unmask", "set_timer", "clear_timer", "run "),
)
"""How calls of the port begin that change something, or wait for what another may change."""
_EVIDENCE = frozenset({"probe", "lock", "activate"})


def kind_of(request: Request) -> str:
    """What moments call a request: its verb, or what of it it is."""
    if isinstance(request, FlagStep):
        return f"flag_{request.step}"
    taking = isinstance(request, TakeLock) and request.take_over is not None
    return "takeover" if taking else request.verb


class SimulatedHost(SimulatedMachine):
    """One declared host. ``strikes`` says what goes wrong, and when."""

    def __init__(self, name: str, prepared: MemoryHost | None = None) -> None:
        super().__init__(name, prepared)
        self.strikes: Mapping[CallPoint, Fault] = {}
        self.moments: list[CallPoint] = []
        self.struck: list[CallPoint] = []
        self.seen: list[SimulatedTruth] = []
        """What was true on the machine each time that it was shown."""
        self.tampered: Mapping[str, Callable[[bytes], bytes]] = {}
        """What becomes of answers to a kind of request, on their way."""
        self._counts: Counter[str] = Counter()
        self._parts: Counter[str] = Counter()
        self._gone = False
        self._late: list[tuple[Request, bytes]] = []
        self._verb = ""
        self._changes = False

    @property
    def network(self) -> tuple[bool, int]:
        """Whether it dropped off, and how much is still on its way to it."""
        self._touched()
        return self._gone, len(self._late)

    def reconnect(self) -> None:
        """It can be reached again, and nothing more strikes it; what is late still comes."""
        self._touched()
        self.strikes, self._gone = {}, False

    def close(self) -> None:
        """There is no connection to give back."""

    # --- requests -------------------------------------------------------------------------------

    def call(
        self,
        request: Request,
        *,
        deadline_s: float,
        payload: Payload | None = None,
        insist: bool = False,
    ) -> Answer:
        """Has its agent carry out ``request`` once, through the same bytes as a real one."""
        del insist
        return self._call(request, b"".join(payload.open()) if payload else b"", deadline_s)

    def _call(self, request: Request, sent: bytes, deadline_s: float) -> Answer:
        nonce = secrets.token_hex(16)
        self._verb, self._changes = kind_of(request), request.changes
        self._counts[self._verb] += 1
        self._parts.clear()
        if self._gone:
            raise HostFault(FaultKind.TIMEOUT, "no SSH session within 5 s")
        fault = self._strike(BEFORE)
        sent = self._before(fault, request, sent, deadline_s)
        begun = truth(self)
        try:
            output = self._answer(request_bytes(request, nonce), sent)
        except RunEnded as end:
            fault = self.strikes.get(self.struck[-1]) if self.struck else None
            raise self._lost(fault, deadline_s) from end
        finally:
            self._settle()
        if request.verb in _EVIDENCE:
            # What befalls a host while it is looked at may come after what was looked at.
            self.seen.append(truth(self) if request.changes else begun)
        late, self._late = self._late, []
        for held_up, rest in late:
            self.ask(held_up, rest)
        output = self._after(self._strike(AFTER), output, deadline_s)
        if (tamper := self.tampered.get(self._verb)) is not None:
            output = tamper(output)
        return parse_answer(output, nonce, request)

    def _answer(self, sent: bytes, payload: bytes) -> bytes:
        first, line, _ = sent.split(b"\n")
        nonce, kind = parse_first_line(first)
        request = parse_request(kind, line)
        return answer_bytes(nonce, self._prepared.ask(request, payload, hook=self._step))

    def _settle(self) -> None:
        """What waited for the end of the request happens; so does what its timer was set for."""
        waiting, self.deferred = self.deferred, []
        for what in waiting:
            what()
        if self._prepared.computer.on:
            self._prepared.ask_due()

    # --- where faults strike --------------------------------------------------------------------

    def _strike(self, part: str) -> Fault | None:
        """Notes the moment; what happens to the host itself happens here."""
        moment = CallPoint(self._verb, self._counts[self._verb], part)
        self.moments.append(moment)
        fault = self.strikes.get(moment)
        if fault is not None:
            self.struck.append(moment)
            if fault in EVENTS:
                EVENTS[fault](self)
        return fault

    def _step(self, run: Run, what: str) -> None:
        self.set_clock()
        if not what.startswith(_CHANGING) or run.ended:
            return
        self._parts[what] += 1
        nth = self._parts[what]
        fault = self._strike(what if nth == 1 else f"{what}, {nth}")
        if fault in _ENDING:
            run.end()

    def _before(
        self, fault: Fault | None, request: Request, sent: bytes, deadline_s: float
    ) -> bytes:
        if fault in _SAID:
            raise HostFault(*_SAID[fault])
        if fault in {Fault.CONNECTION_LOST, Fault.HANGS, Fault.REBOOT}:
            raise self._lost(fault, deadline_s)
        if fault is Fault.GONE:
            self._gone = True
            raise HostFault(FaultKind.TIMEOUT, "no SSH session within 5 s")
        if fault is Fault.LATE:
            self._late.append((request, sent))
            raise self._lost(fault, deadline_s)
        if fault is Fault.COPY_TRUNCATED:
            return sent[:-40]
        if fault is Fault.COPY_ALTERED:
            return sent[:-40] + b"!" + sent[-39:]
        return sent

    def _after(self, fault: Fault | None, output: bytes, deadline_s: float) -> bytes:
        if fault in _ENDING:
            raise self._lost(fault, deadline_s)
        if fault is Fault.ANSWER_CUT:
            return output[: len(output) * 2 // 3]
        if fault is Fault.SHELL_NOISE:
            return _NOISE + output + _NOISE
        return output

    def _lost(self, fault: Fault | None, deadline_s: float) -> HostFault:
        """What an operator's side knows of a request that was sent and did not come back."""
        self._gone = self._gone or fault is Fault.GONE
        if fault is Fault.HANGS:
            text = f"the command did not end within {deadline_s:g} s"
            return HostFault(FaultKind.TIMEOUT, text, in_doubt=self._changes)
        return HostFault(FaultKind.LOST, "while the command ran: closed", in_doubt=self._changes)
