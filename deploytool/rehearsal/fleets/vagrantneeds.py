"""What a Vagrant fleet needs of this machine: looked for before all else, and named at once."""

from __future__ import annotations

import os
from tempfile import TemporaryDirectory

from deploytool.errors import EnvironmentProblem
from deploytool.rehearsal.fleets import box, hypervisor
from deploytool.rehearsal.fleets.run import attempt, which

_ASK_S = 120.0
_PLUGIN = "vagrant-libvirt"

# Each program, and the Debian package that brings it.
_Needed = tuple[tuple[str, str], ...]
_ALWAYS: _Needed = (
    ("vagrant", "vagrant"),
    ("ssh", "openssh-client"),
    ("ssh-keygen", "openssh-client"),
    ("ip", "iproute2"),
)
_VIRTUALBOX = (("VBoxManage", "virtualbox"),)
_LIBVIRT = (
    ("virsh", "libvirt-clients"),
    ("dnsmasq", "dnsmasq-base"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("qemu-img", "qemu-utils"),
)
_DAEMONS = tuple((name, "libvirt-daemon-system") for name in hypervisor.DAEMONS)
_BOX = (("mmdebstrap", "mmdebstrap"), ("mkfs.ext4", "e2fsprogs"))
_BOX_WITHOUT_ROOT = (("newuidmap", "uidmap"),)


def require(provider: str, downloaded: str | None) -> None:
    """Makes sure that all is there that a fleet of this provider needs; begins nothing.

    ``downloaded``: the box to take instead of one that is built.

    Raises:
        EnvironmentProblem: something is missing, all of it named at once; or libvirt does not
            answer and can't be started; or there is no recipe to build a box by.
    """
    lacking = [
        (name, package) for name, package in _needed(provider, downloaded) if not which(name)
    ]
    if provider == "libvirt" and not _has_plugin():
        lacking.append((f"Vagrant's plugin {_PLUGIN}", _PLUGIN))
    if lacking:
        packages = " ".join(dict.fromkeys(package for _, package in lacking))
        raise EnvironmentProblem(
            f"Not installed on this machine: {', '.join(name for name, _ in lacking)}.",
            "Nothing was started.",
            f"sudo apt-get install {packages}",
        )
    if provider == "libvirt" and not hypervisor.answers():
        hypervisor.refuse_without_root()


def _needed(provider: str, downloaded: str | None) -> _Needed:
    if provider != "libvirt":
        return _ALWAYS + (_VIRTUALBOX if provider == "virtualbox" else ())
    needed = _ALWAYS + _LIBVIRT
    if not hypervisor.answers():
        needed += _DAEMONS
    if downloaded is None and not box.is_built():
        needed += _BOX if os.geteuid() == 0 else _BOX + _BOX_WITHOUT_ROOT
    return needed


def _has_plugin() -> bool:
    """Whether the fleet's Vagrant, which has a home of its own, can use libvirt.

    A plugin that a person installed into their own home does not count.
    """
    if (query := which("dpkg-query")) is not None:
        asked = attempt([query, "--show", "--showformat=${db:Status-Status}", _PLUGIN], _ASK_S)
        if asked.code == 0 and asked.out == "installed":
            return True
    if (vagrant := which("vagrant")) is None:
        return False
    with TemporaryDirectory() as home:
        env = {"VAGRANT_HOME": home, "VAGRANT_CWD": home, "VAGRANT_CHECKPOINT_DISABLE": "1"}
        return _PLUGIN in attempt([vagrant, "plugin", "list"], _ASK_S, env=env).out
