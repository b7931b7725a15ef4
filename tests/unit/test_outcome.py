"""Each end has its exit code and its three lines, and 0 is proof whatever a report holds (P1)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploytool.core.finding import Finding, Level, forbids
from deploytool.core.finding import trouble as trouble_of
from deploytool.errors import DeploytoolError
from deploytool.fleet.model import Digest
from deploytool.parity.model import HostVerdict, Parity, Round, Verdict
from deploytool.release.model import Release
from deploytool.rollout.model import Purpose, State
from deploytool.rollout.outcome import conclude, cut_short, host_lines, not_proven, refused
from deploytool.rollout.report import Report
from deploytool.rollout.table import ENDS

from .evidences import MANIFEST, OTHER_SHA, good, rendered

NAMES = rendered().inventory.names
MATCH = HostVerdict("x", (), MANIFEST.sha256, good())
MISMATCH = replace(MATCH, findings=(Finding(Level.MISMATCH, "disk", "a", "b"),))
UNKNOWN = HostVerdict("x", (Finding(Level.UNKNOWN, "host", "an answer", "none"),), None, None)


def a_round(*verdicts: HostVerdict) -> Round:
    hosts = tuple(replace(v, host=n) for n, v in zip(NAMES, verdicts, strict=True))
    return Round(Digest(MANIFEST.sha256), "router 2026.1", hosts)


PROVEN = a_round(*[MATCH] * 8)
MIXED = a_round(*[MATCH] * 7, MISMATCH)
LOST = a_round(*[MATCH] * 7, UNKNOWN)
ROUNDS = st.lists(st.sampled_from([MATCH, MISMATCH, UNKNOWN]), min_size=8, max_size=8).map(
    lambda verdicts: a_round(*verdicts)
)
BEFORE = dict.fromkeys(NAMES, OTHER_SHA)


def report(state: State, **fields: object) -> Report:
    made = Report(Purpose.DEPLOY, state, "router 2026.2 (abc)", MANIFEST.sha256, path=[state])
    made.before = dict(BEFORE)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def three_lines(error: DeploytoolError) -> None:
    for line in (error.what, error.means, error.now):
        assert line.strip()
        assert "\n" not in line
    assert "deploytool" in error.now


def ended(made: Report) -> int:
    error = conclude(made, "fleet.yaml")
    if error is None:
        return 0
    three_lines(error)
    return error.exit_code


def test_each_end_has_its_code() -> None:
    refusal = (forbids("router1", "PREFLIGHT_LOCK", "locked by you@there"),)
    assert ended(report(State.DONE, round=PROVEN)) == 0
    assert ended(report(State.REFUSED, obstacles=refusal)) == 3
    assert ended(report(State.RESTORED, round=PROVEN)) == 4
    assert ended(report(State.RESTORED, round=MIXED)) == 5
    assert (
        ended(
            report(
                State.HELD, round=MIXED, trouble={"router8": trouble_of("router8", "answer", "x")}
            )
        )
        == 5
    )
    for state in (State.REFUSED, State.RESTORED, State.HELD):
        assert ended(report(state, round=PROVEN, interrupted=True)) == 130


def test_p2_hosts_that_were_not_alike_before_are_not_called_restored() -> None:
    before = {**BEFORE, "router1": None}
    assert ended(report(State.RESTORED, round=PROVEN, before=before)) == 5


@given(
    st.sampled_from(State),
    st.none() | ROUNDS,
    st.booleans(),
    st.sampled_from(Purpose),
    st.dictionaries(st.sampled_from(NAMES), st.text(max_size=20)),
)
def test_p1_no_report_ends_with_zero_unless_the_fleet_is_in_parity(
    state: State,
    taken: Round | None,
    interrupted: bool,
    purpose: Purpose,
    trouble: dict[str, str],
) -> None:
    found = {host: trouble_of(host, "answer", text) for host, text in trouble.items()}
    made = report(state, round=taken, interrupted=interrupted, purpose=purpose, trouble=found)
    try:
        code = ended(made)
    except ValueError:
        unproven = taken is None or taken.parity is not Parity.PARITY
        assert state not in ENDS or unproven
        return
    assert state in ENDS
    assert code in {0, 3, 4, 5, 130}
    if code == 0:
        assert taken is not None
        assert taken.parity is Parity.PARITY
        assert state is State.DONE or (state, purpose) == (State.RESTORED, Purpose.ROLLBACK)
    if state is State.HELD:
        assert code in {5, 130}


def test_p2_every_host_that_is_no_match_has_its_line() -> None:
    for taken, bad in ((MIXED, 1), (LOST, 1), (PROVEN, 0), (a_round(*[UNKNOWN] * 8), 8)):
        lines = host_lines(taken)
        assert len(lines) == bad == 8 - taken.count(Verdict.MATCH)
        assert all(any(line.startswith(f"{n}: ") for n in NAMES) for line in lines)
    error = not_proven(LOST, "fleet.yaml", "what happened")
    assert error.exit_code == 5
    assert "UNKNOWN" in error.means
    assert "7 of 8" in error.means
    assert error.details == host_lines(LOST)
    assert "MIXED" in not_proven(MIXED, "fleet.yaml", "x").means
    assert "No host answered" in not_proven(a_round(*[UNKNOWN] * 8), "fleet.yaml", "x").means


def test_p2_a_held_fleet_names_its_hosts_and_both_ways_out() -> None:
    made = report(
        State.HELD, round=MIXED, trouble={"router3": trouble_of("router3", "answer", "no answer")}
    )
    error = conclude(made, "fleet.yaml")
    assert error is not None
    assert [line.split(":")[0] for line in error.details] == ["router3", "router8"]
    assert "MIXED or UNKNOWN" in error.means
    assert "deploytool resume -i fleet.yaml" in error.now
    assert "deploytool rollback -i fleet.yaml" in error.now


def test_a_plan_is_refused_in_the_words_of_a_deployment() -> None:
    release = Release(MANIFEST, "")
    for rule, text in (
        ("PREFLIGHT_LOCK", "locked by you@there"),
        ("PREFLIGHT_REACHABLE", "connection refused"),
        ("FLAGS_ARMED", "RETAIL is armed on it"),
        ("PLAN_MOVED", "was locked by a rollout since the plan was made"),
    ):
        found = (forbids("router1", rule, text, flag="RETAIL"),)
        considered = refused(found, release, Purpose.DEPLOY, "fleet.yaml")
        tried = conclude(report(State.REFUSED, obstacles=found), "fleet.yaml")
        assert tried is not None
        assert considered.exit_code == 3
        assert (considered.what, considered.now) == (tried.what, tried.now)
        three_lines(considered)


def test_advice_names_an_inventory_so_that_it_can_be_pasted() -> None:
    made = report(State.HELD, round=MIXED)
    error = conclude(made, "my fleets/a.yaml")
    assert error is not None
    assert "rollback -i 'my fleets/a.yaml'" in error.now
    assert "rollback -i 'my fleets/a.yaml'" in cut_short("router 1", "my fleets/a.yaml").now


def test_what_is_armed_is_turned_off_first_by_the_command_that_was_refused() -> None:
    found = (forbids("router1", "FLAGS_ARMED", "RETAIL is armed on it", flag="RETAIL"),)
    for purpose in Purpose:
        error = conclude(report(State.REFUSED, obstacles=found, purpose=purpose), "f.yaml")
        assert error is not None
        verb = "deploy" if purpose is Purpose.SUPERSEDE else purpose.value
        assert f"deploytool {verb} -i f.yaml" in error.now
        assert error.now.endswith(" --disarm")


@pytest.mark.parametrize("taken", [None, MIXED, LOST])
def test_p1_done_without_a_proof_is_a_bug_and_never_zero(taken: Round | None) -> None:
    with pytest.raises(ValueError, match="without a proof"):
        conclude(report(State.DONE, round=taken), "fleet.yaml")
