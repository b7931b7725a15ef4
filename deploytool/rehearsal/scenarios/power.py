"""Scenarios about power: it goes between switch and verification, or during a copy, or at a reboot.

A virtual machine loses what its kernel had not written; a container's processes end, and the
kernel below them goes on.
"""

from __future__ import annotations

import secrets
import shutil
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from deploytool.core.observer import NullObserver
from deploytool.fleet.inventory import load_inventory
from deploytool.fleet.model import Digest
from deploytool.rehearsal.faults.truth import Truth
from deploytool.rehearsal.fleets.box import digest
from deploytool.rehearsal.fleets.model import Kind
from deploytool.rehearsal.scenarios.model import Scenario, Showing
from deploytool.rehearsal.stage import CommandEnd, Stage
from deploytool.release.model import Release

_WITH_POWER: tuple[Kind, ...] = ("vagrant", "container")
_MIB = 1 << 20
_PADDING_MIB: dict[Kind, int] = {"vagrant": 4, "container": 64}
_SERVES_S = 60.0
_POLL_S = 1.0


class When(NullObserver):
    """Does something once, when a host reaches something in a rollout."""

    def __init__(self, host: str, text: str, act: Callable[[], None]) -> None:
        self._awaited = (host, text)
        self._act = act
        self.acted = False

    def host(self, host: str, text: str, *, good: bool | None) -> None:
        """Called by the rollout, which waits."""
        if (host, text) == self._awaited and good and not self.acted:
            self.acted = True
            self._act()


def on_baseline(stage: Stage, showing: Showing) -> bool:
    """Every scenario here begins with the baseline, proven."""
    first = stage.deploy(stage.baseline)
    showing.point(first.exit_code == 0, f"baseline deployed: exit {first.exit_code}, {first.text}")
    return first.exit_code == 0


def named(ended: CommandEnd, host: str) -> str:
    """What a deploy says of a host; empty where it does not name it."""
    report = ended.report
    refused = [o.text for o in report.obstacles if o.host == host] if report else []
    return (str(report.trouble.get(host, "")) if report else "") or "; ".join(refused)


def fails_honestly(stage: Stage, showing: Showing, ended: CommandEnd, victim: str) -> None:
    """It failed, said so, and named the host."""
    del stage
    showing.point(ended.exit_code in {4, 5}, f"the deploy failed: exit {ended.exit_code}")
    why = named(ended, victim)
    showing.point(bool(why), f"it is named: {victim}: {why or 'NOT NAMED'}")


def brought_back(stage: Stage, showing: Showing, ended: CommandEnd) -> None:
    """Where the fleet was held it is rolled back; then every host is on the baseline, truly.

    A host that booted meanwhile runs a process that nobody verified: rollback says so, and a deploy
    of what it runs verifies that.
    """
    if ended.exit_code == 5:
        back = stage.rollback()
        honest = back.exit_code == 0 or (back.exit_code == 5 and "restarted" in back.text)
        showing.point(honest, f"rollback: exit {back.exit_code}, {back.text}")
        if back.exit_code != 0:
            again = stage.deploy(stage.baseline)
            showing.point(again.exit_code == 0, f"deployed again: {again.exit_code}, {again.text}")
    all_run(stage, showing, stage.baseline)


def all_run(
    stage: Stage, showing: Showing, release: Release, hosts: tuple[str, ...] | None = None
) -> None:
    """What the hosts' own kernels say: they run the release, whole and alone."""
    seen = stage.truths(hosts)
    wrong = {host: item for host, item in seen.items() if not item.runs(release.digest)}
    told = "; ".join(f"{host}: {item}" for host, item in wrong.items())
    count = f"{len(seen) - len(wrong)} of {len(seen)}"
    showing.point(not wrong, f"{count} hosts run {release.label} {told}".strip())


def serves(stage: Stage, host: str, release: Release) -> Truth:
    """Waits until a host that booted runs a release at all; gives what is true there then."""
    deadline = time.monotonic() + _SERVES_S * stage.record.factor
    while True:
        seen = stage.truths((host,))[host]
        if seen.runs(release.digest) or time.monotonic() > deadline:
            return seen
        time.sleep(_POLL_S)


def reboot_mid_rollout(stage: Stage, showing: Showing) -> None:
    """A host was switched, and loses its power before it was verified."""
    if not on_baseline(stage, showing):
        return
    victim = stage.last_host
    pulled = When(victim, "activated", lambda: stage.machines.reset(victim))
    ended = stage.deploy(stage.candidate, observer=pulled, hurried=True)
    showing.point(pulled.acted, f"{victim} lost its power between switch and verification")
    fails_honestly(stage, showing, ended, victim)
    stage.machines.await_boot(victim)
    brought_back(stage, showing, ended)


def _padded(stage: Stage) -> Release:
    """The candidate with so much in it that its copy takes a while."""
    folder = stage.fleet.folder / "padded"
    folder.mkdir(exist_ok=True)
    artifact = folder / Path(stage.candidate.artifact).name
    shutil.copyfile(stage.candidate.artifact, artifact)
    with zipfile.ZipFile(artifact, "a", zipfile.ZIP_STORED) as archive:
        size = _PADDING_MIB[stage.fleet.kind] * _MIB
        # Text, since a router reads all of itself as such: it must be one that would run.
        archive.writestr(zipfile.ZipInfo("padding"), secrets.token_hex(size // 2))
    artifact.chmod(0o755)
    found = {"sha256": Digest(digest(artifact)), "size": artifact.stat().st_size}
    manifest = stage.candidate.manifest.model_copy(update=found)
    return replace(stage.candidate, manifest=manifest, artifact=str(artifact))


def power_off(stage: Stage, showing: Showing) -> None:
    """A host loses its power in the middle of a copy; its file system comes back as it was."""
    if not on_baseline(stage, showing):
        return
    victim = stage.last_host
    release = _padded(stage)
    root = load_inventory(stage.fleet.inventory).root(victim)
    arriving = f"{root}/releases/.incoming.{release.digest}.*/router"
    enough = f'test "$(stat -c %s {arriving} 2>/dev/null || echo 0)" -ge {_MIB}'
    with stage.machines.kill_when(victim, enough):
        ended = stage.deploy(release, hurried=True)
    states = {host.name: host.state for host in stage.fleet.status().hosts}
    off = states[victim] == "stopped"
    showing.point(off, f"{victim} lost its power in the middle of the copy: {states[victim]}")
    fails_honestly(stage, showing, ended, victim)
    if off:
        stage.machines.start(victim)
    whole = _whole_releases(stage, victim, root)
    told = ", ".join(name[:12] for name in sorted(whole or ())) or "NO"
    showing.point(
        whole is not None and release.digest not in whole and stage.baseline.digest in whole,
        f"what bears a release's name on {victim} is whole: {told}",
    )
    seen = serves(stage, victim, stage.baseline)
    showing.point(
        seen.linked == seen.on_disk == stage.baseline.digest, f"{victim} after its boot: {seen}"
    )
    brought_back(stage, showing, ended)


_WHOLE = """
for folder in "$1"/releases/*/; do
    name=${folder%/}; name=${name##*/}
    sum=$(sha256sum "$folder/router" | cut -d" " -f1)
    [ "$sum" = "$name" ] || { echo "$name is $sum" >&2; exit 1; }
    echo "$name"
done
"""


def _whole_releases(stage: Stage, host: str, root: str) -> set[str] | None:
    """The releases on a host's disk; None where one is not what its name says."""
    told = stage.machines.inside(host, ("sh", "-c", _WHOLE, "sh", root))
    return set(told.out.split()) if told.code == 0 else None


# What somebody's old notes would have one do: a unit of the same name, where systemd looks first,
# that starts the release of then. Nothing is reloaded: what runs goes on running.
_OLD_UNIT = """
set -eu
sed "s,/current/,/releases/$2/," /usr/local/lib/systemd/system/router.service \
    >/etc/systemd/system/router.service
grep -q "/releases/$2/" /etc/systemd/system/router.service
sync
"""
_NO_OLD_UNIT = """
systemctl stop router
rm -f /etc/systemd/system/router.service
systemctl daemon-reload
"""
"""While the old build runs, a deploy that can't ask the senders refuses: it is stopped first."""


def reboot_brings_old_build(stage: Stage, showing: Showing) -> None:
    """A unit on the old path lies in wait for the next boot; it is found before that."""
    if not on_baseline(stage, showing):
        return
    second = stage.deploy(stage.candidate)
    showing.point(second.exit_code == 0, f"candidate deployed: {second.text}")
    victim, fleet = stage.last_host, stage.machines
    root = load_inventory(stage.fleet.inventory).root(victim)
    planted = fleet.inside(victim, ("sh", "-c", _OLD_UNIT, "sh", root, stage.baseline.digest))
    lies = f"a unit on the old path lies on {victim} {planted.err}".strip()
    showing.point(planted.code == 0, lies)
    all_run(stage, showing, stage.candidate, (victim,))
    before = stage.status()
    findings = [str(f) for v in (before.round.hosts if before.round else ()) if v.host == victim
                for f in v.findings]  # fmt: skip
    showing.point(
        before.exit_code == 5 and any("unit" in text for text in findings),
        f"status finds it before any reboot: exit {before.exit_code}, {'; '.join(findings[:2])}",
    )
    fleet.reset(victim)
    fleet.await_boot(victim)
    seen = _runs(stage, victim)
    running = {sha for _, sha in seen.running}
    showing.point(
        running == {stage.baseline.digest} and seen.linked == stage.candidate.digest,
        f"and the reboot brings the old build: {seen}",
    )
    fleet.inside(victim, ("sh", "-c", _NO_OLD_UNIT))
    mended = stage.deploy(stage.candidate)
    showing.point(mended.exit_code == 0, f"without it a deploy mends that: {mended.text}")


def _runs(stage: Stage, host: str) -> Truth:
    """What is true on a host once anything runs there."""
    deadline = time.monotonic() + _SERVES_S * stage.record.factor
    while True:
        seen = stage.truths((host,))[host]
        if seen.running or time.monotonic() > deadline:
            return seen
        time.sleep(_POLL_S)


REBOOT_MID_ROLLOUT = Scenario(
    "reboot-mid-rollout",
    "a host loses its power between switch and verification",
    reboot_mid_rollout,
    _WITH_POWER,
)
POWER_OFF = Scenario(
    "power-off", "a host loses its power in the middle of a copy", power_off, _WITH_POWER
)
REBOOT_BRINGS_OLD_BUILD = Scenario(
    "reboot-brings-old-build",
    "a unit on the old path waits for the next boot",
    reboot_brings_old_build,
    _WITH_POWER,
)
