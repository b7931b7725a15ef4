"""What happens to a simulated host from outside: one small function a fault."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from deploytool.agent import marks
from deploytool.agent.model import Deadman, Latch, Lock
from deploytool.agent.record import Malformed
from deploytool.agent.requests import Expire, Halt
from deploytool.fleet.protocol import Call
from deploytool.simulation.faults import Fault
from deploytool.simulation.machine import SimulatedMachine
from deploytool.simulation.memory.disk import Node
from deploytool.simulation.memory.service import MemorySystemd, Quirk
from deploytool.simulation.rungs import rung

HOUR_S = 3600.0


def releases(host: SimulatedMachine) -> dict[str, Node]:
    """The artifacts on this disk, by their releases."""
    folder = host.computer.make_folders(f"{host.root}/releases")
    name = host.service.settings.name
    return {
        release: node.entries[name]
        for release, node in folder.entries.items()
        if not release.startswith(".") and name in node.entries
    }


def linked(host: SimulatedMachine) -> str | None:
    """The release that ``current`` names."""
    node = host.computer.find(f"{host.root}/current", follow=False)
    return node.content.decode().rpartition("/")[2] if node is not None else None


def _newest(host: SimulatedMachine) -> Node | None:
    """The artifact that came last onto this disk."""
    return max(releases(host).values(), key=lambda node: node.number, default=None)


def other_release(host: SimulatedMachine) -> str | None:
    """A release on this disk that ``current`` does not name."""
    others = sorted(releases(host).keys() - {linked(host)})
    return others[0] if others else None


def _bytes_changed(host: SimulatedMachine) -> None:
    if (node := _newest(host)) is not None:
        # Another byte at the end: it still starts, has the same size, and is not the release.
        host.computer.time.tick(0.001)
        host.computer.disk.overwrite(node, node.content[:-1] + b"!")
        host.computer.disk.sync(node)


def _disk_rots(host: SimulatedMachine) -> None:
    if (node := _newest(host)) is not None:
        node.rot(node.content[:-1] + b"!")


def _disk_full(host: SimulatedMachine) -> None:
    host.computer.disk.room = 0


def _disk_read_only(host: SimulatedMachine) -> None:
    host.computer.disk.read_only = True


def _clock_wrong(host: SimulatedMachine) -> None:
    host.skew_s += HOUR_S


def _quirk(quirk: Quirk) -> Callable[[SimulatedMachine], None]:
    return lambda host: host.service.quirks.add(quirk)


def _crashes(host: SimulatedMachine) -> None:
    host.service.crash()


def _restarted(host: SimulatedMachine) -> None:
    host.service.stop()
    host.service.start()


def _second_copy(host: SimulatedMachine) -> None:
    release = other_release(host) or linked(host)
    if release:
        path = f"{host.root}/releases/{release}/{host.service.settings.name}"
        copy = host.computer.spawn((path, "serve"), account=host.service.account, opens=path)
        copy.stubborn = True


def _port_kept(host: SimulatedMachine) -> None:
    stranger = host.computer.spawn(("nc", "-lk"), account=1001)
    for port in host.service.settings.ports:
        if (owner := host.computer.listener(port)) is not None:
            owner.ports.discard(port)
        host.computer.listen(stranger, port)


def _drop_in(host: SimulatedMachine) -> None:
    service = host.service
    if isinstance(service, MemorySystemd):
        path = f"/etc/systemd/system/{service.settings.unit}.d/override.conf"
        start = f"{host.root}/releases/{other_release(host)}/{service.settings.name} serve"
        with_ours(host, path, f"[Service]\nExecStart=\nExecStart={start}\n".encode())


def with_ours(host: SimulatedMachine, path: str, content: bytes) -> None:
    """Puts a file there whatever the disk lets programs do, and syncs it."""
    disk = host.computer.disk
    kept, disk.read_only = disk.read_only, False
    disk.sync(host.computer.put(path, content))
    disk.sync(host.computer.make_folders(path.rpartition("/")[0]))
    disk.read_only = kept


def _link_switched(host: SimulatedMachine) -> None:
    disk = host.computer.disk
    kept, disk.read_only = disk.read_only, False
    other = other_release(host)
    if other is None:
        host.computer.remove(f"{host.root}/current")
    else:
        host.computer.link(f"{host.root}/current", f"releases/{other}")
    disk.sync(host.computer.make_folders(host.root))
    disk.read_only = kept


def _config_changed(host: SimulatedMachine) -> None:
    for path in host.service.settings.configs:
        with_ours(host, path, b"another configuration\n")


def _agent_changed(host: SimulatedMachine) -> None:
    with_ours(host, host.service.settings.agent, b"another")


def _reboot(host: SimulatedMachine) -> None:
    host.reboot()


def _other_deployer(host: SimulatedMachine) -> None:
    """Somebody else took the lock away, by its token."""
    token = int(host.mark("token") or 0) + 1
    lock = Lock(token=token, holder="other@elsewhere", purpose="deploy", plan="other", since=1)
    with_ours(host, f"{host.root}/state/token", f"{token}\n".encode())
    with_ours(host, f"{host.root}/state/lock", marks.text_of(lock).encode())


def _deadman(host: SimulatedMachine) -> None:
    """The host's own timer rings, if it was set since this boot; it waits for the mutex."""
    said = host.pairs("deadman")
    try:
        numbers = {key: int(said[key]) for key in ("token", "seconds", "armed")}
        mark = Deadman(boot=said["boot"], **numbers)
    except (KeyError, ValueError, Malformed):
        return
    if mark.boot == host.computer.boot_id:
        left_s = mark.armed + mark.seconds + 1 - host.computer.uptime
        host.deferred.append(lambda: host.pass_time(max(0.0, left_s)))
        host.deferred.append(lambda: host.ask(Expire(token=mark.token)))


def _stopped(host: SimulatedMachine) -> None:
    """Somebody stops this host, the hard way, as ``deploytool stop`` does it: without a token."""
    latch = Latch(latch="ab12", by="other@elsewhere", reason="runaway", since=1)
    host.ask(Halt(latch=latch.latch, by=latch.by, reason=latch.reason, since=1, seconds=1))
    fence(host, latch)


def fence(host: SimulatedMachine, latch: Latch) -> None:
    """The last rungs of a stop."""
    words = {"latch": latch.latch, "by": latch.by, "reason": latch.reason, "since": latch.since}
    for verb in ("fence", "kill"):
        told = tuple((key, str(value).replace(" ", "+")) for key, value in words.items())
        rung(host, Call(verb, told))


EVENTS: Mapping[Fault, Callable[[SimulatedMachine], None]] = MappingProxyType(
    {
        Fault.BYTES_CHANGED: _bytes_changed,
        Fault.DISK_ROTS: _disk_rots,
        Fault.DISK_FULL: _disk_full,
        Fault.DISK_READ_ONLY: _disk_read_only,
        Fault.CLOCK_WRONG: _clock_wrong,
        Fault.WONT_START: _quirk(Quirk.WONT_START),
        Fault.CRASHES: _crashes,
        Fault.RESTARTED: _restarted,
        Fault.OLD_SURVIVES: _quirk(Quirk.OLD_SURVIVES),
        Fault.SECOND_COPY: _second_copy,
        Fault.PORT_KEPT: _port_kept,
        Fault.DROP_IN: _drop_in,
        Fault.VERSION_LIES: _quirk(Quirk.VERSION_LIES),
        Fault.STATUS_STALE: _quirk(Quirk.STATUS_STALE),
        Fault.SILENT: _quirk(Quirk.SILENT),
        Fault.LINK_SWITCHED: _link_switched,
        Fault.CONFIG_CHANGED: _config_changed,
        Fault.AGENT_CHANGED: _agent_changed,
        Fault.REBOOT: _reboot,
        Fault.OTHER_DEPLOYER: _other_deployer,
        Fault.DEADMAN: _deadman,
        Fault.STOPPED: _stopped,
    }
)
"""What each fault does that changes something on the host. The rest are the wire's."""
