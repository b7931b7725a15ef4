"""Two runs of the agent at once, in every order with one switch, and in many with more.

Each call of the port is a point at which the other may go on. A seed gives the same order again:
it is in the name of the test that fails.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import pytest

from deploytool.agent import marks
from deploytool.agent.host import AgentHost
from deploytool.agent.model import Latch
from deploytool.agent.port import Interest
from deploytool.agent.requests import (
    Activated,
    Expire,
    FlagStep,
    Halt,
    Halted,
    Locked,
    RefusedAnswer,
    Renew,
    Request,
    Resume,
    Resumed,
    Unlock,
)
from deploytool.agent.settings import Command
from deploytool.agent.verbs.latches import write_latch
from deploytool.simulation.memory.agent import MemoryAgent
from deploytool.simulation.memory.run import Hook, Wait
from deploytool.simulation.memory.schedule import Choose, Schedule, at_random

from .ground import ONE, TWO, Ground, claim, switch
from .test_starting import Stopped

pytestmark = pytest.mark.slow

SEEDS = range(25)
SWITCHES_AT_MOST = 400
STOP = Latch(latch="cd34", by="you@there", reason="runaway", since=2)
Jobs = dict[str, Callable[[Hook, Wait], object]]


def asking(ground: Ground, request: Request, payload: bytes = b"") -> Callable[..., object]:
    return lambda hook, wait: ground.ask(request, payload, hook=hook, wait=wait)


class Switches:
    """Switches to the other at these choices, and at no other unless it must."""

    def __init__(self, first: str, at: Sequence[int]) -> None:
        self._first, self._at, self.choices = first, frozenset(at), 0

    def __call__(self, ready: Sequence[str], last: str) -> str:
        self.choices += 1
        last = last or self._first
        if last not in ready:
            return ready[0]
        others = [name for name in ready if name != last]
        return others[0] if self.choices in self._at and others else last


def orders(first: str) -> Iterator[tuple[object, Choose]]:
    """Every order with one switch (until there is no later point), and some with more."""
    for at in range(1, SWITCHES_AT_MOST):
        choose = Switches(first, (at,))
        yield (first, at), choose
        if choose.choices < at:
            break
    else:
        pytest.fail("there are more points than expected")
    for seed in SEEDS:
        drawn = random.Random(seed)  # noqa: S311 # it draws orders
        length = drawn.choice((2, 3, 4))
        at_ = sorted(drawn.sample(range(1, 150), length))
        yield (first, *at_), Switches(first, at_)
        yield ("random", seed), at_random(seed, drawn.choice((0.05, 0.3, 0.6)))


def every(make: Callable[[], tuple[Ground, Jobs]], check: Callable[..., None]) -> int:
    """Plays all orders, each on a ground of its own; gives how many."""
    played = 0
    for first in make()[1]:
        for order, choose in orders(first):
            ground, jobs = make()
            time = ground.host.computer.time
            answers = Schedule(time, choose).run(
                dict(sorted(jobs.items(), key=lambda j: j[0] != first))
            )
            try:
                check(ground, **answers)
            except AssertionError as error:
                raise AssertionError(f"order {order}: {error}; {answers}") from error
            played += 1
    return played


# --- lock against lock ---------------------------------------------------------------------------


def test_p7_of_two_that_lock_a_host_one_has_it(ground: Ground) -> None:
    def make() -> tuple[Ground, Jobs]:
        fresh = Ground(ground.supervisor)
        ones, twos = claim("plan1"), claim("plan2", "you@there", release=TWO.release)
        return fresh, {"a": asking(fresh, ones), "b": asking(fresh, twos)}

    def check(fresh: Ground, a: Any, b: Any) -> None:
        (won,) = [answer for answer in (a, b) if isinstance(answer, Locked)]
        (lost,) = [answer for answer in (a, b) if isinstance(answer, RefusedAnswer)]
        assert lost.code == "locked"
        plan = "plan1" if won is a else "plan2"
        assert (won.token, fresh.marked("lock")["token"]) == (1, "1")
        assert fresh.marked("lock")["plan"] == fresh.marked("rollout")["plan"] == plan

    assert every(make, check) > 100


def test_p7_of_two_that_take_a_lock_over_one_has_it_and_its_holder_has_it_no_more(
    ground: Ground,
) -> None:
    def make() -> tuple[Ground, Jobs]:
        fresh = Ground(ground.supervisor)
        token = fresh.lock("plan0")
        requests: dict[str, Request] = {
            "a": claim("plan1", take_over=token),
            "b": claim("plan2", take_over=token),
            "holder": Renew(token=token, holder="me@here", purpose="deploy", plan="plan0"),
        }
        return fresh, {name: asking(fresh, request) for name, request in requests.items()}

    def check(fresh: Ground, a: Any, b: Any, holder: Any) -> None:
        won = [answer for answer in (a, b, holder) if isinstance(answer, Locked)]
        assert len(won) == 1
        assert fresh.marked("lock")["token"] == str(won[0].token)
        codes = {answer.code for answer in (a, b, holder) if isinstance(answer, RefusedAnswer)}
        assert codes == {"stale-token"}

    assert every(make, check) > 100


def test_p7_a_lock_that_is_released_and_taken_is_never_without_its_mark(ground: Ground) -> None:
    def make() -> tuple[Ground, Jobs]:
        fresh = Ground(ground.supervisor)
        token = fresh.lock("plan1")
        return fresh, {
            "next": asking(fresh, claim("plan2")),
            "old": asking(fresh, Unlock(token=token, keep=2)),
        }

    def check(fresh: Ground, next: Any, old: Any) -> None:  # noqa: A002
        assert not isinstance(old, RefusedAnswer)
        if isinstance(next, Locked):
            assert next.token == 2
            assert fresh.marked("lock")["plan"] == fresh.marked("rollout")["plan"] == "plan2"
        else:
            assert next.code == "locked"
            assert (fresh.mark("lock"), fresh.mark("rollout")) == (None, None)

    assert every(make, check) > 100


# --- a change against a stop ---------------------------------------------------------------------


def last_rungs(ground: Ground) -> Callable[[Hook, Wait], object]:
    """The rungs ``fence`` and ``kill``: no mutex, the latch and the fence before all else."""

    def job(hook: Hook, wait: Wait) -> object:
        agent = MemoryAgent(ground.host.service, hook=hook, wait=wait)
        try:
            with AgentHost.open(agent, "0" * 64) as host:
                assert write_latch(host, STOP)
                marks.put(host.state, fenced="")
                agent.supervisor.mask()
                with suppress(FileNotFoundError):  # said as unsynced: a start looks whose it is
                    host.state.sync_file("halted")
                for _ in range(20):
                    views = agent.processes.survey(Interest(root=ground.root))
                    alive = [view.process for view in views if view.files and not view.client]
                    if not alive:
                        break
                    for process in alive:
                        agent.processes.signal(process.pid, process.start, 9)
                    agent.machine.sleep(0.1)
        finally:
            agent.run.end()
        return None

    return job


def test_p6_a_host_that_is_fenced_while_it_is_activated_does_not_serve(ground: Ground) -> None:
    def make() -> tuple[Ground, Jobs]:
        fresh = Ground(ground.supervisor, ONE)
        token = fresh.lock("plan2", release=TWO.release)
        fresh.place(TWO)
        activate = switch(TWO, token, deadman=600)
        return fresh, {"change": asking(fresh, activate), "stop": last_rungs(fresh)}

    def check(fresh: Ground, change: Any, stop: Any) -> None:
        assert stop is None
        assert isinstance(change, Activated) or change.code == "halted"
        fresh.host.pass_time(5)  # what systemd would start again by itself
        assert fresh.serves is None
        assert fresh.mark("fenced") is not None
        assert fresh.marked("halted")["latch"] == STOP.latch
        fresh.host.reboot()
        assert fresh.serves is None

    assert every(make, check) > 100


def halting() -> Halt:
    return Halt(latch=STOP.latch, by=STOP.by, reason=STOP.reason, since=2, seconds=2)


def trades(ground: Ground) -> bool:
    service, computer = ground.host.service, ground.host.computer
    return any(computer.alive(task) and not mind.halted for task, mind in service.minds.items())


def test_p6_a_host_that_is_halted_while_it_is_activated_does_not_trade(ground: Ground) -> None:
    def make() -> tuple[Ground, Jobs]:
        fresh = Ground(ground.supervisor, ONE)
        token = fresh.lock("plan2", release=TWO.release)
        fresh.place(TWO)
        return fresh, {
            "change": asking(fresh, switch(TWO, token)),
            "stop": asking(fresh, halting()),
        }

    def check(fresh: Ground, change: Any, stop: Any) -> None:
        assert isinstance(change, Activated) or change.code == "halted"
        assert isinstance(stop, Halted)
        assert fresh.marked("halted")["latch"] == STOP.latch
        assert not trades(fresh)

    assert every(make, check) > 100


def test_p6_a_host_that_is_stopped_again_while_it_is_started_does_not_trade(
    ground: Ground,
) -> None:
    """Its latch is written first, and its halt comes some time later."""

    def make(*, fenced: bool) -> tuple[Ground, Jobs]:
        fresh = Ground(ground.supervisor, ONE)
        stopped = Stopped(fresh, fenced=fenced)
        content = stopped.signed()
        start = asking(fresh, Resume(latch="ab12", size=len(content)), content)
        return fresh, {"start": start, "stop": asking(fresh, halting())}

    def check(fresh: Ground, start: Any, stop: Any) -> None:
        assert isinstance(stop, Halted)
        assert fresh.mark("halted") is not None
        assert fresh.marked("halted")["latch"] == STOP.latch
        assert not [name for name in fresh.names("state") if name.startswith(".lifted")]
        fenced = fresh.mark("fenced") is not None
        assert fenced or not trades(fresh)
        assert not (fenced and fresh.serves), "what does not halt again is fenced, and ended"
        assert isinstance(start, Resumed) or start.code in {"other-latch", "halted"}

    assert every(lambda: make(fenced=False), check) > 100
    assert every(lambda: make(fenced=True), check) > 100


def test_p6_a_host_that_is_fenced_again_while_it_is_started_does_not_serve(
    ground: Ground,
) -> None:
    def make() -> tuple[Ground, Jobs]:
        fresh = Ground(ground.supervisor, ONE)
        content = Stopped(fresh).signed()
        start = asking(fresh, Resume(latch="ab12", size=len(content)), content)
        return fresh, {"start": start, "stop": last_rungs(fresh)}

    def check(fresh: Ground, start: Any, stop: Any) -> None:
        assert stop is None
        assert isinstance(start, Resumed) or start.code in {"other-latch", "halted"}
        fresh.host.pass_time(5)
        assert fresh.serves is None
        assert (fresh.mark("fenced"), fresh.marked("halted")["latch"]) == ("", STOP.latch)
        fresh.host.reboot()
        assert fresh.serves is None

    assert every(make, check) > 100


# --- the dead-man against a confirmation ---------------------------------------------------------


def test_p7_a_host_is_never_fenced_and_confirmed_both(ground: Ground) -> None:
    def make() -> tuple[Ground, Jobs]:
        fresh = Ground(ground.supervisor)
        fresh.place(ONE)
        token = fresh.lock(release=ONE.release)
        fresh.activate(ONE, token, deadman=600)
        fresh.let_pass(600)
        return fresh, {
            "confirm": asking(fresh, fresh.confirmation(token)),
            "expire": asking(fresh, Expire(token=token)),
        }

    def check(fresh: Ground, confirm: Any, expire: Any) -> None:
        assert not isinstance(expire, RefusedAnswer)
        if isinstance(confirm, RefusedAnswer):
            assert confirm.code in {"expired", "moved-on"}
            assert (fresh.serves, fresh.mark("verified")) == (None, None)
            assert fresh.mark("expired") is not None
        else:
            assert fresh.serves == ONE.release
            assert fresh.mark("verified") is not None
            assert (fresh.mark("expired"), fresh.mark("deadman")) == (None, None)

    assert every(make, check) > 100


# --- a flag against a rollout --------------------------------------------------------------------


def test_p3_no_flag_is_armed_on_a_host_that_is_locked(ground: Ground) -> None:
    class Flags:
        """Looks, when it is asked to arm, whether the host is locked."""

        epoch = 0

        def __init__(self, fresh: Ground) -> None:
            self._fresh, self.locked = fresh, False

        def answer(self, *_: object) -> tuple[int, str, str]:
            self.locked = self.locked or self._fresh.mark("lock") is not None
            return 0, "{}", ""

        def armed(self) -> list[str]:
            return []

    def make() -> tuple[Ground, Jobs]:
        fresh = Ground(ground.supervisor, ONE)
        commit = Command(argv=("{current}/router", "flag", "commit", "{flag}"))
        fresh.change(flag_commit=commit)
        fresh.host.service.minds[fresh.main].flags = Flags(fresh)
        arm = FlagStep(step="commit", flag="ICEBERG")
        return fresh, {"arm": asking(fresh, arm), "lock": asking(fresh, claim("plan2"))}

    def check(fresh: Ground, arm: Any, lock: Any) -> None:
        assert isinstance(lock, Locked)
        assert not isinstance(arm, RefusedAnswer) or arm.code == "changing"
        flags = fresh.host.service.minds[fresh.main].flags
        assert isinstance(flags, Flags)
        assert not flags.locked

    assert every(make, check) > 100
