"""Whether this machine has hardware virtualization that is of use; libvirt is started by it."""

from __future__ import annotations

import os
from pathlib import Path

from deploytool.errors import EnvironmentProblem
from deploytool.rehearsal.fleets import hypervisor
from deploytool.rehearsal.fleets.run import attempt, find

_TRIAL_S = 15.0
_ASK_S = 60.0
_BOOT = Path("/boot")


def start_libvirt(folder: Path, kernel: Path | None) -> bool:
    """Starts libvirt where it does not answer; gives whether its machines can have KVM.

    Root tries, with ``kernel`` or this machine's own, and hides a device that starts none. Who is
    not root may lack a right to the device that libvirt's own account has: libvirt is asked.

    Raises:
        EnvironmentProblem: libvirt can't be started, or does not answer.
    """
    kernel = kernel or own_kernel(_BOOT)
    if os.geteuid() != 0 or kernel is None:
        hypervisor.start_daemons(folder, hide_kvm=False)
        return is_told_of()
    tried = starts(kernel)
    hypervisor.start_daemons(folder, hide_kvm=not tried)
    return tried


def starts(kernel: Path) -> bool:
    """Whether this machine's virtualization starts an ordinary kernel, by starting one."""
    if not hypervisor.KVM.exists():
        return False
    emulator = find("qemu-system-x86_64", "qemu-system-x86")
    argv = [emulator, "-accel", "kvm", "-cpu", "host", "-m", "128", "-nographic", "-no-reboot"]
    argv += ["-kernel", str(kernel), "-append", "console=ttyS0 panic=-1"]
    try:
        # Without a root file system it panics, says so, and ends: all that is to be seen.
        said = attempt(argv, _TRIAL_S).out
    except EnvironmentProblem:
        return False
    return "Linux version" in said


def is_told_of() -> bool:
    """Whether libvirt says that its machines can have KVM: its word, no kernel was started.

    Unverified by those who wrote this where hardware virtualization works.
    """
    return attempt(hypervisor.virsh("domcapabilities", "--virttype", "kvm"), _ASK_S).code == 0


def own_kernel(boot: Path) -> Path | None:
    """A kernel of this machine's own that may be read: the one that runs, or another."""
    running = boot / f"vmlinuz-{os.uname().release}"
    found = (running, *sorted(boot.glob("vmlinuz-*"), reverse=True))
    return next((path for path in found if path.is_file() and os.access(path, os.R_OK)), None)
