"""The hosts' processes, asked about flags and told: each call on all of them at once."""

from __future__ import annotations

import json
import queue
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from deploytool.agent.requests import Answer, FlagStep, Told
from deploytool.arming.model import ON, FlagState, Shown
from deploytool.core.text import excerpt
from deploytool.errors import FaultKind, HostFault
from deploytool.fleet.fanout import fanout
from deploytool.fleet.host import Host, Payload
from deploytool.fleet.model import FLAG_NAME

T = TypeVar("T")
_STATES = ON | {"off", "promised", "always"}
_LAST_SECOND = 2**37
"""A calendar goes a little further: what is later can't be shown."""
_REFUSED = 3
"""The exit code with which a process says no, on purpose (docs/contract.md)."""
_DISARMS_AT_MOST = 3
_PROVISIONAL_AT_MOST_S = 3600.0
EPOCH_AHEAD_AT_MOST_S = 86400
"""Epochs are seconds, or a little more where flags were armed in quick succession."""
TELL_S = 20.0
"""A host's mutex and the process's own deadline come before this."""

Done = Callable[[str, str, HostFault | None], None]


class FlagHosts:
    """The processes of a fleet. ``done`` hears of each host as it finishes."""

    def __init__(self, hosts: Mapping[str, Host], deadline_s: float, done: Done) -> None:
        self._hosts = hosts
        self._deadline_s = min(deadline_s, TELL_S)
        self._done = done

    def observe(self, *, insist: bool = False) -> dict[str, Shown | HostFault]:
        """What every process says of its flags."""
        return self._each("seen", FlagStep(step="observe"), _shown, insist=insist)

    def find_bit(self, flag: str, patience_s: float) -> int | None:
        """The flag's bit, by the first process that has it; None where none says so in time."""
        found: queue.Queue[int | None] = queue.Queue()

        def said(_name: str, outcome: Shown | HostFault) -> None:
            for item in outcome.flags if isinstance(outcome, Shown) else ():
                if item.name == flag:
                    found.put(item.bit)

        def work() -> None:
            asked = FlagStep(step="observe")
            jobs = {name: self._job(name, asked, _shown) for name in self._hosts}
            try:
                fanout(jobs, deadline_s=self._deadline_s, done=said)
            finally:
                found.put(None)  # no one waits for what does not come

        threading.Thread(target=work, name="find-bit", daemon=True).start()
        try:
            return found.get(timeout=patience_s)
        except queue.Empty:
            return None

    def nonces(self, flag: str) -> dict[str, tuple[str, int] | HostFault]:
        """Has every process issue a nonce; gives it and the newest epoch of its host."""
        return self._each("asked", FlagStep(step="prepare", flag=flag), _nonce)

    def prepare(self, flag: str, sealed: str, epoch: int) -> dict[str, HostFault | None]:
        """Shows every process the certificate; a promise is one for this very epoch."""
        content = sealed.encode()
        request = FlagStep(step="prepare", flag=flag, size=len(content))

        def promised(said: dict[str, object]) -> None:
            if said.get("promise") != epoch:
                raise HostFault(FaultKind.PROTOCOL, f"promised {said.get('promise')!r}")

        return self._each("promised", request, promised, content)

    def commit(self, flag: str) -> dict[str, float | HostFault]:
        """Arms everywhere, for a short while; gives how long, in seconds."""
        return self._each("committed", FlagStep(step="commit", flag=flag), _provisional)

    def settle(self, flag: str) -> dict[str, HostFault | None]:
        """Makes it last."""
        request = FlagStep(step="settle", flag=flag)
        return self._each("settled", request, lambda said: _is_armed(said, flag, wanted=True))

    def disarm(self, flag: str) -> dict[str, HostFault | None]:
        """Off, on every host that can be reached; asked again where an answer was lost."""
        request = FlagStep(step="disarm", flag=flag)

        def disarmed(said: dict[str, object]) -> None:
            _is_armed(said, flag, wanted=False)

        outcomes: dict[str, HostFault | None] = {}
        left: Iterable[str] = self._hosts
        for _ in range(_DISARMS_AT_MOST):
            outcomes |= self._each("disarmed", request, disarmed, hosts=left, insist=True)
            left = [name for name, item in outcomes.items() if _worth_repeating(item)]
            if not left:
                break
        return outcomes

    def _each(
        self,
        text: str,
        request: FlagStep,
        read: Callable[[dict[str, object]], T],
        content: bytes | None = None,
        *,
        hosts: Iterable[str] | None = None,
        insist: bool = False,
    ) -> dict[str, T | HostFault]:
        def said(name: str, outcome: T | HostFault) -> None:
            self._done(name, text, outcome if isinstance(outcome, HostFault) else None)

        chosen = self._hosts if hosts is None else hosts
        jobs = {name: self._job(name, request, read, content, insist=insist) for name in chosen}
        return fanout(jobs, deadline_s=2 * self._deadline_s, done=said)

    def _job(
        self,
        name: str,
        request: FlagStep,
        read: Callable[[dict[str, object]], T],
        content: bytes | None = None,
        *,
        insist: bool = False,
    ) -> Callable[[], T]:
        sent = None if content is None else Payload(len(content), lambda: iter([content]))

        def told() -> T:
            answer = self._hosts[name].call(
                request, deadline_s=self._deadline_s, payload=sent, insist=insist
            )
            return read(_said(answer, changes=request.changes))

        return told


def _worth_repeating(outcome: HostFault | None) -> bool:
    """Whether another try may find more out: not where the process itself said no."""
    return isinstance(outcome, HostFault) and outcome.kind is not FaultKind.REFUSED


def _said(answer: Answer, *, changes: bool) -> dict[str, object]:
    """The JSON object that the inventory's command printed.

    Raises:
        HostFault: the process refused, nobody answered, or it can't be read.
    """
    if not isinstance(answer, Told):
        raise HostFault(FaultKind.PROTOCOL, "it does not say what was answered", in_doubt=changes)
    code, said, errors = answer.said.code, answer.said.answer, answer.said.errors
    if code == _REFUSED:
        why = re.sub(r"^\S+: refused ", "", errors.strip())
        raise HostFault(FaultKind.REFUSED, excerpt(why), code="flag-refused")
    if code != 0:
        # It may have been told and not have answered in time.
        ended = "it was killed" if code is None else f"exit {code}"
        text = f"no process answers ({ended}): {excerpt(errors)}"
        raise HostFault(FaultKind.PROTOCOL, text, in_doubt=changes)
    try:
        said_json = json.loads(said)
    except (ValueError, RecursionError):
        said_json = None
    if not isinstance(said_json, dict):
        text = f"no JSON object in its answer: {excerpt(said)}"
        raise HostFault(FaultKind.PROTOCOL, text, in_doubt=changes)
    return said_json


def _bad(what: str) -> HostFault:
    return HostFault(
        FaultKind.PROTOCOL, f"its answer is not in the contract: {what}", in_doubt=True
    )


def _count(value: object, what: str) -> int:
    if type(value) is not int or value < 0:
        raise _bad(f"{what} {excerpt(repr(value))}")
    return value


def _names(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise _bad(f"armed {excerpt(repr(value))}")
    return tuple(value)


def _shown(said: dict[str, object]) -> Shown:
    listed = said.get("flags")
    if not isinstance(listed, list):
        raise _bad("no list of flags")
    flags = tuple(map(_flag, listed))
    armed = _names(said.get("armed"))
    if len({flag.name for flag in flags}) != len(flags):
        raise _bad("a flag is told twice")
    if {*armed} != {flag.name for flag in flags if flag.state in ON}:
        raise _bad(f"armed {excerpt(', '.join(armed))} and the flags' own states differ")
    return Shown(flags, armed, _count(said.get("epoch"), "epoch"))


def _flag(item: object) -> FlagState:
    if not isinstance(item, dict) or not isinstance(item.get("name"), str):
        raise _bad("a flag without a name")
    if re.fullmatch(FLAG_NAME, item["name"]) is None:
        raise _bad(f"a flag that is called {excerpt(repr(item['name']))}")
    state, since = item.get("state"), item.get("since")
    if state not in _STATES:
        raise _bad(f"state {excerpt(repr(state))}")
    if since is not None and (isinstance(since, bool) or not isinstance(since, int | float)):
        raise _bad(f"since {excerpt(repr(since))}")
    if since is not None and not 0 <= since <= _LAST_SECOND:
        raise _bad(f"since {excerpt(repr(since))}")
    bit, epoch = _count(item.get("bit"), "bit"), _count(item.get("epoch"), "epoch")
    return FlagState(item["name"], bit, state, epoch, None if since is None else int(since))


def _nonce(said: dict[str, object]) -> tuple[str, int]:
    nonce = said.get("nonce")
    if not isinstance(nonce, str) or re.fullmatch(r"[0-9a-f]{32,64}", nonce) is None:
        raise _bad("no nonce")
    epoch = _count(said.get("epoch"), "epoch")
    if epoch > time.time() + EPOCH_AHEAD_AT_MOST_S:
        # The next one would have to be newer still, on every host, for good.
        raise _bad(f"an epoch of the future: {epoch}")
    return nonce, epoch


def _provisional(said: dict[str, object]) -> float:
    seconds = said.get("provisional_s")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise _bad(f"provisional_s {excerpt(repr(seconds))}")
    if not 0 < seconds <= _PROVISIONAL_AT_MOST_S:
        raise _bad(f"provisional_s {excerpt(repr(seconds))}")
    return float(seconds)


def _is_armed(said: dict[str, object], flag: str, *, wanted: bool) -> None:
    if (flag in _names(said.get("armed"))) is not wanted:
        raise _bad(f"{flag} is {'not ' if wanted else ''}armed after that")
