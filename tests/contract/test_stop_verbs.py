"""The verbs of a stop, in memory and on a real host: no token, no mutex, nothing revived."""

from __future__ import annotations

import fcntl
import json
import time
from pathlib import Path
from typing import Any

import pytest

from deploytool.agent.model import Asked
from deploytool.agent.requests import (
    Answer,
    Halt,
    Halted,
    HaltRelease,
    LatchShown,
    RenewLease,
    Resume,
    Resumed,
    Retire,
    ShowLatch,
)
from deploytool.start.request import StartRequest

from .sides import (
    STOP,
    Real,
    Side,
    activate,
    asked,
    back,
    claim,
    lock,
    look,
    mark,
    refused,
    stage,
    switch,
    take,
)

HALT = Halt(latch=STOP.latch, by=STOP.by, reason=STOP.reason, since=STOP.since, seconds=20)
WORDS = {"latch": "ab12", "by": "me@here", "reason": "runaway+orders", "since": "1"}


def running(side: Side) -> tuple[int, str]:
    """A host that runs a verified release; gives its lock's token and the release."""
    token = lock(side)
    manifest, content = side.release("1.0")
    stage(side, (manifest, content), token)
    seen = activate(side, switch(token, manifest.sha256))
    asked(side, mark(token, seen))
    return token, manifest.sha256


def halt(side: Side, **changes: Any) -> Halted:
    kind = HaltRelease if "only" in changes else Halt
    halted = asked(side, kind.from_json({**HALT.to_json(), **changes}))
    assert isinstance(halted, Halted)
    return halted


def latch(side: Side) -> LatchShown:
    shown = asked(side, ShowLatch())
    assert isinstance(shown, LatchShown)
    return shown


def said(asked: Asked | None) -> dict[str, Any]:
    """What the artifact answered to a halt."""
    assert asked is not None
    found: dict[str, Any] = json.loads(asked.answer)
    return found


def test_p6_a_host_is_halted_without_a_token_and_says_so_from_then_on(side: Side) -> None:
    running(side)
    halted = halt(side)
    answer = said(halted.said)
    assert answer["trading_state"] == "HALTED"
    assert (halted.strays, halted.latched, halted.synced) == ((), True, True)
    seen = look(side)
    assert seen.status is not None
    assert seen.status["trading_state"] == "HALTED"
    assert seen.halt is not None
    assert (seen.halt.latch, seen.halt.by, seen.halt.reason) == (
        "ab12",
        "me@here",
        "runaway orders",
    )
    assert not seen.halt.fenced
    assert latch(side).latch == STOP.but(artifact=answer["latch"])


def test_p6_a_stop_needs_no_process_and_no_release(side: Side) -> None:
    halted = halt(side)
    assert halted.latched
    assert halted.said is None or not halted.said.answer.startswith("{")
    side.fence()
    assert latch(side).fenced


@pytest.mark.sshd
def test_p6_what_is_fenced_and_killed_is_gone_and_stays_away(real: Real) -> None:
    token, release = running(real)
    assert real.rung("look").all("alive")
    assert real.rung("fence", **WORDS).one("fenced") == "yes"
    assert int(real.rung("kill", **WORDS, seconds="3").one("killed") or "") >= 1
    shown = real.rung("look")
    assert (shown.all("alive"), shown.all("open")) == ((), ()), "nothing is alive, no port open"
    assert shown.one("fenced") is not None
    assert (shown.one("halted") or "").startswith("latch ab12 ")
    assert refused(real, switch(token, release)) == "halted"
    known = switch(token, release, latch="ab12")
    assert refused(real, known) == "halted", "fenced is fenced, whoever knows of it"
    assert real.rung("look").all("alive") == ()


def test_p6_a_rollout_that_began_before_the_stop_changes_nothing_more(side: Side) -> None:
    token, release = running(side)
    halt(side)
    assert refused(side, switch(token, release)) == "halted"
    manifest, content = side.release("2.0")
    with pytest.raises(Exception, match="stopped"):
        stage(side, (manifest, content), token)
    seen = activate(side, switch(token, release, latch="ab12"))
    assert seen.status is not None
    assert seen.status["trading_state"] == "HALTED", "a latch survives a redeploy"


def test_p6_a_later_stop_is_another_latch(side: Side) -> None:
    token, release = running(side)
    halt(side)
    halt(side, latch="cd34")
    assert refused(side, switch(token, release, latch="ab12")) == "halted"


def test_p6_hosts_are_chosen_by_what_they_run(side: Side) -> None:
    _, release = running(side)
    assert halt(side, only="0" * 64) == Halted(skipped=True)
    assert latch(side) == LatchShown()
    assert halt(side, only=release[:12]).latched


def test_p6_what_a_rollout_may_switch_to_or_back_counts_as_run(side: Side) -> None:
    """It may be past its own look at the latch, and not past the switch of the link."""
    token, release = running(side)
    asked(side, back(token))
    assert halt(side, only="b" * 64).skipped
    take(side, claim("plan2", release="b" * 64, before="c" * 64, knows_before=True))
    assert halt(side, only="b" * 64).latched
    assert halt(side, only="c" * 12).latched
    assert halt(side, only="d" * 12).skipped
    assert halt(side, only=release).latched


def signed(side: Side, **changes: Any) -> bytes:
    """A request of somebody's, with a signer's signature; ``changes`` make it another's."""
    now = int(time.time())
    said: dict[str, Any] = {
        "by": "alice",
        "host": side.host.name,
        "fleet": side.fleet,
        "latch": "ab12",
    }
    said |= {"reason": 'mended, "latch":"ab12","reason":', "latch": "ab12"}
    said |= {"issued": now, "expires": now + 60, "stop": "ab12"}
    content = StartRequest(**{**said, **changes}).canonical()
    return content + side.sign(content)


def resume(content: bytes, latch: str | None = "ab12") -> Resume:
    return Resume(latch=latch, size=len(content))


def test_p6_a_fenced_host_is_started_again_by_two_people_and_its_latch(side: Side) -> None:
    running(side)
    side.fence()
    held = latch(side).latch
    assert held is not None
    # An artifact that can latch without running was asked for that too.
    own = {"latch": held.artifact or held.latch}
    request = signed(side, **own)
    assert refused(side, resume(request, "cd34"), request) == "other-latch"
    for wrong in (
        request.replace(b"mended", b"mendex"),
        signed(side, **own, by=side.signer),
        signed(side, **own, host="router9"),
        signed(side, **own, fleet="another"),
        signed(side, latch="ab13"),
        signed(side, **own, issued=1, expires=60),
    ):
        assert refused(side, resume(wrong), wrong) == "not-signed", wrong
        assert latch(side).fenced
    assert refused(side, resume(b"signed"), b"signed") == "bad-request"
    assert look(side).running == ()
    for stop in ("cd34", "none", "b12"):  # well signed, and made before the stop that holds here
        wrong = signed(side, **own, stop=stop)
        assert refused(side, resume(wrong), wrong) == "other-latch"
        assert latch(side).fenced
    answer = asked(side, resume(request), request)
    assert isinstance(answer, Resumed)
    assert answer.released
    assert latch(side) == LatchShown()
    assert look(side).main_pid
    assert refused(side, resume(request), request) == "not-halted"


def test_p5_a_host_keeps_what_it_served_with_when_it_was_stopped_until_it_is_started(
    side: Side,
) -> None:
    token, release = running(side)
    second, third = side.release("2.0"), side.release("3.0")
    stage(side, second, token)
    stage(side, third, token)
    activate(side, switch(token, second[0].sha256))
    assert look(side).marks.meant is None, "nobody stopped it"
    activate(side, switch(token, release))
    halt(side)
    assert activate(side, switch(token, release, latch="ab12")).marks.meant is None
    for other in (second[0].sha256, None, third[0].sha256):
        seen = activate(side, switch(token, other, latch="ab12"))
        assert seen.marks.meant == release
    asked(side, back(token, keep=1))
    held = look(side, release=(release, None))
    assert (held.marks.meant, held.release_state) == (release, "intact"), "it can be asked for it"
    own = held.halt.artifact or held.halt.latch if held.halt else ""
    request = signed(side, latch=own)
    asked(side, resume(request), request)
    assert look(side).marks.meant is None
    token = lock(side, "plan2")
    assert asked(side, Retire(token=token)) == Answer()
    assert look(side).marks.meant is None


def test_p5_a_host_that_retires_while_it_is_stopped_keeps_what_it_served_with(side: Side) -> None:
    token, release = running(side)
    halt(side)
    asked(side, Retire(token=token))
    assert look(side).marks.meant == release


def test_a_lease_that_nobody_named_is_not_renewed(side: Side) -> None:
    assert refused(side, RenewLease()) == "no-lease"


@pytest.mark.sshd
def test_p6_a_change_that_hangs_under_the_mutex_stops_no_stop(real: Real) -> None:
    running(real)
    with Path(real.root, "state", "mutex").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert halt(real).latched
        real.fence()
        assert real.rung("look").all("alive") == ()
