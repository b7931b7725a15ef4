"""The verbs of a stop, in memory and on a real host: no token, no mutex, nothing revived."""

from __future__ import annotations

import base64
import fcntl
import json
import time
from pathlib import Path
from typing import Any

import pytest

from deploytool.fleet.protocol import Reply
from deploytool.parity.round import read
from deploytool.start.request import StartRequest

from .sides import (
    Arguments,
    Real,
    Side,
    ask,
    asked,
    back,
    claim,
    lock,
    mark,
    refused,
    shape,
    stage,
    switch,
)

STOP: Arguments = {"by": "me@here", "reason": "runaway+orders", "latch": "ab12", "since": 1}
QUIESCE: Arguments = {**STOP, "seconds": 20}
KILL: Arguments = {**STOP, "seconds": 3}


def running(side: Side) -> tuple[int, str]:
    """A host that runs a verified release; gives its lock's token and the release."""
    token = lock(side)
    manifest, content = side.release("1.0")
    stage(side, (manifest, content), token)
    seen = read(asked(side, "activate", {**switch(token, manifest.sha256), "disk": "skip"}))
    asked(side, "confirm", mark(token, seen))
    return token, manifest.sha256


def said(reply: Reply) -> object:
    """What the artifact answered to a halt."""
    plain = base64.b64decode(reply.one("halt") or "").decode()
    assert plain.startswith("{"), plain
    return json.loads(plain)


def test_p6_a_host_is_quiesced_without_a_token_and_says_so_from_then_on(side: Side) -> None:
    running(side)
    reply = asked(side, "quiesce", QUIESCE)
    assert said(reply) == {"latch": "disk", "trading_state": "HALTED"}
    assert reply.all("stray") == ()
    assert reply.one("latched") == "yes"
    seen = read(ask(side, "probe"))
    assert seen.status is not None
    assert seen.status["trading_state"] == "HALTED"
    assert seen.halt is not None
    assert (seen.halt.latch, seen.halt.by, seen.halt.reason) == (
        "ab12",
        "me@here",
        "runaway orders",
    )
    assert not seen.halt.fenced
    assert shape(side, ask(side, "latch").lines) == [
        "halted latch ab12 by me@here reason runaway+orders since <n> artifact disk"
    ]


def test_p6_a_stop_needs_no_process_and_no_release(side: Side) -> None:
    reply = asked(side, "quiesce", QUIESCE)
    assert reply.one("latched") == "yes"
    with pytest.raises(AssertionError):
        said(reply)
    assert asked(side, "fence", STOP).one("fenced") == "yes"
    assert asked(side, "kill", KILL).one("killed") == "0"
    assert ask(side, "look").all("alive") == ()


def test_p6_what_is_fenced_and_killed_is_gone_and_stays_away(side: Side) -> None:
    token, release = running(side)
    assert ask(side, "look").all("alive")
    assert asked(side, "fence", STOP).one("fenced") == "yes"
    assert int(asked(side, "kill", KILL).one("killed") or "") >= 1
    assert ask(side, "look").lines == ask(side, "latch").lines, "nothing is alive, and no port open"
    assert refused(side, "activate", switch(token, release)) == "halted"
    known: Arguments = {**switch(token, release), "latch": "ab12"}
    assert refused(side, "activate", known) == "halted", "fenced is fenced, whoever knows of it"
    assert ask(side, "look").all("alive") == ()


def test_p6_a_rollout_that_began_before_the_stop_changes_nothing_more(side: Side) -> None:
    token, release = running(side)
    asked(side, "quiesce", QUIESCE)
    assert refused(side, "activate", switch(token, release)) == "halted"
    manifest, content = side.release("2.0")
    with pytest.raises(Exception, match="stopped"):
        stage(side, (manifest, content), token)
    known: Arguments = {**switch(token, release), "latch": "ab12"}
    seen = read(asked(side, "activate", known))
    assert seen.status is not None
    assert seen.status["trading_state"] == "HALTED", "a latch survives a redeploy"


def test_p6_a_later_stop_is_another_latch(side: Side) -> None:
    token, release = running(side)
    asked(side, "quiesce", QUIESCE)
    asked(side, "quiesce", {**QUIESCE, "latch": "cd34"})
    known: Arguments = {**switch(token, release), "latch": "ab12"}
    assert refused(side, "activate", known) == "halted"


def test_p6_hosts_are_chosen_by_what_they_run(side: Side) -> None:
    _, release = running(side)
    other: Arguments = {**QUIESCE, "only": "0" * 64}
    assert asked(side, "quiesce", other).lines == (("skipped", "another-release"),)
    assert ask(side, "latch").lines == ()
    assert asked(side, "quiesce", {**QUIESCE, "only": release[:12]}).one("latched") == "yes"


def test_p6_what_a_rollout_may_switch_to_or_back_counts_as_run(side: Side) -> None:
    """It may be past its own look at the latch, and not past the switch of the link."""
    token, release = running(side)
    asked(side, "unlock", back(token))
    other: Arguments = {**QUIESCE, "only": "b" * 64}
    assert asked(side, "quiesce", other).lines == (("skipped", "another-release"),)
    asked(side, "lock", {**claim("plan2"), "release": "b" * 64, "before": "c" * 64})
    assert asked(side, "quiesce", other).one("latched") == "yes"
    assert asked(side, "quiesce", {**QUIESCE, "only": "c" * 12}).one("latched") == "yes"
    assert asked(side, "quiesce", {**QUIESCE, "only": "d" * 12}).one("skipped") is not None
    assert asked(side, "quiesce", {**QUIESCE, "only": release}).one("latched") == "yes"


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


def test_p6_a_fenced_host_is_started_again_by_two_people_and_its_latch(side: Side) -> None:
    running(side)
    asked(side, "fence", STOP)
    asked(side, "kill", KILL)
    request = signed(side)
    assert (
        refused(side, "resume", {"latch": "cd34", "size": len(request)}, request) == "other-latch"
    )
    for wrong in (
        b"signed",
        request.replace(b"mended", b"mendex"),
        signed(side, by=side.signer),
        signed(side, host="router9"),
        signed(side, fleet="another"),
        signed(side, latch="ab13"),
        signed(side, issued=1, expires=60),
    ):
        stated: Arguments = {"latch": "ab12", "size": len(wrong)}
        assert refused(side, "resume", stated, wrong) == "not-signed", wrong
        assert ask(side, "latch").one("fenced") is not None
    assert ask(side, "look").all("alive") == ()
    for stop in ("cd34", "none", "b12"):  # well signed, and made before the stop that holds here
        wrong = signed(side, stop=stop)
        stated = {"latch": "ab12", "size": len(wrong)}
        assert refused(side, "resume", stated, wrong) == "other-latch"
        assert ask(side, "latch").one("fenced") is not None
    reply = asked(side, "resume", {"latch": "ab12", "size": len(request)}, request)
    assert reply.lines[-1] == ("released", "")
    assert ask(side, "latch").lines == ()
    assert read(ask(side, "probe")).main_pid
    assert refused(side, "resume", {"latch": "ab12", "size": len(request)}, request) == "not-halted"


def test_p5_a_host_keeps_what_it_served_with_when_it_was_stopped_until_it_is_started(
    side: Side,
) -> None:
    token, release = running(side)
    knows = {"latch": "ab12"}
    second, third = side.release("2.0"), side.release("3.0")
    stage(side, second, token)
    stage(side, third, token)
    asked(side, "activate", switch(token, second[0].sha256))
    assert read(ask(side, "probe")).meant is None, "nobody stopped it"
    asked(side, "activate", switch(token, release))
    asked(side, "quiesce", QUIESCE)
    assert read(asked(side, "activate", {**switch(token, release), **knows})).meant is None
    for other in (second[0].sha256, "none", third[0].sha256):
        seen = read(asked(side, "activate", {**switch(token, other), **knows}))
        assert seen.meant == release
    asked(side, "unlock", {"token": token, "keep": 1})
    held = read(ask(side, "probe", release=release))
    assert (held.meant, held.release_state) == (release, "intact"), "it can be asked what it meant"
    latch = held.halt.artifact or held.halt.latch if held.halt else ""
    request = signed(side, latch=latch)
    asked(side, "resume", {**knows, "size": len(request)}, request)
    assert read(ask(side, "probe")).meant is None
    token = lock(side, "plan2")
    assert asked(side, "retire", {"token": token}).lines == ()
    assert read(ask(side, "probe")).meant is None


def test_p5_a_host_that_retires_while_it_is_stopped_keeps_what_it_served_with(side: Side) -> None:
    token, release = running(side)
    asked(side, "quiesce", QUIESCE)
    asked(side, "retire", {"token": token})
    assert read(ask(side, "probe")).meant == release


def test_a_lease_that_nobody_named_is_not_renewed(side: Side) -> None:
    assert refused(side, "lease", {"lease": "none"}) == "no-lease"


@pytest.mark.parametrize("wrong", ["latch not-hex", "only xyz", "reason a/b", "since soon"])
def test_a_stop_takes_no_other_words(side: Side, wrong: str) -> None:
    key, _, value = wrong.partition(" ")
    assert refused(side, "quiesce", {**QUIESCE, key: value}) == "bad-request"
    assert ask(side, "latch").lines == ()


@pytest.mark.sshd
def test_p6_a_change_that_hangs_under_the_mutex_stops_no_stop(real: Real) -> None:
    side = real
    running(side)
    with Path(side.root, "state", "mutex").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert asked(side, "quiesce", QUIESCE).one("latched") == "yes"
        asked(side, "fence", STOP)
        asked(side, "kill", KILL)
        assert ask(side, "look").all("alive") == ()
