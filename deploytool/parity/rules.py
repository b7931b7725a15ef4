"""Judges evidence. Pure: what a host has to show to be a MATCH, and a fleet to be one.

Each rule looks at one thing and yields what is wrong with it. A rule that has nothing to look at
yields UNKNOWN: no evidence is not evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from deploytool.fleet.protocol import one_line
from deploytool.parity.model import (
    Evidence,
    Expected,
    Finding,
    HostVerdict,
    Level,
    Process,
    Verdict,
)

CLOCK_SKEW_AT_MOST_S = 30.0
"""A clock further off than this breaks whatever expires."""


def wrong(what: str, expected: object, found: object) -> Finding:
    """It was seen, and it is not what it has to be."""
    return Finding(Level.MISMATCH, what, str(expected), one_line(str(found)))


def unseen(what: str, expected: object, why: object) -> Finding:
    """It could not be seen."""
    return Finding(Level.UNKNOWN, what, str(expected), one_line(str(why)))


def short(digest: object) -> str:
    """A digest as people read it; other words stay whole."""
    text = str(digest)
    return text[:12] if len(text) == 64 else text


def lineage(evidence: Evidence) -> frozenset[int]:
    """The main process and its descendants, by the parents that the kernel showed."""
    # In one pass each: a host that shows all the processes that an answer can hold costs no more.
    children: dict[int, list[int]] = {}
    for process in evidence.processes.values():
        children.setdefault(process.parent, []).append(process.pid)
    family: set[int] = set()
    ahead = [evidence.main_pid] if evidence.main_pid else []
    while ahead:
        pid = ahead.pop()
        if pid not in family:
            family.add(pid)
            ahead += children.get(pid, ())
    return frozenset(family)


def stayed(pid: int, evidence: Evidence) -> bool:
    """Whether a process was there all through the round; one that was not looked at may have."""
    process = evidence.processes.get(pid)
    return process is None or _stayed(process, evidence)


def _stayed(process: Process, evidence: Evidence) -> bool:
    return evidence.still.get(process.pid) == process.start


def helper_rule(expected: Expected, evidence: Evidence) -> Iterator[Finding]:
    """The helper that took this evidence is the one that the inventory renders."""
    if evidence.helper != expected.helper:
        yield wrong("host helper", short(expected.helper), short(evidence.helper))


def rights_rule(expected: Expected, evidence: Evidence) -> Iterator[Finding]:
    """Nobody but the owner may write where releases and state lie; under systemd that is root."""
    if len(evidence.rights) != 3:
        yield unseen(
            "rights of the release root", "owner and mode of three folders", evidence.rights
        )
    for folder, text in zip(("root", "releases", "state"), evidence.rights, strict=False):
        owner, _, mode = text.split(":")
        if expected.unit_sha is not None and owner != "0":
            yield wrong(f"owner of {folder}", "root (0)", owner)
        if int(mode, 8) & 0o022:
            yield wrong(f"mode of {folder}", "writable by its owner only", mode)


def signers_rule(expected: Expected, evidence: Evidence) -> Iterator[Finding]:
    """The host believes whom the inventory's signers file names, and only root may change that."""
    if expected.signers is None:
        return
    found = evidence.signers
    if found is None:
        yield unseen("signers file", short(expected.signers), "the helper did not show it")
        return
    if found.sha != expected.signers:
        yield wrong("signers file", short(expected.signers), short(found.sha))
    elif len(found.rights) != 2:
        yield unseen("rights of the signers file", "owner and mode, of it and its folder", found)
    for place, text in zip(("file", "folder"), found.rights, strict=False):
        owner, _, mode = text.split(":")
        if expected.unit_sha is not None and owner != "0":
            yield wrong(f"owner of the signers {place}", "root (0)", owner)
        if int(mode, 8) & 0o022:
            yield wrong(f"mode of the signers {place}", "writable by its owner only", mode)


def clock_rule(_expected: Expected, evidence: Evidence) -> Iterator[Finding]:
    """The host's clock agrees with ours."""
    if abs(evidence.skew_s) > CLOCK_SKEW_AT_MOST_S:
        yield wrong(
            "clock", f"within {CLOCK_SKEW_AT_MOST_S:g} s of ours", f"{evidence.skew_s:+.0f} s"
        )


def link_rule(expected: Expected, evidence: Evidence) -> Iterator[Finding]:
    """``current`` names the release."""
    want = "none" if expected.release is None else f"releases/{expected.release}"
    if evidence.current != want:
        yield wrong(
            "current",
            short(expected.release or "none"),
            short(evidence.release or evidence.current),
        )


def disk_rule(expected: Expected, evidence: Evidence) -> Iterator[Finding]:
    """The bytes on disk are the release's, and only root may have put them there."""
    if expected.release is None:
        return
    if expected.disk and evidence.disk_sha is None:
        yield unseen("artifact on disk", short(expected.release), "it was not read")
    elif evidence.disk_sha is not None and evidence.disk_sha != expected.release:
        yield wrong("artifact on disk", short(expected.release), short(evidence.disk_sha))
    if evidence.manifest_sha is None:
        yield unseen("manifest on disk", short(expected.manifest_sha), "it was not read")
    elif expected.manifest_sha is not None and evidence.manifest_sha != expected.manifest_sha:
        yield wrong("manifest on disk", short(expected.manifest_sha), short(evidence.manifest_sha))
    if evidence.file is None:
        yield unseen("artifact", "its owner and mode", "it was not seen")
        return
    owner = evidence.file.split()[2]
    if int(owner.rpartition(":")[2], 8) & 0o222:
        yield wrong("mode of the artifact", "read-only", owner.rpartition(":")[2])
    if expected.unit_sha is not None and not owner.startswith("0:"):
        yield wrong("owner of the artifact", "root (0)", owner.partition(":")[0])


def unit_rule(expected: Expected, evidence: Evidence) -> Iterator[Finding]:
    """The supervisor runs our unit, whole and alone, now and after a reboot."""
    if expected.unit_path is None:
        return
    wanted = {
        "LoadState": "loaded",
        "FragmentPath": expected.unit_path,
        "DropInPaths": "",
        "UnitFileState": "enabled",
        "NeedDaemonReload": "no",
    }
    if expected.release is not None:
        wanted |= {"ActiveState": "active", "SubState": "running"}
    for key, value in wanted.items():
        found = evidence.unit.get(key)
        if found is None:
            yield unseen(f"unit's {key}", value or "nothing", "systemd did not say")
        elif found != value:
            yield wrong(f"unit's {key}", value or "nothing", found or "nothing")
    yield from _unit_files(expected, evidence)


def _unit_files(expected: Expected, evidence: Evidence) -> Iterator[Finding]:
    own = [sha for sha, path in evidence.unit_files if path == expected.unit_path]
    if own != [expected.unit_sha]:
        yield wrong("unit file", short(expected.unit_sha), short(own[0]) if own else "none")
    for _, path in evidence.unit_files:
        if path != expected.unit_path and "/service.d/" not in path:
            yield wrong("unit's files", "no other than its own", path)


def main_rule(expected: Expected, evidence: Evidence) -> Iterator[Finding]:
    """There is one main process, and it runs the release."""
    if expected.release is None:
        if evidence.main_pid:
            yield wrong("service", "not running", f"process {evidence.main_pid}")
        return
    if not evidence.main_pid:
        yield wrong("service", "running", "no main process")
        return
    process = evidence.processes.get(evidence.main_pid)
    if process is None:
        yield unseen("main process", f"process {evidence.main_pid}", "it could not be looked at")
    elif not _stayed(process, evidence):
        yield wrong("main process", f"process {process.pid} throughout the round", "it ended")
    if not any(run.pid == evidence.main_pid for run in evidence.runs):
        yield unseen(
            "main process",
            "to hold the artifact open",
            f"process {evidence.main_pid} holds no release (docs/contract.md, section 4)",
        )


def runs_rule(expected: Expected, evidence: Evidence) -> Iterator[Finding]:
    """Every process that runs any release of this root is the service's, and runs this one."""
    family = lineage(evidence)
    for run in evidence.runs:
        process = evidence.processes.get(run.pid)
        if process is not None and not _stayed(process, evidence) and run.pid not in family:
            continue  # it was a passer-by, and is gone
        who = f"process {run.pid}" + (f" ({process.command.strip()[:60]})" if process else "")
        if run.sha != expected.release:
            yield wrong(
                "running code", short(expected.release or "none"), f"{short(run.sha)} in {who}"
            )
        elif run.pid not in family:
            yield wrong("running code", "the service alone", f"a second copy in {who}")
        if run.deleted:
            yield wrong("running code", "a file that is there", f"a deleted file in {who}")
    for pid in sorted(evidence.unseen):
        process = evidence.processes.get(pid)
        if process is None or _stayed(process, evidence):
            who = f"process {pid}" + (f" ({process.command.strip()[:160]})" if process else "")
            yield unseen("running code", "to be visible", f"{who} names the artifact, unseen")


def strays(evidence: Evidence) -> tuple[int, ...]:
    """Processes that run a release, or hold its port, and are none of the service's."""
    service = lineage(evidence) | evidence.group
    found = {run.pid for run in evidence.runs} | {pid for _, pid in evidence.owners}
    gone = {p.pid for p in evidence.processes.values() if not _stayed(p, evidence)}
    return tuple(sorted(found - service - gone))


def strays_rule(expected: Expected, evidence: Evidence) -> Iterator[Finding]:
    """What systemd does not know outlives every restart; without systemd we end it ourselves."""
    for pid in strays(evidence) if expected.unit_sha is not None else ():
        process = evidence.processes.get(pid)
        who = f" ({process.command.strip()[:60]})" if process else ""
        yield wrong("release and ports", "the service's alone", f"process {pid}{who}")


def ports_rule(expected: Expected, evidence: Evidence) -> Iterator[Finding]:
    """The service itself, and nobody else, listens where it has to."""
    family = lineage(evidence)
    for port in expected.ports:
        holders = {pid for held, pid in evidence.owners if held == port}
        if expected.release is None:
            if holders:
                yield wrong(f"port {port}", "closed", f"held by process {min(holders)}")
        elif not holders:
            yield wrong(f"port {port}", "held by the service", "nobody listens")
        elif not holders <= family:
            yield wrong(
                f"port {port}", "held by the service", f"held by process {min(holders - family)}"
            )


def status_rule(expected: Expected, evidence: Evidence) -> Iterator[Finding]:
    """The second witness: what the running process says of itself agrees with what was seen."""
    if expected.release is None:
        return
    if evidence.status is None:
        yield unseen("status", "an answer of the running process", evidence.status_text or "none")
        return
    process = evidence.processes.get(evidence.main_pid)
    wanted = {
        "release": expected.release,
        "version": expected.version,
        "flag_table": expected.flag_table,
        "wire": expected.wire,
        "pid": evidence.main_pid,
        "start_ticks": process.start if process else None,
        "boot_id": evidence.boot,
    }
    for key, value in wanted.items():
        if key not in evidence.status:
            yield unseen(f"status: {key}", short(value), "it does not say")
        elif evidence.status[key] != value:
            yield wrong(f"status: {key}", short(value), short(evidence.status[key]))


TRADES_ON = "trading state of a stopped host"
"""What is wrong with a host that was stopped, and whose process says something else."""


def halt_rule(_expected: Expected, evidence: Evidence) -> Iterator[Finding]:
    """What was stopped, and says where it stands, is HALTED; who stopped it was told so."""
    state = (evidence.status or {}).get("trading_state")
    if evidence.halt is not None and state is not None and state != "HALTED":
        yield wrong(TRADES_ON, f"HALTED, by {evidence.halt.by}", state)


def verified_rule(expected: Expected, evidence: Evidence) -> Iterator[Finding]:
    """The running process is the one that a deployer verified; a later start is unexplained."""
    if expected.release is None or not expected.verified:
        return
    mark, process = evidence.verified, evidence.processes.get(evidence.main_pid)
    if mark is None:
        yield wrong(
            "start of the service", "one that was verified", "no deployment has verified it"
        )
    elif process is not None and (mark.release, mark.pid, mark.start, mark.boot) != (
        expected.release,
        process.pid,
        process.start,
        evidence.boot,
    ):
        how = "since a reboot" if mark.boot != evidence.boot else f"now process {process.pid}"
        yield wrong(
            "start of the service", f"process {mark.pid}, which was verified", f"restarted, {how}"
        )


def config_rule(_expected: Expected, evidence: Evidence) -> Iterator[Finding]:
    """Every configuration file that the inventory names can be read."""
    for path, sha in evidence.configs:
        if sha in {"missing", "unreadable"}:
            yield wrong(f"configuration {path}", "there", sha)


Rule = Callable[[Expected, Evidence], Iterator[Finding]]
RULES: tuple[Rule, ...] = (
    helper_rule,
    link_rule,
    disk_rule,
    main_rule,
    runs_rule,
    ports_rule,
    status_rule,
    halt_rule,
    verified_rule,
    unit_rule,
    config_rule,
    rights_rule,
    signers_rule,
    clock_rule,
)


def judge_host(
    host: str, expected: Expected, evidence: Evidence, rules: tuple[Rule, ...] = RULES
) -> HostVerdict:
    """The verdict on one host that answered.

    Raises:
        ValueError: there are no rules: an empty "all of" would be a MATCH for everybody.
    """
    if not rules:
        raise ValueError("no rules were given to judge by")
    findings = tuple(finding for rule in rules for finding in rule(expected, evidence))
    return HostVerdict(host, findings, evidence.release, evidence)


def first_trouble(verdict: HostVerdict) -> str:
    """The finding that says most, for a table that has room for one."""
    if verdict.verdict is Verdict.MATCH:
        return ""
    ranked = sorted(verdict.findings, key=lambda finding: finding.level is Level.UNKNOWN)
    return str(ranked[0]) if ranked else "no evidence"
