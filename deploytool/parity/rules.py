"""Judges evidence. Pure: what a host has to show to be a MATCH, and a fleet to be one.

Each rule looks at one thing and yields what is wrong with it. A rule that has nothing to look at
yields UNKNOWN: no evidence is not evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from deploytool.agent.model import Made, Rights
from deploytool.fleet.protocol import one_line
from deploytool.parity.model import (
    Evidence,
    Expected,
    Finding,
    HostVerdict,
    Level,
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


def agent_rule(expected: Expected, evidence: Evidence) -> Iterator[Finding]:
    """The agent that took this evidence is the one that the inventory renders."""
    found = evidence.shown.agent
    if found != expected.agent:
        why = differs(expected.made, evidence.shown.made)
        yield wrong("host agent", short(expected.agent), f"{short(found)}, {why}")


def differs(wanted: Made, found: Made) -> str:
    """Why an agent is another than it should be, as far as it tells itself."""
    if found.tool != wanted.tool:
        return f"made by deploytool {found.tool}, this is {wanted.tool}"
    ours, theirs = ({item.name: item.value for item in made.settings} for made in (wanted, found))
    names = sorted(name for name in ours | theirs if ours.get(name) != theirs.get(name))
    if names:
        return f"made from another inventory: {', '.join(names)}"
    return "whose code is not what deploytool writes"


def _writable(rights: Rights) -> bool:
    return bool(rights.mode & 0o022)


def rights_rule(expected: Expected, evidence: Evidence) -> Iterator[Finding]:
    """Nobody but the owner may write where releases and state lie; under systemd that is root."""
    rights = evidence.shown.rights
    if len(rights) != 3:
        yield unseen("rights of the release root", "owner and mode of three folders", len(rights))
    for folder, found in zip(("root", "releases", "state"), rights, strict=False):
        yield from _kept(folder, found, expected)


def _kept(place: str, found: Rights, expected: Expected) -> Iterator[Finding]:
    if expected.unit_sha is not None and found.owner != 0:
        yield wrong(f"owner of {place}", "root (0)", found.owner)
    if _writable(found):
        yield wrong(f"mode of {place}", "writable by its owner only", f"{found.mode:o}")


def signers_rule(expected: Expected, evidence: Evidence) -> Iterator[Finding]:
    """The host believes whom the inventory's signers file names, and only root may change that."""
    if expected.signers is None:
        return
    found = evidence.shown.signers
    if found is None:
        yield unseen("signers file", short(expected.signers), "the agent did not show it")
        return
    if found.file.sha != expected.signers:
        there = "missing" if found.file.missing else found.file.sha or "unreadable"
        yield wrong("signers file", short(expected.signers), short(there))
    elif len(found.rights) != 2:
        yield unseen("rights of the signers file", "owner and mode, of it and its folder", "none")
    for place, rights in zip(("file", "folder"), found.rights, strict=False):
        yield from _kept(f"the signers {place}", rights, expected)


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
    shown = evidence.shown
    on_disk = shown.disk.sha if shown.disk is not None else None
    if on_disk is not None and on_disk != expected.release:
        yield wrong("artifact on disk", short(expected.release), short(on_disk))
    elif expected.disk and on_disk is None:
        yield unseen("artifact on disk", short(expected.release), "it was not read")
    if shown.manifest is None:
        yield unseen("manifest on disk", short(expected.manifest_sha), "it was not read")
    elif expected.manifest_sha is not None and shown.manifest.sha != expected.manifest_sha:
        yield wrong("manifest on disk", short(expected.manifest_sha), short(shown.manifest.sha))
    if shown.artifact is None:
        yield unseen("artifact", "its owner and mode", "it was not seen")
        return
    rights = shown.artifact.rights
    if rights.mode & 0o222:
        yield wrong("mode of the artifact", "read-only", f"{rights.mode:o}")
    if expected.unit_sha is not None and (rights.owner, rights.group) != (0, 0):
        yield wrong("owner of the artifact", "root (0)", rights.owner)


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
        elif _of_unit(key, found) != value:
            yield wrong(f"unit's {key}", value or "nothing", found or "nothing")
    yield from _unit_files(expected, evidence)


def _of_unit(key: str, found: str) -> str:
    """What a property says of this unit alone.

    A drop-in for every service is the distribution's or the fleet's own: it must be the same on all
    hosts (``fleet_rules``), and what it makes of the service is seen in the running process.
    """
    if key != "DropInPaths":
        return found
    return " ".join(path for path in found.split() if "/service.d/" not in path)


def _unit_files(expected: Expected, evidence: Evidence) -> Iterator[Finding]:
    files = evidence.shown.unit_files
    own = [file.sha for file in files if file.path == expected.unit_path]
    if own != [expected.unit_sha]:
        yield wrong("unit file", short(expected.unit_sha), short(own[0]) if own else "none")
    for file in files:
        if file.path != expected.unit_path and "/service.d/" not in file.path:
            yield wrong("unit's files", "no other than its own", file.path)


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
    elif not process.still:
        yield wrong("main process", f"process {process.pid} throughout the round", "it ended")
    if not any(run.pid == evidence.main_pid for run in evidence.shown.runs):
        yield unseen(
            "main process",
            "to hold the artifact open",
            f"process {evidence.main_pid} holds no release (docs/contract.md, section 4)",
        )


def runs_rule(expected: Expected, evidence: Evidence) -> Iterator[Finding]:
    """Every process of the service that runs a release runs this one."""
    for run in evidence.shown.runs:
        if not evidence.stayed(run.pid) and run.pid != evidence.main_pid:
            continue  # it was a passer-by, and is gone
        who = named(evidence, run.pid)
        if run.sha != expected.release:
            found = run.sha or "what can't be read"
            yield wrong(
                "running code", short(expected.release or "none"), f"{short(found)} in {who}"
            )
        if run.deleted:
            yield wrong("running code", "a file that is there", f"a deleted file in {who}")


def named(evidence: Evidence, pid: int) -> str:
    """A process as people read it."""
    process = evidence.processes.get(pid)
    return f"process {pid}" + (f" ({process.command.strip()[:60]})" if process else "")


_WAYS = {
    "executes": "executes",
    "maps": "maps",
    "interprets": "interprets",
    "port": "holds",
    "venue": "is connected to",
}


def strays(evidence: Evidence) -> tuple[int, ...]:
    """Processes that run a release, act as the service, or hold its port, and are not of it."""
    service = set(evidence.shown.group) | lineage(evidence)
    acting = {other.pid for other in evidence.others("acts")}
    holders = {owner.pid for owner in evidence.shown.owners if evidence.stayed(owner.pid)}
    return tuple(sorted((acting | holders) - service))


def strays_rule(expected: Expected, evidence: Evidence) -> Iterator[Finding]:
    """What acts as the service is the service: systemd ends what it knows, and nothing else.

    Without systemd a switch ends every process of this root itself.
    """
    for pid in strays(evidence) if expected.unit_sha is not None else ():
        found = next((other for other in evidence.others("acts") if other.pid == pid), None)
        does = f": {found.detail[:100]}" if found is not None and found.detail else ""
        yield wrong("release and ports", "the service's alone", f"{named(evidence, pid)}{does}")


def acting_rule(_expected: Expected, evidence: Evidence) -> Iterator[Finding]:
    """Nobody beside the service runs a release of it, wherever it lies, or sends where it sends."""
    for other in evidence.others("acts"):
        does = ", ".join(_WAYS.get(way, way) for way in other.ways)
        who = f"{named(evidence, other.pid)}, which {does} {other.detail[:160]}"
        if other.ways == ("port",):
            yield wrong("ports", "the service's alone", who)
            continue
        copy = f" ({short(other.release)})" if other.release else ""
        yield wrong("running code", "the service alone", f"a second copy in {who}{copy}")


def sight_rule(expected: Expected, evidence: Evidence) -> Iterator[Finding]:
    """All of the host was looked at: what can't be seen may act."""
    if expected.unit_sha is not None and not evidence.shown.whole:
        yield unseen("processes", "those of the whole host", "only some of them can be seen")
    for other in evidence.others("unseen"):
        who = named(evidence, other.pid)
        yield unseen("running code", "to be visible", f"{who}, unseen: {other.detail[:160]}")


def ports_rule(expected: Expected, evidence: Evidence) -> Iterator[Finding]:
    """The service itself, and nobody else, listens where it has to."""
    family = lineage(evidence)
    for port in expected.ports:
        holders = {owner.pid for owner in evidence.shown.owners if owner.port == port}
        is_open = port in evidence.shown.open_ports
        if expected.release is None:
            if holders or is_open:
                who = f"held by process {min(holders)}" if holders else "held by a hidden process"
                yield wrong(f"port {port}", "closed", who)
        elif not holders and is_open:
            yield unseen(f"port {port}", "held by the service", "held by a process out of sight")
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
    mark, process = evidence.marks.verified, evidence.processes.get(evidence.main_pid)
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
    for file in evidence.shown.configs:
        if file.sha is None:
            found = "missing" if file.missing else "unreadable"
            yield wrong(f"configuration {file.path}", "there", found)


Rule = Callable[[Expected, Evidence], Iterator[Finding]]
RULES: tuple[Rule, ...] = (
    agent_rule,
    link_rule,
    disk_rule,
    main_rule,
    runs_rule,
    acting_rule,
    sight_rule,
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
