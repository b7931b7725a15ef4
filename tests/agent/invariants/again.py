"""A step that was struck is asked for again, and then holds; also where power is lost after it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from deploytool.agent import marks
from deploytool.agent.requests import (
    Expire,
    Locked,
    MarkHold,
    RefusedAnswer,
    Renew,
    Request,
    Retire,
)
from deploytool.simulation.memory.disk import Fate
from deploytool.simulation.memory.host import MemoryHost, Points
from deploytool.simulation.memory.run import RunEnded

from .crashes import strikes
from .deploying import DEADMAN_S, STEPS, Deployer, prepared, running, state_of


def _renew(host: MemoryHost) -> Request:
    lock = marks.read_lock(state_of(host))
    token = 0 if lock is None else lock.token
    return Renew(token=token, holder="first@here", purpose="deploy", plan="first")


def _renewed(host: MemoryHost) -> bool:
    found = marks.read_all(state_of(host))
    return found.lock is not None and found.lock.token == found.token > 1


def _hold(_host: MemoryHost) -> Request:
    return MarkHold(token=1, verdict="MIXED", holder="first@here", plan="first", next="resume")


def _held(host: MemoryHost) -> bool:
    hold = marks.read_all(state_of(host)).hold
    return hold is not None and hold.verdict == "MIXED"


def _serves_no_more(host: MemoryHost) -> bool:
    return running(host) is None


@dataclass(frozen=True)
class Verb:
    """A step, how far a rollout has come before it, and what holds after it."""

    begun: int
    request: Callable[[MemoryHost], Request]
    holds: Callable[[MemoryHost], bool]


VERBS = {
    "renew": Verb(1, _renew, _renewed),
    "hold": Verb(1, _hold, _held),
    "retire": Verb(1, lambda _host: Retire(token=1), _serves_no_more),
    "expire": Verb(3, lambda _host: Expire(token=1), _serves_no_more),
}


def _ready(verb: Verb, supervisor: str) -> MemoryHost:
    host = prepared(supervisor)
    deployer = Deployer(host, "first")
    for name in STEPS[: verb.begun]:
        deployer.step(name)
    host.computer.time.pass_to(host.computer.time.now + DEADMAN_S + 1.0)
    return host


def again_violations(name: str, supervisor: str = "systemd", *, seeds: int = 2) -> Iterator[str]:
    """What is wrong after any strike at any point of one of these verbs, and one more try."""
    verb = VERBS[name]
    host, points = _ready(verb, supervisor), Points()
    host.ask(verb.request(host), hook=points)
    for point in range(1, len(points.seen) + 1):
        for told, strike in strikes(point, seeds):
            host = _ready(verb, supervisor)
            with contextlib.suppress(RunEnded):
                host.ask(verb.request(host), hook=Points(point, strike))
            case = f"{supervisor}, {name}, point {point}, {told}"
            yield from (f"{case}: {text}" for text in _tried_again(host, verb))


def _tried_again(host: MemoryHost, verb: Verb) -> Iterator[str]:
    if not host.computer.on:
        host.reboot()
    if unreadable := marks.read_all(state_of(host)).unreadable:
        yield f"marks can't be read: {unreadable}"
    newest = marks.read_token(state_of(host))
    answer = host.ask(verb.request(host))
    if isinstance(answer, RefusedAnswer):
        yield f"once more, it is refused: {answer.code}: {answer.text}"
    if isinstance(answer, Locked) and answer.token <= newest:
        yield f"token {answer.token} was given out after {newest}"
    if not verb.holds(host):
        yield "it does not hold"
    host.reboot(Fate(keeps=0.0))
    if not verb.holds(host):
        yield "it does not hold after a loss of power"
