"""Two at once on one host: another deployer, or the host's own timer."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from deploytool.agent import marks
from deploytool.agent.requests import (
    Answer,
    Confirm,
    Expire,
    RefusedAnswer,
    Renew,
)
from deploytool.simulation.memory.host import MemoryHost
from deploytool.simulation.memory.run import Hook, Wait
from deploytool.simulation.memory.schedule import Schedule, preempted

from .deploying import (
    DEADMAN_S,
    NEW,
    OLD,
    OTHER,
    STEPS,
    Deployer,
    No,
    points_of,
    prepared,
    running,
    snapshot,
    state_of,
)


def _stale(first: Deployer) -> Iterator[tuple[str, Callable[[], Answer]]]:
    """Everything that a deployer may still send whose lock was taken over."""
    for name in ("stage", "activate", "confirm", "unlock"):
        yield name, lambda name=name: getattr(first, name)()  # type: ignore[misc] # a default binds it
    renew = Renew(token=first.token, holder="a@b", purpose="deploy", plan=first.plan)
    yield "renew", lambda: first.ask(renew)


def stale_violations() -> Iterator[str]:
    """Nobody changes a host with a token that another's replaced."""
    for begun in range(1, len(STEPS)):
        host = prepared()
        first = Deployer(host, "first")
        for name in STEPS[:begun]:
            first.step(name)
        second = Deployer(host, "second", build=OTHER)
        second.lock(first.token)
        before = snapshot(host)
        for name, asks in _stale(first):
            try:
                asks()
                yield f"{name} with a stale token was done, after {STEPS[begun - 1]}"
            except No:
                pass
            if snapshot(host) != before:
                yield f"{name} with a stale token changed the host, after {STEPS[begun - 1]}"


def takeover_violations(step: str) -> Iterator[str]:
    """A lock that is taken over at any point of a step is held from then on.

    Each verb is one step under the mutex: whoever takes over waits for it, or ends it.
    """
    for after in (*points_of(step, every=True), 1000):
        host = prepared()
        first = Deployer(host, "first")
        for name in STEPS[: STEPS.index(step)]:
            first.step(name)
        second = Deployer(host, "second", build=OTHER)
        token = first.token if step != "lock" else None
        seen: list[tuple[object, ...]] = []

        def goes_on(hook: Hook, wait: Wait, first: Deployer = first) -> str:
            first.hook, first.wait = hook, wait
            try:
                first.step(step)
            except No as no:
                return str(no)
            return "done"

        def takes_over(hook: Hook, wait: Wait, second: Deployer = second) -> str:
            second.hook, second.wait = hook, wait
            try:
                second.lock(token)  # noqa: B023 it runs within this round
            except No as no:
                return str(no)
            seen.append(snapshot(second.host))  # noqa: B023 it runs within this round
            return "done"

        schedule = Schedule(host.computer.time, preempted("first", after))
        ends = schedule.run({"first": goes_on, "second": takes_over})
        if ends["second"] == "done" and seen[0] != snapshot(host):
            yield f"{step}, point {after}: {ends['first']}, and it changed the host afterwards"
        if step == "lock" and list(ends.values()).count("done") != 1:
            yield f"lock, point {after}: {ends}"
        lock = marks.read_lock(state_of(host))
        if ends["second"] == "done" and (lock is None or lock.token != second.token):
            yield f"{step}, point {after}: the lock that was taken over is not held"


def expiry_violations() -> Iterator[str]:
    """A host is confirmed or stops serving, and never both, whenever its timer rings."""
    for after in (*points_of("confirm", every=True), 1000):
        host, first, _ = _activated()
        _time_is_up(host)

        def confirms(hook: Hook, wait: Wait, first: Deployer = first) -> str:
            first.hook, first.wait = hook, wait
            try:
                first.step("confirm")
            except No as no:
                return str(no)
            return "done"

        def rings(hook: Hook, wait: Wait, host: MemoryHost = host, first: Deployer = first) -> None:
            host.ask(Expire(token=first.token), hook=hook, wait=wait)

        ends = Schedule(host.computer.time, preempted("first", after)).run(
            {"first": confirms, "timer": rings}
        )
        found = marks.read_all(state_of(host))
        serves = running(host) == NEW.release
        if serves != (ends["first"] == "done") or serves != (found.verified is not None):
            yield f"point {after}: confirmed: {ends['first']}, serves: {serves}"
        if serves and (found.expired or found.deadman is not None):
            yield f"point {after}: it was confirmed, and expired"
    yield from _unconfirmed()
    yield from _not_what_was_seen()
    yield from _another_timer()


def _time_is_up(host: MemoryHost) -> None:
    """Its timer has rung, and has asked nothing yet."""
    host.computer.time.pass_to(host.computer.time.now + DEADMAN_S + 1.0)


def _another_timer() -> Iterator[str]:
    """A timer of an activation that is over, or of another's token, ends nothing."""
    host, first, _ = _activated("process")  # there an earlier timer goes off all the same
    host.pass_time(DEADMAN_S / 2)
    first.step("activate")
    host.pass_time(DEADMAN_S * 0.75)
    if running(host) is None:
        yield "the timer of the first activation ended the second"
    _time_is_up(host)
    for token in (first.token - 1, first.token + 1):
        host.ask(Expire(token=token))
        if running(host) is None:
            yield f"the timer of token {token} ended the activation of token {first.token}"


def _activated(supervisor: str = "systemd") -> tuple[MemoryHost, Deployer, Confirm]:
    """A host whose next request is its confirmation."""
    host = prepared(supervisor)
    first = Deployer(host, "first")
    for name in STEPS[: STEPS.index("confirm")]:
        first.step(name)
    main = host.service.main
    assert main is not None
    boot = host.computer.boot_id
    seen = Confirm(
        token=first.token, release=NEW.release, pid=main.pid, start=main.start, boot=boot
    )
    return host, first, seen


def _not_what_was_seen() -> Iterator[str]:
    """What is confirmed is what was seen; a host whose time was up is not, whatever runs on."""
    host, _, seen = _activated()
    others = {
        "process": seen.but(pid=seen.pid + 1),
        "start": seen.but(start=seen.start + 1),
        "boot": seen.but(boot="another"),
        "release": seen.but(release=OLD.release),
    }
    for name, other in others.items():
        if not isinstance(host.ask(other), RefusedAnswer):
            yield f"another {name} was confirmed"
    host, first, seen = _activated()
    assert host.service.main is not None
    main = host.service.main
    main.stubborn = True
    _time_is_up(host)
    host.ask(Expire(token=first.token))
    if not host.computer.alive(main) or not isinstance(host.ask(seen), RefusedAnswer):
        yield "it was confirmed after its time was up"


def _unconfirmed() -> Iterator[str]:
    for wait_s in (DEADMAN_S - 10.0, DEADMAN_S + 10.0):
        host, _, _ = _activated()
        host.pass_time(wait_s)
        if (running(host) is not None) != (wait_s < DEADMAN_S):
            yield f"{wait_s:g} s after an activation that was not confirmed: {running(host)}"
