"""Two deployers on one fleet, and a schedule that says whose next call to a host is let through."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from deploytool.agent.requests import Answer, Request
from deploytool.errors import DeploytoolError
from deploytool.fleet.host import Host, Payload

WAIT_S = 30.0


class Turnstile:
    """Lets one deployer make one call at a time; both stand still in between."""

    def __init__(self) -> None:
        self._may_go = threading.Semaphore(0)
        self._stands = threading.Semaphore(0)
        self.over = False

    def gate(self) -> None:
        """Called by the deployer before each call to a host."""
        self._stands.release()
        if not self._may_go.acquire(timeout=WAIT_S):
            raise TimeoutError("nobody gave this deployer its turn")

    def end(self) -> None:
        """Called when the deployer has ended."""
        self.over = True
        self._stands.release()

    def arrive(self) -> None:
        """Waits until the deployer stands before a call, or has ended."""
        if not self._stands.acquire(timeout=WAIT_S):
            raise TimeoutError("a deployer neither ends nor comes to its next call")

    def step(self) -> None:
        """Lets one call through, and waits until the deployer stands again."""
        if not self.over:
            self._may_go.release()
            self.arrive()


class Gated:
    """A host that answers when the schedule allows it."""

    def __init__(self, host: Host, turnstile: Turnstile) -> None:
        self._host, self._turnstile = host, turnstile

    @property
    def name(self) -> str:
        return self._host.name

    def close(self) -> None:
        pass

    def call(
        self,
        request: Request,
        *,
        deadline_s: float,
        payload: Payload | None = None,
        insist: bool = False,
    ) -> Answer:
        self._turnstile.gate()
        return self._host.call(request, deadline_s=deadline_s, payload=payload, insist=insist)


@dataclass
class Both:
    """How two deployers ended."""

    ends: dict[str, DeploytoolError | None] = field(default_factory=dict)
    bugs: list[BaseException] = field(default_factory=list)

    def code(self, who: str) -> int:
        error = self.ends[who]
        return 0 if error is None else error.exit_code


Deployer = Callable[[Turnstile], DeploytoolError | None]


def play(schedule: str, deployers: dict[str, Deployer]) -> Both:
    """Runs both to their ends; when the schedule is used up, the one that it names last goes on."""
    turnstiles = {who: Turnstile() for who in deployers}
    both = Both()

    def run(who: str) -> None:
        try:
            both.ends[who] = deployers[who](turnstiles[who])
        except BaseException as error:  # noqa: BLE001 it is shown by the test
            both.bugs.append(error)
        finally:
            turnstiles[who].end()

    threads = [threading.Thread(target=run, args=(who,), daemon=True) for who in deployers]
    for thread in threads:
        thread.start()
    for turnstile in turnstiles.values():
        turnstile.arrive()
    for who in schedule:
        turnstiles[who].step()
    for who in (schedule[-1], *(other for other in deployers if other != schedule[-1])):
        while not turnstiles[who].over:
            turnstiles[who].step()
    for thread in threads:
        thread.join(WAIT_S)
    if both.bugs:
        raise both.bugs[0]
    return both


def interleavings(first: str, second: str, each: int) -> Iterator[str]:
    """Every order in which the first calls of two deployers, so many of each, can come."""

    def merged(one: int, other: int) -> Iterator[str]:
        if not one and not other:
            yield ""
        if one:
            yield from (first + rest for rest in merged(one - 1, other))
        if other:
            yield from (second + rest for rest in merged(one, other - 1))

    yield from merged(each, each)
