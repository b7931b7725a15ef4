"""Finds out what an interrupted rollout was about, from any machine: the hosts say it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from deploytool.errors import HostFault, InputError, NotProven, Refused
from deploytool.fleet.host import Host
from deploytool.fleet.model import Inventory
from deploytool.parity.host_notices import hold_notices
from deploytool.parity.judge import shown_manifest
from deploytool.parity.model import Evidence
from deploytool.parity.round import probe_request, take_round
from deploytool.release.model import NO_RELEASE, Manifest, Release
from deploytool.release.store import find as find_release
from deploytool.rollout.baseline import common_target, marks
from deploytool.rollout.journal import Journal, Unfinished, journal_path
from deploytool.rollout.model import Purpose
from deploytool.rollout.outcome import another_release


@dataclass(frozen=True)
class InterruptedRollout:
    """What was found: by host its evidence or fault, the release that was being deployed."""

    seen: Mapping[str, Evidence | HostFault]
    release: Release
    journal: Unfinished | None

    @property
    def from_hosts(self) -> bool:
        """Whether the release is known from the hosts only: this machine can't copy it."""
        return not self.release.artifact


def locate(
    inventory: Inventory,
    hosts: Mapping[str, Host],
    store: Path,
    journal_folder: Path,
    inventory_name: str,
    purpose: Purpose,
) -> InterruptedRollout:
    """Looks at all hosts for the marks of a rollout that did not end.

    Raises:
        NotProven: no host answers.
        Refused: there is nothing to finish or to undo, or the marks disagree.
    """
    seen = take_round(hosts, probe_request(disk=False), inventory.ssh.command_timeout_s)
    if not any(isinstance(item, Evidence) for item in seen.values()):
        raise NotProven(
            "No host answers.",
            "Nothing was changed, and nothing is known.",
            f"deploytool status -i {quote(inventory_name)}",
            tuple(f"{name}: {item}" for name, item in seen.items()),
        )
    found = marks(seen)
    target = common_target(found)
    locked = any(isinstance(item, Evidence) and item.lock for item in seen.values())
    if target is None and not found and locked and purpose is Purpose.ROLLBACK:
        # A lock without a mark: nothing was begun, so there is only the lock to give back.
        current = shown_manifest(seen)
        return InterruptedRollout(seen, Release(current or _bare(inventory, NO_RELEASE), ""), None)
    if target is None:
        raise _no_target(seen, inventory_name, purpose)
    path = journal_path(journal_folder, inventory.fleet)
    unfinished = None
    if path.exists():
        with Journal(path) as journal:
            unfinished = journal.unfinished()
    try:
        return InterruptedRollout(seen, find_release(store, target), unfinished)
    except InputError:
        if purpose is Purpose.ROLLBACK:
            return InterruptedRollout(seen, Release(_bare(inventory, target), ""), unfinished)
        manifest = _manifest_from(hosts, seen, target, inventory.ssh.command_timeout_s)
        return InterruptedRollout(seen, Release(manifest, ""), unfinished)


def _bare(inventory: Inventory, release: str) -> Manifest:
    """What stands for a release that only has to be undone: its name is enough for that."""
    return Manifest.bare(inventory.service.name, release)


def _before(seen: Mapping[str, Evidence | HostFault]) -> str | None:
    """The one release that every host that answers had before the last rollout, if it is one."""
    shown = [item for item in seen.values() if isinstance(item, Evidence)]
    found = {item.marks.previous for item in shown} - {item.release for item in shown}
    return found.pop() if len(found) == 1 else None


def _no_target(
    seen: Mapping[str, Evidence | HostFault], inventory: str, purpose: Purpose
) -> Refused:
    found, inventory = marks(seen), quote(inventory)
    if not found:
        now = f"deploytool status -i {inventory}"
        if purpose is Purpose.ROLLBACK and (before := _before(seen)) is not None:
            now = (
                "There is nothing to undo. To run the release before this one again: "
                f"deploytool deploy -i {inventory} {before[:12]}"
            )
        return Refused(
            "NOTHING_INTERRUPTED",
            "No host that answers has the mark of a rollout that did not end.",
            "Nothing was changed.",
            now,
            tuple(f"{n}: {f}" for n, f in seen.items() if isinstance(f, HostFault)),
        )
    return Refused(
        "RESUME_TARGET",
        "The hosts' marks name different releases.",
        "Nothing was changed. Two rollouts were interrupted, or the marks were altered.",
        f"deploytool status -i {inventory}, then {another_release(inventory)}",
        tuple(f"{name}: {mark.target}, plan {mark.plan}" for name, mark in found.items()),
    )


def _manifest_from(
    hosts: Mapping[str, Host],
    seen: Mapping[str, Evidence | HostFault],
    target: str,
    deadline_s: float,
) -> Manifest:
    """The manifest of a release that isn't in this machine's store, as a host holds it.

    Raises:
        Refused: no host holds it whole.
    """
    answering = {n: hosts[n] for n, item in seen.items() if isinstance(item, Evidence)}
    labels = take_round(answering, probe_request((target, None), disk=False), deadline_s)
    for item in labels.values():
        label = (
            item.label if isinstance(item, Evidence) and item.release_state == "intact" else None
        )
        if (manifest := Manifest.of(label, target)) is not None:
            return manifest
    raise Refused(
        "RESUME_RELEASE",
        f"The release {target[:12]} is neither in this machine's store nor whole on a host.",
        "Nothing was changed.",
        "Bring it here (deploytool release build NAME), then resume or roll back again.",
    )


def describe_interrupted(found: InterruptedRollout) -> list[str]:
    """What was found, in words, one line a thing."""
    lines = [f"Found a rollout of {found.release.label} that did not end:"]
    for name, item in found.seen.items():
        if isinstance(item, HostFault):
            lines.append(f"  {name}: does not answer: {item}")
            continue
        mark, lock = item.rollout, item.lock
        phase = f"{mark.phase}, {_ago(mark.since)}" if mark else "no mark"
        held = f"locked by {lock.holder} ({lock.purpose}, token {lock.token})" if lock else "free"
        lines.append(f"  {name}: {phase}; on {(item.release or 'no release')[:12]}; {held}")
    lines += [f"  {line}" for line in hold_notices(found.seen, time.time())]
    if found.journal is not None:
        lines.append(
            f"  this machine's journal: {found.journal.purpose} {found.journal.plan} by "
            f"{found.journal.holder}, last {found.journal.last_what} in {found.journal.last_state}"
        )
    if found.from_hosts:
        lines.append("  the release is not in this machine's store; hosts that lack it stay behind")
    return lines


def _ago(since: int) -> str:
    return f"{max(0, int(time.time()) - since)} s ago"
