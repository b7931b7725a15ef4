"""What is true of simulated hosts: looked up in the machines themselves, never through a probe."""

from __future__ import annotations

from dataclasses import dataclass

from deploytool.simulation.machine import SimulatedMachine
from deploytool.simulation.memory.disk import sha256
from deploytool.simulation.memory.service import Plain


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


def truth(host: SimulatedMachine) -> SimulatedTruth:
    """Looks at a machine from above."""
    return host.look(_truth)


def _truth(host: SimulatedMachine) -> SimulatedTruth:
    computer, service = host.computer, host.service
    link = computer.find(f"{service.root}/current", follow=False)
    linked = link.content.decode().rpartition("/")[2] if link is not None else None
    name = service.settings.name
    node = computer.find(f"{service.root}/releases/{linked}/{name}") if linked else None
    main = service.found() if isinstance(service, Plain) else service.main
    main = main if computer.alive(main) else None
    return SimulatedTruth(
        linked=linked,
        on_disk=sha256(node.on_disk) if node is not None else None,
        in_cache=sha256(node.content) if node is not None else None,
        main=sha256(main.loaded) if main is not None else None,
        running=tuple(sorted(sha256(task.loaded) for task in service.of_this_root())),
        serving=main is not None
        and all(computer.listener(port) is main for port in service.settings.ports),
    )


def locked_by(host: SimulatedMachine) -> str | None:
    """The plan that holds a machine's lock; None where nobody does."""
    return host.pairs("lock").get("plan")
