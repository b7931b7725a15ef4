"""What happens to a simulated host from outside: one small function a fault."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from types import MappingProxyType

from deploytool.simulation.faults import Fault
from deploytool.simulation.helper import Helper
from deploytool.simulation.machine import File
from deploytool.simulation.service import Quirk

HOUR_S = 3600.0


def _newest(helper: Helper) -> File | None:
    """The artifact that came last onto this disk."""
    files = helper.machine.disk.files
    prefix, end = f"{helper.service.root}/releases/", f"/{helper.service.name}"
    found = [f for path, f in files.items() if path.startswith(prefix) and path.endswith(end)]
    return max(found, key=lambda file: file.inode, default=None)


def other_release(helper: Helper) -> str | None:
    """A release on this disk that ``current`` does not name."""
    prefix = f"{helper.service.root}/releases/"
    paths = helper.machine.disk.below(prefix[:-1])
    names = {path.removeprefix(prefix).split("/")[0] for path in paths}
    current = helper.machine.disk.links.get(f"{helper.service.root}/current", "")
    others = sorted(n for n in names if not n.startswith(".") and n != current.rpartition("/")[2])
    return others[0] if others else None


def _bytes_changed(helper: Helper) -> None:
    if (file := _newest(helper)) is not None:
        # Another byte at the end: it still starts, has the same size, and is not the release.
        file.write(file.content[:-1] + b"!")
        file.sync()


def _disk_rots(helper: Helper) -> None:
    if (file := _newest(helper)) is not None:
        file.rot(file.content[:-1] + b"!")


def _disk_full(helper: Helper) -> None:
    helper.machine.disk.room = 0


def _disk_read_only(helper: Helper) -> None:
    helper.machine.disk.read_only = True


def _clock_wrong(helper: Helper) -> None:
    helper.machine.skew_s += HOUR_S


def _quirk(quirk: Quirk) -> Callable[[Helper], None]:
    return lambda helper: helper.service.quirks.add(quirk)


def _crashes(helper: Helper) -> None:
    helper.service.crash()


def _restarted(helper: Helper) -> None:
    helper.service.stop()
    helper.service.start()


def _second_copy(helper: Helper) -> None:
    current = helper.machine.disk.links.get(f"{helper.service.root}/current", "")
    release = other_release(helper) or current.rpartition("/")[2]
    if release:
        path = helper.service.release_file(release)
        copy = helper.machine.spawn(f"python3 {path} serve", path)
        copy.in_group, copy.stubborn = False, True


def _port_kept(helper: Helper) -> None:
    stranger = helper.machine.spawn("nc -lk")
    for port in helper.service.ports:
        owner = helper.machine.processes.get(helper.machine.owner(port) or 0)
        if owner is not None:
            owner.ports.discard(port)
        helper.machine.bind(stranger, port)


def _drop_in(helper: Helper) -> None:
    unit = helper.service.unit
    if unit is not None:
        path = f"/etc/systemd/system/{helper.service.name}.service.d/override.conf"
        unit.override = other_release(helper)
        unit.drop_ins[path] = f"[Service]\nExecStart=\nExecStart={unit.override}\n".encode()


def _link_switched(helper: Helper) -> None:
    links, link = helper.machine.disk.links, f"{helper.service.root}/current"
    other = other_release(helper)
    if other is None:
        links.pop(link, None)
    else:
        links[link] = f"releases/{other}"


def _config_changed(helper: Helper) -> None:
    for path in helper.configs:
        helper.machine.disk.files[path].write(b"another configuration\n")


def _helper_changed(helper: Helper) -> None:
    helper.machine.disk.files[helper.path].write(hashlib.sha256(b"another").digest())


def reboot(helper: Helper) -> None:
    """Power is lost and comes back; the supervisor does what it does then."""
    helper.machine.reboot()
    helper.boot()


def _other_deployer(helper: Helper) -> None:
    """Somebody else took the lock away, as ``takeover`` does it."""
    token = int(helper.text("token") or 0) + 1
    state, disk = f"{helper.service.root}/state", helper.machine.disk
    lock = f"token {token}\nholder other@elsewhere\npurpose deploy\nplan other\nsince 1\n"
    disk.put(f"{state}/token", f"{token}\n".encode())
    disk.put(f"{state}/lock", lock.encode())


def _deadman(helper: Helper) -> None:
    """The host's own timer rings, if it was set since this boot."""
    lines = (helper.text("deadman") or "").splitlines()
    if lines and lines[0] == helper.machine.boot_id:
        helper.answer(f"deploytool/1 0 expire\ntoken {lines[1]}\n.\n".encode())


def _stopped(helper: Helper) -> None:
    """Somebody stops this host, the hard way, as ``deploytool stop`` does it: without a token."""
    words = "by other@elsewhere\nreason runaway\nlatch ab12\nsince 1\nseconds 1\n"
    for verb in ("quiesce", "fence", "kill"):
        helper.answer(f"deploytool/1 0 {verb}\n{words}.\n".encode())


EVENTS: Mapping[Fault, Callable[[Helper], None]] = MappingProxyType(
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
        Fault.HELPER_CHANGED: _helper_changed,
        Fault.REBOOT: reboot,
        Fault.OTHER_DEPLOYER: _other_deployer,
        Fault.DEADMAN: _deadman,
        Fault.STOPPED: _stopped,
    }
)
"""What each fault does that changes something on the host. The rest are the wire's."""
