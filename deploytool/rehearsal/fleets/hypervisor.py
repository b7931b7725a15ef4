"""Libvirt on this machine, by its command line: whether it runs, and what is left of a fleet in it.

Vagrant brings machines up and takes them down. This finds what Vagrant no longer knows of (its
folder was removed, it was killed), and starts libvirt where no service manager does.
"""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path

from deploytool.errors import EnvironmentProblem
from deploytool.rehearsal.fleets import processes
from deploytool.rehearsal.fleets.run import attempt, find, run

_URI = "qemu:///system"
_ASK_S = 120.0
_START_S = 60.0
_POLL_S = 0.5
_GRACE_S = 10.0
_END_S = 40.0
DAEMONS = ("libvirtd", "virtlogd")
KVM = Path("/dev/kvm")
_IMAGES = Path("/var/lib/libvirt/images")
_SHOWN = 8

# Where the account of libvirt's machines may open /dev/kvm and QEMU can't use it, libvirt doubts
# what it knows of QEMU, and asks anew at every step: minutes for a fleet. To these daemons it is a
# device that this account may not open.
_HIDDEN = ("unshare", "--mount", "sh", "-c", 'mount --bind "$0" /dev/kvm && exec "$@"')
_NO_KVM = "no-kvm"
FILES = frozenset({_NO_KVM, *(f"{name}.pid" for name in DAEMONS)})
"""What daemons that are started for a fleet leave in its folder."""


def virsh(*words: str) -> list[str]:
    """The command that asks libvirt, or tells it something."""
    return [find("virsh", "libvirt-clients"), "--connect", _URI, "--quiet", *words]


def answers() -> bool:
    """Whether libvirt can be asked now."""
    if shutil.which("virsh") is None:
        return False
    return attempt(virsh("uri"), _ASK_S).code == 0


def refuse_without_root() -> None:
    """Where libvirt does not answer: makes sure that it may be started.

    Raises:
        EnvironmentProblem: that needs root.
    """
    if os.geteuid() != 0:
        raise EnvironmentProblem(
            "Libvirt does not answer on this machine, and starting it needs root.",
            "No machine was started, and none was removed.",
            "sudo systemctl start libvirtd, and be in the group libvirt; or run this with sudo",
        )


def start_daemons(folder: Path, *, hide_kvm: bool) -> None:
    """Starts libvirt, known by its files in ``folder``; does nothing where it answers already.

    Raises:
        EnvironmentProblem: it can't be started, or does not answer.
    """
    if answers():
        return
    refuse_without_root()
    for name in reversed(DAEMONS):
        program = find(name, "libvirt-daemon-system")
        pid_file = folder / f"{name}.pid"
        command = [program, "--daemon", "--pid-file", str(pid_file)]
        if hide_kvm and KVM.exists():
            closed = folder / _NO_KVM
            if not closed.exists():  # a device, as libvirt gives each machine a /dev like its own
                os.mknod(closed, stat.S_IFCHR | 0o600, os.makedev(1, 3))
            command = [find("unshare", "util-linux"), *_HIDDEN[1:], str(closed), *command]
        # One that is there already refuses to start; whether libvirt answers is asked below.
        attempt(command, _START_S)
    deadline = time.monotonic() + _START_S
    while not answers():
        if time.monotonic() > deadline:
            raise EnvironmentProblem(
                f"Libvirt was started and does not answer within {_START_S:g} s.",
                "No machine was started.",
                "See why: libvirtd --verbose",
            )
        time.sleep(_POLL_S)


def stop_daemons(folder: Path) -> int:
    """Ends the daemons that were started for the fleet in ``folder``, and gives how many."""
    return processes.end_all(_ours(folder), _GRACE_S, _END_S)


def _ours(folder: Path) -> processes.Selector:
    files = {str(folder / f"{name}.pid") for name in DAEMONS}
    # dnsmasq descends from libvirtd, but ends with its network.
    return lambda p: p.name in DAEMONS and any(word in files for word in p.argv)


def started_here(folder: Path) -> bool:
    """Whether daemons run that were started for the fleet in ``folder``."""
    return any(map(_ours(folder), processes.everyone().values()))


def others(prefix: str) -> tuple[str, ...]:
    """Machines of libvirt's that are not named with ``prefix``."""
    names = run(virsh("list", "--all", "--name"), _ASK_S).split()
    return tuple(name for name in names if not name.startswith(prefix))


def left(prefix: str) -> tuple[str, ...]:
    """What libvirt has by names with ``prefix``, each with its kind: machines, networks, pools.

    The network and the pool are named by the prefix without its last dash. Disks that no pool
    knows of any more count too.

    Raises:
        EnvironmentProblem: libvirt does not answer.
    """
    found = []
    for kind, verb in (("machine", "list"), ("network", "net-list"), ("pool", "pool-list")):
        said = run(virsh(verb, "--all", "--name"), _ASK_S).split()
        ours = (name for name in said if name.startswith(prefix) or f"{name}-" == prefix)
        found += [f"{kind} {name}" for name in ours]
    return (*found, *(() if f"pool {_pool(prefix)}" in found else left_disks(prefix)))


def _pool(prefix: str) -> str:
    return prefix.removesuffix("-")


def _disks(prefix: str) -> Path:
    return _IMAGES / _pool(prefix)


def left_disks(prefix: str) -> tuple[str, ...]:
    """The folder of a fleet's disks, if it is there; libvirt need not answer for that."""
    return (f"disks {_disks(prefix)}",) if _disks(prefix).exists() else ()


def subnets() -> tuple[str, ...]:
    """The addresses that this machine has, with their prefix lengths."""
    said = run([find("ip", "iproute2"), "-o", "-4", "addr", "show"], _ASK_S)
    return tuple(line.split()[3] for line in said.splitlines())


def make_pool(prefix: str) -> None:
    """Makes a storage pool for one fleet, so that all of it can be removed.

    Raises:
        EnvironmentProblem: libvirt refuses.
    """
    _define_pool(prefix)
    run(virsh("pool-build", _pool(prefix)), _ASK_S)
    run(virsh("pool-start", _pool(prefix)), _ASK_S)


def _define_pool(prefix: str) -> None:
    target = ("--target", str(_disks(prefix)))
    run(virsh("pool-define-as", _pool(prefix), "dir", *target), _ASK_S)


def _remove_pool(prefix: str) -> None:
    """Removes the fleet's disks, their folder, and only then what libvirt knows of it.

    Raises:
        EnvironmentProblem: disks are still there.
    """
    pool = _pool(prefix)
    attempt(virsh("pool-start", pool), _ASK_S)  # one that is not active shows no volumes
    attempt(virsh("pool-refresh", pool), _ASK_S)  # nor does one that others wrote to
    steps: list[tuple[str, ...]] = [
        ("vol-delete", "--pool", pool, line.split()[0])
        for line in attempt(virsh("vol-list", pool), _ASK_S).out.splitlines()
        if line.split()
    ]
    steps += [("pool-destroy", pool), ("pool-delete", pool)]
    told = [attempt(virsh(*step), _ASK_S).err for step in steps]
    if left_disks(prefix):
        raise EnvironmentProblem(
            f"The disks of the fleet in {_disks(prefix)} could not be removed.",
            f"Its machines are gone. These disks and libvirt's pool {pool} are still there.",
            f"See what holds them, then take the fleet down again: sudo ls -lA {_disks(prefix)}",
            tuple(line for text in told for line in text.splitlines() if line)[-_SHOWN:],
        )
    attempt(virsh("pool-undefine", pool), _ASK_S)


def sweep(prefix: str, progress: Callable[[str], None]) -> tuple[str, ...]:
    """Removes all that libvirt has by names with ``prefix``, and names it.

    Raises:
        EnvironmentProblem: something is still there afterwards.
    """
    pool = _pool(prefix)
    removed = left(prefix)
    for name in run(virsh("list", "--all", "--name"), _ASK_S).split():
        if name.startswith(prefix):
            attempt(virsh("destroy", name), _ASK_S)  # refused where it does not run
            attempt(virsh("undefine", name, "--managed-save", "--snapshots-metadata"), _ASK_S)
    if f"network {pool}" in removed:
        for verb in ("net-destroy", "net-undefine"):
            attempt(virsh(verb, pool), _ASK_S)
    knows_pool = f"pool {pool}" in removed
    if not knows_pool and left_disks(prefix):
        _define_pool(prefix)
    if knows_pool or left_disks(prefix):
        _remove_pool(prefix)
    if still := left(prefix):
        raise EnvironmentProblem(
            f"Libvirt still has {', '.join(still)}.",
            "What is left of the fleet may still be running.",
            f"See why: virsh --connect {_URI} list --all",
        )
    if removed:
        progress(f"removed {', '.join(removed)}")
    return removed
