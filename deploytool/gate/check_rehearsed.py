"""GATE_REHEARSED: this very digest was rehearsed, on a fleet of each inventory's shape."""

from __future__ import annotations

from pathlib import Path

from deploytool.errors import InputError
from deploytool.gate.check_flags import Found
from deploytool.gate.declared import Declared
from deploytool.gate.model import Check, GateFinding
from deploytool.gate.record import shape_of, shown
from deploytool.gate.records import read_all
from deploytool.gate.rules import clock_is_off
from deploytool.gate.subject import Subject
from deploytool.release.model import Release

RULE = Check.REHEARSED.value


def rehearsed(subject: Subject) -> Found:
    """What the records show of each release, for each inventory of its service.

    Raises:
        InputError: there is no release, or no inventory that a release of it could come to.
    """
    evidence: list[str] = []
    findings: list[GateFinding] = []
    if off := clock_is_off(subject.request.now, subject.checkout.committed_at):
        name = subject.name(subject.request.registry)
        clock = GateFinding(RULE, name, 1, off, "set this machine's clock", unknown=True)
        return (), (clock,)
    declared = [item for item in subject.declared.values() if isinstance(item, Declared)]
    for path, item in subject.declared.items():
        if not isinstance(item, Declared):
            text = "it can't be read: what has to be rehearsed for its fleet is not known"
            remedy = f"deploytool gate --check {Check.INVENTORY.value} names what is wrong in it"
            lost = GateFinding(RULE, str(path), 1, text, remedy, unknown=True)
            findings.append(subject.finding(lost))
    for release in subject.releases:
        mine = [item for item in declared if item.inventory.service.name == release.manifest.name]
        if not mine:
            raise InputError(
                f"No inventory that can be read is for {release.manifest.name}.",
                "Nothing says on what fleet it has to be rehearsed.",
                "Keep the inventory of a fleet that it is deployed to in inventories/",
            )
        for item in mine:
            more, lacking = judge(item, release, subject.request.now)
            evidence += more
            findings += [subject.finding(found) for found in lacking]
    return tuple(evidence), tuple(findings)


def judge(
    declared: Declared, release: Release, now: float
) -> tuple[tuple[str, ...], tuple[GateFinding, ...]]:
    """What the records that an inventory names show of a release, and what they lack."""
    path, line = str(declared.path), declared.line("rehearsal")
    demand = declared.inventory.rehearsal
    if demand is None:
        text = "it does not say what has to be rehearsed, and whose records are believed"
        remedy = "name records and signers under rehearsal: inventories/example.yaml shows how"
        return (), (GateFinding(RULE, path, line, text, remedy),)
    kept = read_all(Path(demand.records), Path(demand.signers))
    shape = shape_of(declared.inventory)
    evidence, lacking = shown(kept, str(release.digest), shape, demand, now)
    if not lacking:
        return evidence, ()
    fleet = "container" if shape.supervisor == "systemd" else "local"
    remedy = (
        f"deploytool rehearse --fleet {fleet} -i {declared.path} --candidate "
        f"{release.manifest.version} --record {demand.records} --sign KEY"
    )
    text = f"{release.label}: {'; '.join(lacking)}"
    return evidence, (GateFinding(RULE, path, line, text, remedy),)
