"""What each host has to show, and the verdicts on what it showed. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import lru_cache

from deploytool.agent.model import Made
from deploytool.errors import HostFault
from deploytool.fleet.agent_settings import ports
from deploytool.fleet.model import Digest, Inventory
from deploytool.fleet.prepared import HostFiles, host_files
from deploytool.parity.coverage import uncovered
from deploytool.parity.fleet_rules import most_common_release
from deploytool.parity.model import Evidence, Expected, HostVerdict, Round, RoundAnswers
from deploytool.parity.rules import unseen
from deploytool.parity.table import ProofUse, judge_fleet, judge_host
from deploytool.release.model import Manifest


class _Same:
    """An inventory by its identity: what is rendered from it is rendered once."""

    __slots__ = ("inventory",)

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.inventory is self.inventory

    def __hash__(self) -> int:
        return id(self.inventory)


@lru_cache(maxsize=2048)
def _rendered(same: _Same, host: str) -> tuple[HostFiles, Made, str]:
    files = host_files(same.inventory, host, "")
    return files, files.settings.made(), files.agent_digest


def expect(
    inventory: Inventory,
    host: str,
    manifest: Manifest | None,
    *,
    verified: bool = True,
    disk: bool = True,
    surroundings: bool = True,
) -> Expected:
    """What ``host`` has to show when it runs the release of ``manifest`` (None: nothing)."""
    files, made, agent = _rendered(_Same(inventory), host)
    flags = manifest.flags if manifest else None
    return Expected(
        release=Digest(manifest.sha256) if manifest else None,
        manifest_sha=manifest.digest() if manifest else None,
        version=manifest.version if manifest else None,
        flag_table=flags.table if flags else None,
        wire=flags.wire if flags else None,
        agent=agent,
        made=made,
        unit_path=files.unit_path,
        unit_sha=files.unit_digest,
        ports=ports(inventory, host),
        signers=files.signers_digest,
        verified=verified,
        disk=disk,
        surroundings=surroundings,
        redirects_checked=inventory.service.redirects == "checked",
        fleet=inventory.fleet,
        declared=frozenset(inventory.names),
        arguments=files.settings.start.filled(current=f"{files.settings.root}/current"),
        environment=files.settings.environment,
    )


def unreachable(host: str, fault: HostFault) -> HostVerdict:
    """The verdict on a host that gave no evidence."""
    silent = unseen("host", "an answer in this round", fault)
    silent = replace(silent, rule="answer", host=host, facts=fault.facts)
    return HostVerdict(host, (silent,), None, None)


def judge(
    inventory: Inventory,
    seen: RoundAnswers,
    manifest: Manifest | None,
    purpose: ProofUse = ProofUse.PROVE,
) -> Round:
    """One round's verdicts: every declared host must be a MATCH for this release.

    ``manifest`` None: no release is active anywhere, which proves nothing about any. In a watch's
    rounds the bytes on disk are not read.
    """
    disk = purpose is not ProofUse.WATCH
    verdicts = []
    for name in inventory.names:
        outcome = seen[name]
        if isinstance(outcome, HostFault):
            verdicts.append(unreachable(name, outcome))
            continue
        expected = expect(inventory, name, manifest, disk=disk)
        verdict = judge_host(name, expected, outcome, purpose)
        if manifest is None:
            nothing = unseen("release", "one that is active", "none on any host")
            nothing = replace(nothing, rule="current", host=name)
            verdict = replace(verdict, findings=(*verdict.findings, nothing), release=None)
        verdicts.append(verdict)
    label = manifest.label if manifest else "none"
    release = Digest(manifest.sha256) if manifest else None
    return Round(release, label, judge_fleet(verdicts, purpose), uncovered(inventory))


def shown_manifest(seen: RoundAnswers) -> Manifest | None:
    """The manifest of the release that most hosts have, as most of those hosts hold it.

    It is taken only where its bytes are those that a host's evidence digested, and it speaks
    of that release. Where no host has such a one, a bare one stands in, which nothing matches.
    """
    evidence = [item for item in seen.values() if isinstance(item, Evidence)]
    release = most_common_release(evidence)
    if release is None:
        return None
    held = Counter(item.manifest for item in evidence if item.release == release and item.manifest)
    for text, _ in held.most_common():
        try:
            manifest = Manifest.parse(text)
        except ValueError:
            continue
        if manifest.sha256 == release:
            return manifest
    # A name that is a digest but has no manifest anywhere: said, and matched by no host.
    return Manifest.bare("release", release)
