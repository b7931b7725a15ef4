"""P3: no flag on a mixed fleet. Every host that stands in the way is named, with why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from deploytool.agent.model import Deadman, Hold, Lock, RolloutMark
from deploytool.arming.certificate import CLOCK_SKEW_S, certify
from deploytool.arming.checks import (
    AGE_AT_MOST_S,
    FLEET,
    Census,
    SenderObservation,
    Situation,
    find_flag,
    obstacles,
)
from deploytool.core.finding import forbids
from deploytool.errors import HostFault
from deploytool.fleet.model import Digest
from deploytool.parity.fleet_rules import most_common_release
from deploytool.parity.judge import expect, unreachable
from deploytool.parity.model import Evidence, HostVerdict, Round, RoundAnswers
from deploytool.parity.table import judge_fleet, judge_host
from tests.unit.evidences import but

from . import fleets
from .fleets import NAMES, NEW, NONCES, NOW, OLD, declared, new, situation

STATES: dict[str, Callable[[str], Evidence | HostFault]] = {
    "new": fleets.new,
    "old": fleets.old,
    "unreachable": fleets.unreachable,
}
RUNS = {"new": NEW.sha256, "old": OLD.sha256, "unreachable": None}
MANIFESTS = {NEW.sha256: NEW, OLD.sha256: OLD}


def changed(host: str, **changes: Any) -> Situation:
    """All is well, but for one host's evidence."""
    taken = situation().round
    hosts = tuple(
        replace(v, evidence=but(v.evidence, **changes)) if v.host == host and v.evidence else v
        for v in taken.hosts
    )
    return replace(situation(), round=replace(taken, hosts=hosts))


def status(**changes: Any) -> dict[str, Any]:
    said = {**(new("router8").status or {}), **changes}
    return {"status": {key: value for key, value in said.items() if value is not ...}}


def test_all_is_well() -> None:
    assert obstacles(situation()) == ()


@pytest.mark.slow
def test_p3_of_all_6561_fleets_of_new_old_and_unreachable_hosts_one_may_arm() -> None:
    """Held against the release that most hosts have, as a command does that names no release."""
    shown = {(state, name): make(name) for (state, make), name in product(STATES.items(), NAMES)}
    judged: dict[tuple[str, str, str | None], HostVerdict] = {}
    for ((state, name), outcome), sha in product(shown.items(), (*MANIFESTS, None)):
        manifest = MANIFESTS.get(sha or "")
        judged[state, name, sha] = (
            unreachable(name, outcome)
            if isinstance(outcome, HostFault)
            else judge_host(name, expect(declared(), name, manifest), outcome)
        )
    well, allowed = situation(), []
    for fleet in product(STATES, repeat=len(NAMES)):
        seen = [shown[state, name] for state, name in zip(fleet, NAMES, strict=True)]
        sha = most_common_release([item for item in seen if isinstance(item, Evidence)])
        verdicts = [judged[state, name, sha] for state, name in zip(fleet, NAMES, strict=True)]
        taken = Round(None if sha is None else Digest(sha), "x", judge_fleet(verdicts))
        manifest = MANIFESTS.get(sha or "")
        found = obstacles(replace(well, round=taken, manifest=manifest))
        named = {o.host for o in found if o.rule == "ARM_PARITY"} - {FLEET}
        assert named == {n for n, s in zip(NAMES, fleet, strict=True) if RUNS[s] != sha or not sha}
        if not found:
            allowed.append(fleet)
            certify(declared(), taken, NONCES, {"RETAIL": "a" * 64}, nonce="0" * 32, now=1, epoch=1)
    assert allowed == [("new",) * len(NAMES)]


@pytest.mark.parametrize("state", ["old", "unreachable"])
@pytest.mark.parametrize("name", NAMES)
def test_p3_one_host_of_eight_stands_in_the_way_and_is_named(name: str, state: str) -> None:
    seen = {host: new(host) for host in NAMES} | {name: STATES[state](name)}
    (found,) = [o for o in obstacles(situation(seen)) if o.rule == "ARM_PARITY"]
    assert found.host == name
    verdict, where = {"old": ("MISMATCH", OLD.sha256[:8]), "unreachable": ("UNKNOWN", "seen")}[
        state
    ]
    assert found.text.startswith(verdict)
    assert where in found.text


LOCK = Lock(token=3, holder="anna@desk", purpose="deploy", plan="p1", since=1)
ROLLOUT = RolloutMark(plan="p1", target="a" * 64, before=None, phase="locked", since=1)
HOLD = Hold(verdict="MIXED", holder="anna", plan="p1", next="resume", since=1)
DEADMAN = Deadman(boot="b", token=1, seconds=60, armed=1)


@pytest.mark.parametrize(
    ("changes", "rule", "text"),
    [
        ({"lock": LOCK}, "ARM_LOCKED", "locked by anna@desk for deploy, plan p1"),
        ({"rollout": ROLLOUT}, "ARM_ROLLOUT", "plan p1"),
        ({"hold": HOLD}, "ARM_HELD", "held as MIXED by anna"),
        ({"deadman": DEADMAN}, "ARM_UNCONFIRMED", "not confirmed"),
        ({"unreadable": ("deadman",)}, "ARM_UNCONFIRMED", "not confirmed"),
        (status(armed=["RETAIL"]), "ARM_ALREADY", "disarm it first"),
        (status(armed=["OTHER"]), "ARM_STATE", "armed on it: OTHER; on most: nothing"),
        (status(armed=...), "ARM_STATE", "does not say which flags"),
        (status(armed="RETAIL"), "ARM_STATE", "does not say which flags"),
        (status(armed=[1]), "ARM_STATE", "does not say which flags"),
        (status(epoch=...), "ARM_STATE", "does not say its epoch"),
        (status(epoch=-1), "ARM_STATE", "does not say its epoch"),
        (status(epoch=True), "ARM_STATE", "does not say its epoch"),
        (status(trading_state="HALTED", reason="drill"), "ARM_STATE", "HALTED, not ACTIVE: drill"),
        (status(trading_state="REDUCING"), "ARM_STATE", "REDUCING, not ACTIVE: no reason given"),
        (status(trading_state=...), "ARM_STATE", "None, not ACTIVE"),
        ({"status": None}, "ARM_STATE", "does not say which flags"),
    ],
)
def test_p3_a_host_stands_in_the_way(changes: dict[str, Any], rule: str, text: str) -> None:
    found = [o for o in obstacles(changed("router8", **changes)) if o.rule == rule]
    assert [o.host for o in found] == ["router8"] * len(found)
    assert any(text in o.text for o in found), found


def test_another_flag_that_is_armed_everywhere_is_no_obstacle() -> None:
    armed = tuple(
        replace(v, evidence=but(v.evidence, **status(armed=["OTHER"])))
        for v in situation().round.hosts
        if v.evidence
    )
    assert obstacles(replace(situation(), round=replace(situation().round, hosts=armed))) == ()


SESSIONS = {name: frozenset({NEW.sha256}) for name in NAMES}
CENSUS = Census(NOW, frozenset(NAMES))
GATEWAY = SenderObservation(NOW, frozenset(), SESSIONS)
FULL = situation().round


@pytest.mark.parametrize(
    ("changes", "host", "rule", "text"),
    [
        ({"declared": ()}, FLEET, "ARM_PARITY", "no host is declared"),
        ({"declared": (*NAMES, "router9")}, "router9", "ARM_PARITY", "0 verdicts"),
        ({"declared": NAMES[1:]}, "router1", "ARM_PARITY", "not declared"),
        ({"round": replace(FULL, hosts=FULL.hosts[:7])}, "router8", "ARM_PARITY", "0 verdicts"),
        (
            {"round": replace(FULL, hosts=(*FULL.hosts, FULL.hosts[0]))},
            "router1",
            "ARM_PARITY",
            "2 verdicts",
        ),
        ({"round": replace(FULL, hosts=())}, "router1", "ARM_PARITY", "0 verdicts"),
        ({"round": replace(FULL, release=None)}, FLEET, "ARM_PARITY", "not checked against"),
        ({"manifest": OLD}, FLEET, "ARM_PARITY", "not checked against"),
        ({"manifest": None}, FLEET, "ARM_FLAG_KNOWN", "no release with a flag table"),
        ({"taken": NOW - AGE_AT_MOST_S - 1}, FLEET, "ARM_ROUND_FRESH", "31 s old"),
        ({"taken": NOW + CLOCK_SKEW_S + 1}, FLEET, "ARM_ROUND_FRESH", "from the future by 31 s"),
        ({"taken": float("nan")}, FLEET, "ARM_ROUND_FRESH", "nan"),
        ({"flag": "NOWHERE"}, FLEET, "ARM_FLAG_KNOWN", "router 2026.1 has no flag NOWHERE"),
        ({"flag": "HIDDEN"}, FLEET, "ARM_FLAG_KNOWN", "always on"),
        ({"flag": "POWER_PEG"}, FLEET, "ARM_FLAG_KNOWN", "retired"),
        ({"census": "exit 1"}, FLEET, "ARM_CENSUS", "is not known: exit 1"),
        ({"census": replace(CENSUS, taken=NOW - 31)}, FLEET, "ARM_CENSUS", "31 s old"),
        ({"census": replace(CENSUS, taken=NOW + 3600)}, FLEET, "ARM_CENSUS", "future"),
        (
            {"census": Census(NOW, frozenset({*NAMES, "router9"}))},
            "router9",
            "ARM_CENSUS",
            "takes traffic, and is not declared",
        ),
        (
            {"census": Census(NOW, frozenset(NAMES[1:]))},
            "router1",
            "ARM_CENSUS",
            "is declared, and takes none",
        ),
        ({"census": Census(NOW, frozenset())}, "router8", "ARM_CENSUS", "takes none"),
        ({"gateway": "timed out"}, FLEET, "ARM_GATEWAY", "is not known: timed out"),
        ({"gateway": replace(GATEWAY, taken=NOW - 31)}, FLEET, "ARM_GATEWAY", "31 s old"),
        ({"gateway": replace(GATEWAY, bits=frozenset({4}))}, FLEET, "ARM_GATEWAY", "bit 4 already"),
        ({"gateway": replace(GATEWAY, sessions={})}, "router3", "ARM_GATEWAY", "no sender"),
        (
            {"gateway": replace(GATEWAY, sessions={**SESSIONS, "router9": SESSIONS["router1"]})},
            "router9",
            "ARM_GATEWAY",
            "not declared",
        ),
        (
            {
                "gateway": replace(
                    GATEWAY, sessions={**SESSIONS, "router2": frozenset({OLD.sha256})}
                )
            },
            "router2",
            "ARM_GATEWAY",
            f"showed {OLD.sha256[:8]}",
        ),
        (
            {
                "gateway": replace(
                    GATEWAY,
                    sessions={**SESSIONS, "router2": frozenset({OLD.sha256, NEW.sha256})},
                )
            },
            "router2",
            "ARM_GATEWAY",
            OLD.sha256[:8],
        ),
    ],
)
def test_p3_what_is_wrong_or_not_known_stands_in_the_way(
    changes: dict[str, Any], host: str, rule: str, text: str
) -> None:
    found = obstacles(replace(situation(), **changes))
    assert any(o.host == host and o.rule == rule and text in o.text for o in found), found


@pytest.mark.parametrize("edge", [AGE_AT_MOST_S, 0.0, -CLOCK_SKEW_S])
def test_what_was_seen_at_the_edge_of_its_time_is_still_good(edge: float) -> None:
    then = NOW - edge
    asked = replace(
        situation(),
        taken=then,
        census=replace(CENSUS, taken=then),
        gateway=replace(GATEWAY, taken=then),
    )
    assert obstacles(asked) == ()


def test_a_table_that_is_not_what_its_digest_says_has_no_flag() -> None:
    assert NEW.flags is not None
    lies = NEW.model_copy(update={"flags": NEW.flags.model_copy(update={"table": "0" * 64})})
    with pytest.raises(ValueError, match="digest"):
        find_flag(lies, "RETAIL")
    assert str(find_flag(NEW, "RETAIL")) == "RETAIL on bit 4"


def test_a_match_on_another_release_than_the_round_s_is_no_parity() -> None:
    """A round can't be made like this; a certificate that trusted that would be one bug away."""
    odd = replace(FULL.hosts[2], release=OLD.sha256)
    taken = replace(FULL, hosts=(*FULL.hosts[:2], odd, *FULL.hosts[3:]))
    (found,) = obstacles(replace(situation(), round=taken))
    assert (found.host, found.rule) == ("router3", "ARM_PARITY")
    assert "not the round's" in found.text


def test_everything_is_named_at_once() -> None:
    seen: RoundAnswers = {host: new(host) for host in NAMES} | {
        "router2": fleets.unreachable("router2"),
        "router5": but(new("router5"), lock=LOCK),
        "router8": fleets.old("router8"),
    }
    found = obstacles(replace(situation(seen), census="exit 1", gateway="exit 2"))
    assert {(o.host, o.rule) for o in found} >= {
        ("router2", "ARM_PARITY"),
        ("router5", "ARM_LOCKED"),
        ("router8", "ARM_PARITY"),
        (FLEET, "ARM_CENSUS"),
        (FLEET, "ARM_GATEWAY"),
    }
    assert forbids("router2", "X", "why").line == "router2: why"
