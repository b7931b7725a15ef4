"""Checks, before a host resumes, that its build interprets every bit in use as intended (P5).

A host that was stopped may have been given another build under its latch. It keeps the name of the
release that served when it was stopped (``state/meant``) until it is started. ``start/runner.py``
calls ``flag_objections`` twice: when a start is asked for, and right before it is done. Each bit
that the senders use now must be one that the build carries out, and must mean there what it meant
to the release that served. What cannot be read interprets every bit differently.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from deploytool.core.finding import Finding, forbids
from deploytool.errors import HostFault
from deploytool.fleet.host import Host
from deploytool.fleet.model import Inventory
from deploytool.parity.judge import shown_manifest
from deploytool.parity.model import Evidence, RoundAnswers
from deploytool.parity.round import probe_request, take_round
from deploytool.registry.compatibility import Senders, named_bits, obeyable, read_differently
from deploytool.release.model import Manifest

_SHA = re.compile(r"[0-9a-f]{64}")
RULE = "START_FLAGS_READ_DIFFERENTLY"


@dataclass(frozen=True)
class PreviousRelease:
    """What served on a host when it was stopped; ``manifest`` None: nobody there can say."""

    release: str
    manifest: Manifest | None


def flag_objections(
    inventory: Inventory, hosts: Mapping[str, Host], seen: RoundAnswers, senders: Senders | None
) -> tuple[Finding, ...]:
    """Why what the hosts hold may not trade, for what the senders use just now.

    ``senders`` None: the inventory names nobody who could be asked, and nothing is asked.
    """
    now = shown_manifest(seen)
    if senders is None or now is None:
        return ()  # without a release nothing is started anyway
    try:
        in_use = senders.bits_in_use()
    except HostFault as fault:
        text = f"what the senders send could not be seen: {fault}"
        return (forbids(inventory.fleet, RULE, text),)
    if not in_use:
        return ()
    found = _formers(hosts, seen, inventory.ssh.command_timeout_s)
    return tuple(objections(inventory.fleet, now, found, in_use))


def objections(
    fleet: str, now: Manifest, formers: Mapping[str, PreviousRelease], in_use: frozenset[int]
) -> Iterator[Finding]:
    """The same of what is known. Pure. ``formers``: by host, where another release is active now.

    What any host of the fleet served with is what the senders mean.
    """
    label = now.label
    if strange := in_use - obeyable(now.flags):
        says = "has no such flag" if now.flags else "does not say what it obeys"
        text = f"the senders use {named_bits(strange)}, and {label} {says}"
        yield forbids(fleet, RULE, text)
    for host, former in formers.items():
        if former.release == now.sha256:
            continue
        then = former.manifest.flags if former.manifest else None
        if differing := read_differently(then, now.flags) & in_use:
            text = (
                f"the senders use {named_bits(differing)}; what served when it was stopped "
                f"({former.release[:8]}) and {label} read that differently"
            )
            yield forbids(host, RULE, text)


def _formers(
    hosts: Mapping[str, Host], seen: RoundAnswers, deadline_s: float
) -> dict[str, PreviousRelease]:
    """What each host served with when it was stopped, by the manifest that it still holds."""
    meant = {h: e.marks.meant for h, e in seen.items() if isinstance(e, Evidence) and e.marks.meant}
    found = {host: PreviousRelease(release, None) for host, release in meant.items()}
    for release in sorted(filter(_SHA.fullmatch, {*meant.values()})):
        asked = {host: hosts[host] for host, its in meant.items() if its == release}
        call = probe_request((release, None), disk=False)
        for host, item in take_round(asked, call, deadline_s).items():
            label = item.label if isinstance(item, Evidence) else None
            found[host] = PreviousRelease(release, Manifest.of(label, release))
    return found
