"""A host in memory that answers the helper's calls, and breaks where it was told to."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Mapping

from deploytool.errors import FaultKind, HostFault
from deploytool.fleet.host import Payload
from deploytool.fleet.protocol import Call, Reply, parse_reply, request
from deploytool.simulation.events import EVENTS
from deploytool.simulation.faults import AFTER, BEFORE, CallPoint, Fault
from deploytool.simulation.helper import Helper
from deploytool.simulation.oracle import SimulatedTruth, truth

_SAID = {
    Fault.CONNECTION_REFUSED: (FaultKind.UNREACHABLE, "Connection refused"),
    Fault.CONNECT_TIMEOUT: (FaultKind.TIMEOUT, "no SSH session within 5 s"),
    Fault.AUTH_REFUSED: (FaultKind.AUTH, "Authentication failed."),
    Fault.HOST_KEY_CHANGED: (FaultKind.HOST_KEY, "the key CHANGED"),
    Fault.SUDO_ASKS: (FaultKind.RIGHTS, "sudo: a password is required"),
}
_NOISE = b"Welcome!\ndeploytool 00 begin\ndeploytool 00 end ok\nLast login: today\n"


class _FaultStrikes(Exception):
    """The helper's process ended in the middle of an effect, and its connection with it."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.value)
        self.fault = fault


class SimulatedHost:
    """One declared host. ``strikes`` says what goes wrong, and when."""

    def __init__(self, name: str, helper: Helper) -> None:
        self._name = name
        self.helper = helper
        self.strikes: Mapping[CallPoint, Fault] = {}
        self.moments: list[CallPoint] = []
        self.struck: list[CallPoint] = []
        self.seen: list[SimulatedTruth] = []
        """What was true on the machine each time that a probe of it was answered."""
        self._counts: Counter[str] = Counter()
        self._gone = False
        self._late: list[bytes] = []
        helper.step = self._step
        self._call = Call("none")

    @property
    def name(self) -> str:
        """Its name in the inventory."""
        return self._name

    @property
    def network(self) -> tuple[bool, tuple[bytes, ...]]:
        """Whether it dropped off, and what is still on its way to it."""
        return self._gone, tuple(self._late)

    def reconnect(self) -> None:
        """It can be reached again, and nothing more strikes it; what is late still comes."""
        self.strikes, self._gone = {}, False

    def close(self) -> None:
        """There is no connection to give back."""

    def call(self, call: Call, *, deadline_s: float, payload: Payload | None = None) -> Reply:
        """Has the helper do ``call`` once, through the same bytes as a real one."""
        nonce = secrets.token_hex(16)
        sent = request(call, nonce) + (b"".join(payload.open()) if payload else b"")
        self._call = call
        self._counts[call.verb] += 1
        if self._gone:
            raise HostFault(FaultKind.TIMEOUT, "no SSH session within 5 s")
        fault = self._strike(BEFORE)
        sent = self._before(fault, sent, deadline_s)
        try:
            output = self.helper.answer(sent)
        except _FaultStrikes as end:
            raise self._lost(end.fault, deadline_s) from end
        if call.verb in {"probe", "activate"}:
            self.seen.append(truth(self.helper))
        late, self._late = self._late, []
        for held_up in late:
            self.helper.answer(held_up)
        return parse_reply(self._after(self._strike(AFTER), output, deadline_s), nonce, call)

    # --- where faults strike --------------------------------------------------------------------

    def _strike(self, part: str) -> Fault | None:
        """Notes the moment; what happens to the host itself happens here."""
        moment = CallPoint(self._call.verb, self._counts[self._call.verb], part)
        self.moments.append(moment)
        fault = self.strikes.get(moment)
        if fault is not None:
            self.struck.append(moment)
            if fault in EVENTS:
                EVENTS[fault](self.helper)
        return fault

    def _step(self, part: str) -> None:
        fault = self._strike(part)
        if fault in {Fault.CONNECTION_LOST, Fault.HANGS, Fault.GONE, Fault.REBOOT}:
            raise _FaultStrikes(fault)

    def _before(self, fault: Fault | None, sent: bytes, deadline_s: float) -> bytes:
        if fault in _SAID:
            raise HostFault(*_SAID[fault])
        if fault in {Fault.CONNECTION_LOST, Fault.HANGS, Fault.REBOOT}:
            raise self._lost(fault, deadline_s)
        if fault is Fault.GONE:
            self._gone = True
            raise HostFault(FaultKind.TIMEOUT, "no SSH session within 5 s")
        if fault is Fault.LATE:
            self._late.append(sent)
            raise self._lost(fault, deadline_s)
        if fault is Fault.COPY_TRUNCATED:
            return sent[:-40]
        if fault is Fault.COPY_ALTERED:
            return sent[:-40] + b"!" + sent[-39:]
        return sent

    def _after(self, fault: Fault | None, output: bytes, deadline_s: float) -> bytes:
        if fault in {Fault.CONNECTION_LOST, Fault.HANGS, Fault.GONE, Fault.REBOOT}:
            raise self._lost(fault, deadline_s)
        if fault is Fault.ANSWER_CUT:
            return output[: len(output) * 2 // 3]
        if fault is Fault.SHELL_NOISE:
            return _NOISE + output + _NOISE
        return output

    def _lost(self, fault: Fault, deadline_s: float) -> HostFault:
        """What an operator's side knows of a call that was sent and did not come back."""
        self._gone = self._gone or fault is Fault.GONE
        changes = self._call.changes
        if fault is Fault.HANGS:
            text = f"the command did not end within {deadline_s:g} s"
            return HostFault(FaultKind.TIMEOUT, text, in_doubt=changes)
        return HostFault(FaultKind.LOST, "while the command ran: closed", in_doubt=changes)
