"""The builds that are live on hosts, and whether a release gives what is theirs away. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from deploytool.core.finding import Finding, forbids
from deploytool.fleet.model import Inventory
from deploytool.parity.model import Evidence
from deploytool.registry.model import FlagEntry, entries_of
from deploytool.registry.rules import FlagRefusal, between
from deploytool.release.model import Manifest

UNREADABLE = "FLAG_LIVE_UNREADABLE"


def manifest_of(evidence: Evidence) -> Manifest | None:
    """That of the release which the host has active; None where it can't be read."""
    return Manifest.of(evidence.manifest, evidence.release)


def running(evidence: Evidence) -> set[str]:
    """What runs on a host, by its bytes; where those were not read, by the folder they lie in."""
    found = {item.sha or _folder(item.path) for item in evidence.running}
    return found or {str(evidence.release)}


def _folder(path: str) -> str:
    return path.rpartition("/releases/")[2].partition("/")[0]


def build_conflicts(
    inventory: Inventory, evidence: Mapping[str, Evidence], release: Manifest
) -> tuple[Finding, ...]:
    """Every host on which a build is live that has a bit or a name of ``release`` for another flag.

    Going back gives nothing away: what the newer build has retired, or made permanent, is the same
    flag. A build that says nothing of its flags has none that could be given away; what it may obey
    all the same is the flag check's business. Throwaway fleets are exempt, as in the gate.
    """
    if inventory.throwaway or release.flags is None:
        return ()
    label = release.label
    try:
        own = entries_of(release.flags, label)
    except ValueError as error:
        return (forbids(label, UNREADABLE, f"its flag table is not true: {error}"),)
    known: dict[str, list[Manifest]] = {}
    for item in evidence.values():
        if (manifest := manifest_of(item)) is not None:
            known.setdefault(manifest.sha256, []).append(manifest)
    serves = {sha for item in evidence.values() if item.running for sha in running(item)}
    return tuple(
        obstacle
        for host, item in evidence.items()
        for sha in sorted(_live(item) - {release.sha256})
        for obstacle in _held(
            host, sha, known.get(sha), own, label, beside=release.sha256 in serves
        )
    )


def _live(evidence: Evidence) -> set[str]:
    """What runs, and what would run after a reboot."""
    if evidence.release is None and not evidence.running:
        return set()
    return running(evidence) | {evidence.release or ""} - {""}


def _held(
    host: str,
    sha: str,
    manifests: list[Manifest] | None,
    own: tuple[FlagEntry, ...],
    label: str,
    *,
    beside: bool,
) -> Iterator[Finding]:
    """``beside``: the release serves beside it already, and to replace it is the way out."""
    build = f"build {sha[:8]}"
    if manifests is None:
        if not beside:
            yield forbids(host, UNREADABLE, f"no host has the manifest of {build}, live there")
        return
    refusals: list[FlagRefusal] = []
    for manifest in manifests:
        if manifest.flags is None:
            continue
        try:
            refusals += between(own, entries_of(manifest.flags, build), label)
        except ValueError as error:
            yield forbids(host, UNREADABLE, f"the flag table of {build} is not true: {error}")
    for refusal in dict.fromkeys(refusals):
        yield forbids(host, refusal.rule.value, f"{refusal.text}; {refusal.remedy}")
