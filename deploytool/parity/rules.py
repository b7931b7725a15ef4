"""Judges what a host has on its disk, what its unit is, and what runs as it. Pure.

Each rule looks at one thing and yields what is wrong with it. A rule that has nothing to look at
yields UNKNOWN: no evidence is not evidence. ``table`` says which rules count for what.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from deploytool.agent.model import Made, Rights
from deploytool.core.finding import Finding, Level
from deploytool.core.text import one_line
from deploytool.parity.ended import how_it_ended
from deploytool.parity.model import (
    Evidence,
    Expected,
    HostVerdict,
    Verdict,
)

UNIT_FOLDERS = frozenset(
    f"{place}/systemd/{kind}"
    for place in ("/etc", "/run", "/lib", "/usr/lib", "/usr/local/lib")
    for kind in ("system", "system.control", "system.attached", "transient", "generator")
)
"""Where systemd finds units (systemd.unit(5))."""
CLOCK_SKEW_AT_MOST_S = 30.0
"""A clock further off than this breaks whatever expires."""


def wrong(what: str, expected: object, found: object, aspect: str = "", **facts: object) -> Finding:
    """It was seen, and it is not what it has to be. ``aspect``: as ``remedies`` looks it up."""
    found = one_line(str(found))
    return Finding(Level.MISMATCH, what, str(expected), found, aspect=aspect, facts=facts)


def unseen(what: str, expected: object, why: object, aspect: str = "") -> Finding:
    """It could not be seen. ``aspect``: as ``remedies`` looks it up."""
    return Finding(Level.UNKNOWN, what, str(expected), one_line(str(why)), aspect=aspect)


def short(digest: object) -> str:
    """A digest as people read it; other words stay whole."""
    text = str(digest)
    return text[:12] if len(text) == 64 else text


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
        wanted = "owner and mode of three folders"
        yield unseen("rights of the release root", wanted, len(rights), "unseen")
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
        wanted = "owner and mode, of it and its folder"
        yield unseen("rights of the signers file", wanted, "none", "unseen")
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
        yield wrong("artifact on disk", short(expected.release), short(on_disk), "artifact")
    elif expected.disk and on_disk is None:
        yield unseen("artifact on disk", short(expected.release), "it was not read", "artifact")
    if shown.manifest is None:
        yield unseen("manifest on disk", short(expected.manifest_sha), "it was not read")
    elif expected.manifest_sha is not None and shown.manifest.sha != expected.manifest_sha:
        yield wrong("manifest on disk", short(expected.manifest_sha), short(shown.manifest.sha))
    if shown.artifact is None:
        yield unseen("artifact", "its owner and mode", "it was not seen")
        return
    rights = shown.artifact.rights
    if rights.mode & 0o222:
        yield wrong("mode of the artifact", "read-only", f"{rights.mode:o}", "rights")
    if expected.unit_sha is not None and (rights.owner, rights.group) != (0, 0):
        yield wrong("owner of the artifact", "root (0)", rights.owner, "rights")


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
            yield unseen(f"unit's {key}", value or "nothing", "systemd did not say", key)
        elif _of_unit(key, found) != value:
            yield wrong(f"unit's {key}", value or "nothing", found or "nothing", key)
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
    ours = [file.sha for file in files if file.path == expected.unit_path]
    if ours != [expected.unit_sha]:
        found = short(ours[0]) if ours else "none"
        yield wrong("unit file", short(expected.unit_sha), found, "file")
    for file in files:
        if file.path != expected.unit_path and "/service.d/" not in file.path:
            own = is_of_unit(file.path, expected.unit_path or "")
            what = "unit's files" if own else "files of other units"
            aspect = "own-file" if own else "other-file"
            yield wrong(what, "no other than its own", file.path, aspect, path=file.path)


def is_of_unit(path: str, unit_path: str) -> bool:
    """Whether a path is that of a file of this unit and of no other (systemd.unit(5)).

    Advice says to remove such a file, and a host may name any.
    """
    folder, _, name = path.rpartition("/")
    unit = unit_path.rpartition("/")[2]
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._@-]*", name) is None:
        return False
    if folder in UNIT_FOLDERS:
        return name == unit
    parent, _, drop_ins = folder.rpartition("/")
    stem = unit.removesuffix(".service")
    names = {f"{unit}.d", *(f"{stem[:at]}-.service.d" for at, c in enumerate(stem) if c == "-")}
    return parent in UNIT_FOLDERS and drop_ins in names and name.endswith(".conf")


def main_rule(expected: Expected, evidence: Evidence) -> Iterator[Finding]:
    """There is one main process, and it runs the release."""
    if expected.release is None:
        if evidence.main_pid:
            yield wrong("service", "not running", f"process {evidence.main_pid}")
        return
    if not evidence.main_pid:
        log = [one_line(line) for line in evidence.shown.log]
        why = [how_it_ended({p.name: p.value for p in evidence.shown.unit})]
        why += [f"it said last: {log[-1][-200:]}"] if log else []
        found = "; ".join(("no main process", *filter(None, why)))
        yield wrong("service", "running", found, log=log)
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
    state = evidence.status.get("trading_state")
    if state is not None and state not in TRADING_STATES:
        yield wrong("status: trading_state", " or ".join(TRADING_STATES), short(state))


TRADING_STATES = ("ACTIVE", "REDUCING", "HALTED")
"""All that docs/contract.md knows: another one says nothing about orders."""


def halt_rule(_expected: Expected, evidence: Evidence) -> Iterator[Finding]:
    """What was stopped, and says where it stands, is HALTED; who stopped it was told so."""
    state = (evidence.status or {}).get("trading_state")
    if evidence.halt is not None and state is not None and state != "HALTED":
        what = "trading state of a stopped host"
        yield wrong(what, f"HALTED, by {evidence.halt.by}", state, state=state)


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


def worst(verdict: HostVerdict) -> Finding:
    """The finding that says most of a host that isn't a MATCH."""
    nothing = Finding(Level.UNKNOWN, "", "", "no evidence", "answer", verdict.host)
    return min(verdict.findings, key=lambda item: item.level is Level.UNKNOWN, default=nothing)


def first_trouble(verdict: HostVerdict) -> str:
    """The same as a sentence, for a table that has room for one; empty for a MATCH."""
    return "" if verdict.verdict is Verdict.MATCH else worst(verdict).text
