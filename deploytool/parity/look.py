"""Takes evidence rounds: asks every host once, at the same time, and has the rules judge."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Mapping

from deploytool.errors import HostFault
from deploytool.fleet.fanout import fanout
from deploytool.fleet.helper import host_files, ports
from deploytool.fleet.host import Host
from deploytool.fleet.model import Digest, Inventory
from deploytool.fleet.protocol import Call, Reply
from deploytool.parity.evidence import parse_evidence
from deploytool.parity.model import Evidence, Expected, HostVerdict, Round
from deploytool.parity.rules import judge_host, unseen
from deploytool.parity.sameness import judge_fleet, most_common_release
from deploytool.release.model import Manifest

Seen = Mapping[str, Evidence | HostFault]


def probe_call(
    held: tuple[str, str | None] | None = None,
    requires: tuple[str, ...] = (),
    *,
    disk: bool = True,
    only_target: bool = False,
) -> Call:
    """The call for one round.

    ``held`` (an artifact's SHA-256 and its manifest's) asks besides whether the host holds it;
    with no manifest's digest, also for the label that it has there. ``only_target``: a process
    of another release than that isn't asked for its status.
    """
    arguments = [("requires", program) for program in requires]
    if held is not None:
        arguments.append(("release", held[0]))
        if held[1] is not None:
            arguments.append(("manifest", held[1]))
    arguments.append(("disk", "read" if disk else "skip"))
    if only_target:
        arguments.append(("ask", "target"))
    return Call("probe", tuple(arguments), changes=False)


def read(reply: Reply) -> Evidence:
    """The evidence in a reply that has just arrived.

    Raises:
        HostFault: it can't be read.
    """
    return parse_evidence(reply, time.time())


def take_round(
    hosts: Mapping[str, Host],
    call: Call,
    deadline_s: float,
    done: Callable[[str, Evidence | HostFault], None] = lambda _name, _outcome: None,
) -> dict[str, Evidence | HostFault]:
    """Asks every host; each gets its evidence or its fault."""

    def job(host: Host) -> Callable[[], Evidence]:
        return lambda: read(host.call(call, deadline_s=deadline_s))

    # The connection has a deadline of its own, which comes before the command's.
    return fanout(
        {name: job(host) for name, host in hosts.items()}, deadline_s=2 * deadline_s, done=done
    )


def expect(
    inventory: Inventory,
    host: str,
    manifest: Manifest | None,
    *,
    verified: bool = True,
    disk: bool = True,
) -> Expected:
    """What ``host`` has to show when it runs the release of ``manifest`` (None: nothing)."""
    files = host_files(inventory, host, "")
    flags = manifest.flags if manifest else None
    return Expected(
        release=Digest(manifest.sha256) if manifest else None,
        manifest_sha=manifest.digest() if manifest else None,
        version=manifest.version if manifest else None,
        flag_table=flags.table if flags else None,
        wire=flags.wire if flags else None,
        helper=files.helper_digest,
        unit_path=files.unit_path,
        unit_sha=files.unit_digest,
        ports=ports(inventory, host),
        signers=files.signers_digest,
        verified=verified,
        disk=disk,
    )


def unreachable(host: str, fault: HostFault) -> HostVerdict:
    """The verdict on a host that gave no evidence."""
    return HostVerdict(host, (unseen("host", "an answer in this round", fault),), None, None)


def judge(
    inventory: Inventory, seen: Seen, manifest: Manifest | None, *, disk: bool = True
) -> Round:
    """One round's verdicts: every declared host must be a MATCH for this release.

    ``manifest`` None: no release is active anywhere, which proves nothing about any. ``disk``
    False: the bytes on disk need not have been read, as in a watch's rounds.
    """
    verdicts = []
    for name in inventory.names:
        outcome = seen[name]
        if isinstance(outcome, HostFault):
            verdicts.append(unreachable(name, outcome))
            continue
        verdict = judge_host(name, expect(inventory, name, manifest, disk=disk), outcome)
        if manifest is None:
            nothing = unseen("release", "one that is active", "none on any host")
            verdict = HostVerdict(name, (*verdict.findings, nothing), None, outcome)
        verdicts.append(verdict)
    label = f"{manifest.name} {manifest.version} ({manifest.sha256[:8]})" if manifest else "none"
    release = Digest(manifest.sha256) if manifest else None
    return Round(release, label, judge_fleet(verdicts))


def shown_manifest(seen: Seen) -> Manifest | None:
    """The manifest of the release that most hosts have, as most of those hosts hold it.

    It is taken only where its bytes are those that a host's evidence digested, and it speaks
    of that release. Where no host has such a one, a bare one stands in, which nothing matches.
    """
    evidence = [item for item in seen.values() if isinstance(item, Evidence)]
    release = most_common_release(evidence)
    if release is None:
        return None
    held = Counter(item.manifest for item in evidence if item.release == release and item.manifest)
    shown = {item.manifest: item.manifest_sha for item in evidence}
    for text, _ in held.most_common():
        try:
            manifest = Manifest.parse(text)
        except ValueError:
            continue
        digested = hashlib.sha256(text).hexdigest() == shown[text]
        if manifest.sha256 == release and digested:
            return manifest
    # A name that is a digest but has no manifest anywhere: said, and matched by nobody.
    return Manifest(name="unknown", version="0", sha256=release, size=1, version_line="unknown")
