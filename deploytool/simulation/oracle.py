"""What is true of simulated hosts: looked up in the machines themselves, never through a probe."""

from __future__ import annotations

from dataclasses import dataclass

from deploytool.simulation.helper import Helper
from deploytool.simulation.machine import sha256


@dataclass(frozen=True)
class SimulatedTruth:
    """What one machine is, in full. Digests are of bytes, whatever any name or process claims."""

    linked: str | None
    """The release that ``current`` names: what a restart would run."""
    on_disk: str | None
    """The artifact behind it as a reboot would find it."""
    in_cache: str | None
    """The artifact behind it as a start would load it."""
    main: str | None
    """What the service's main process loaded."""
    running: tuple[str, ...]
    """What every process of this root loaded, the service's and others."""
    serving: bool
    """Whether the main process, and nobody else, has the service's ports."""

    def runs(self, release: str) -> bool:
        """Whether this host runs the release, whole and alone, on the disk and in memory."""
        digests = (self.linked, self.on_disk, self.in_cache, self.main)
        return set(digests) == {release} and self.running == (release,) and self.serving


def _sha(content: bytes | None) -> str | None:
    return None if content is None else sha256(content)


def truth(helper: Helper) -> SimulatedTruth:
    """Looks at a machine from above."""
    machine, service = helper.machine, helper.service
    target = machine.disk.links.get(f"{service.root}/current")
    linked = target.rpartition("/")[2] if target else None
    file = machine.disk.files.get(service.release_file(linked)) if linked else None
    main = machine.processes.get(service.main_pid)
    loaded = tuple(sorted(sha256(p.loaded) for p in service.of_this_root()))
    return SimulatedTruth(
        linked=linked,
        on_disk=_sha(file.on_disk) if file else None,
        in_cache=_sha(file.content) if file else None,
        main=_sha(main.loaded) if main else None,
        running=loaded,
        serving=main is not None and all(machine.owner(p) == main.pid for p in service.ports),
    )


def locked_by(helper: Helper) -> str | None:
    """The plan that holds a machine's lock; None where nobody does."""
    return helper.pairs("lock").get("plan")
