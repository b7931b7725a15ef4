"""Who may start a host again, and which: a latch, one release, no cause, two people (P6)."""

from __future__ import annotations

from typing import Any

import pytest

from deploytool.agent.model import Latch
from deploytool.errors import FaultKind, HostFault
from deploytool.parity.model import Evidence
from deploytool.start.checks import (
    fleet_objections,
    host_objections,
    latch_of,
    people_objection,
    request_objections,
    stop_of,
)
from deploytool.start.request import LIFETIME_S, StartRequest
from tests.unit.evidences import MANIFEST, OTHER_SHA, but, good, rendered

NOW = 2_000_000_000
INVENTORY = rendered().inventory
LATCH = Latch(latch="ab", by="me", reason="runaway", since=NOW - 60, artifact="cd")


def halted(host: str, **status: Any) -> Evidence:
    seen = good(host)
    said = {**(seen.status or {}), "trading_state": "HALTED", "latch": "cd", **status}
    return but(seen, status=said, latch=LATCH)


def fleet(**odd: Evidence | HostFault) -> dict[str, Evidence | HostFault]:
    return {host: odd.get(host, halted(host)) for host in INVENTORY.names}


def rules(**odd: Evidence | HostFault) -> set[tuple[str, str]]:
    found = fleet_objections(INVENTORY, fleet(**odd), MANIFEST)
    return {(objection.host, objection.rule) for objection in found}


def test_a_fleet_that_was_stopped_on_one_release_may_be_started() -> None:
    assert rules() == set()


def test_p6_a_host_that_was_not_seen_keeps_all_from_being_started() -> None:
    lost = HostFault(FaultKind.UNREACHABLE, "gone")
    assert ("router5", "START_UNSEEN") in rules(router5=lost)


@pytest.mark.parametrize("part", ["link", "process", "says"])
def test_p6_a_mixed_fleet_is_not_started(part: str) -> None:
    seen = halted("router8")
    if part == "link":
        seen = but(seen, current=f"releases/{OTHER_SHA}")
    elif part == "process":
        seen = but(seen, runs=tuple(run.but(sha=OTHER_SHA) for run in seen.shown.runs))
    else:
        seen = halted("router8", release=OTHER_SHA)
    assert ("router8", "START_MIXED") in rules(router8=seen)


def test_p6_without_a_release_nothing_is_started() -> None:
    found = {o.rule for o in fleet_objections(INVENTORY, fleet(), None)}
    assert "START_MIXED" in found


def test_p6_while_the_cause_holds_nothing_is_started() -> None:
    found = list(host_objections("router1", halted("router1", cause="too many rejects")))
    assert [o.rule for o in found] == ["START_CAUSE"]
    assert "too many rejects" in str(found[0])
    assert not list(host_objections("router1", halted("router1", cause=None)))


def test_what_nothing_holds_can_t_be_started() -> None:
    assert [o.rule for o in host_objections("router1", good())] == ["START_NOT_STOPPED"]


def test_the_latch_is_the_router_s_own_where_it_has_one() -> None:
    assert latch_of(halted("router1")) == "cd"
    dead = but(good(), status=None, latch=LATCH)
    assert latch_of(dead) == "cd", "as it told it before it was killed"
    assert latch_of(but(dead, latch=LATCH.but(artifact=None))) == "ab"


def request(**change: Any) -> StartRequest:
    said = {"by": "alice", "host": "router1", "fleet": INVENTORY.fleet, "latch": "cd"}
    whole: dict[str, Any] = {**said, "reason": "mended", "issued": NOW, "expires": NOW + 600}
    whole["stop"] = "ab"
    return StartRequest(**{**whole, **change})


@pytest.mark.parametrize(
    ("change", "now", "rule"),
    [
        ({}, NOW + 1, None),
        ({"fleet": "another"}, NOW + 1, "START_FLEET"),
        ({"latch": "ef"}, NOW + 1, "START_LATCH"),
        ({}, NOW + 601, "START_EXPIRED"),
        ({}, NOW - 31, "START_FUTURE"),
        ({"issued": NOW - 61}, NOW + 1, None),  # whose clock is behind is no matter
        ({"stop": "ac"}, NOW + 1, "START_STOPPED_AGAIN"),
        ({"stop": "none"}, NOW + 1, "START_STOPPED_AGAIN"),
    ],
)
def test_p6_a_request_is_for_one_latch_here_and_now(
    change: dict[str, Any], now: float, rule: str | None
) -> None:
    found = request_objections(request(**change), INVENTORY, halted("router1"), now)
    assert [objection.rule for objection in found] == ([rule] if rule else [])


def test_p6_what_halted_by_itself_is_started_by_a_request_that_names_no_stop() -> None:
    seen = but(halted("router1"), latch=None)
    assert stop_of(seen) == "none"
    assert not list(request_objections(request(stop="none"), INVENTORY, seen, NOW + 1))
    (found,) = request_objections(request(), INVENTORY, seen, NOW + 1)
    assert found.rule == "START_STOPPED_AGAIN", "the stop that it names is gone"


@pytest.mark.parametrize(
    ("by", "signer", "rule"),
    [
        ("alice", "bob", None),
        ("alice", "alice", "START_SECOND_PERSON"),
        ("alice", "Alice", "START_SECOND_PERSON"),
        ("mallory", "bob", "START_PERSON"),
    ],
)
def test_p6_two_people_start_it(by: str, signer: str, rule: str | None) -> None:
    found = people_objection(request(by=by), signer, frozenset({"alice", "bob"}))
    assert (found.rule if found else None) == rule


def test_what_is_signed_has_one_spelling_and_an_end() -> None:
    content = request().canonical()
    assert StartRequest.parse(content) == request()
    for wrong in (
        content.replace(b'"by"', b' "by"'),
        content + b"\n",
        request(expires=NOW + LIFETIME_S + 1).canonical(),
        request(expires=NOW).canonical(),
        content.replace(b'"by":"alice",', b""),
        content.replace(b',"stop":"ab"', b""),
        b"[]",
    ):
        with pytest.raises(ValueError, match=r"."):
            StartRequest.parse(wrong)
