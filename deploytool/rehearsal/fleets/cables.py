"""The network cables of virtual machines, pulled and plugged by whoever runs the machines."""

from __future__ import annotations

from deploytool.rehearsal.fleets.hypervisor import virsh
from deploytool.rehearsal.fleets.run import find, run

_DEADLINE_S = 60.0
_VIRTUALBOX_CARDS = (1, 2)
"""Vagrant's own and the fleet's network (see Vagrantfile)."""


def pull(provider: str, machine: str) -> None:
    """Pulls all cables of a machine; it goes on running.

    Raises:
        EnvironmentProblem: the provider refuses.
    """
    _set(provider, machine, "down")


def plug(provider: str, machine: str) -> None:
    """Plugs all cables of a machine in again.

    Raises:
        EnvironmentProblem: the provider refuses.
    """
    _set(provider, machine, "up")


def _set(provider: str, machine: str, state: str) -> None:
    if provider == "virtualbox":
        manage = find("VBoxManage", "virtualbox")
        for card in _VIRTUALBOX_CARDS:
            word = "on" if state == "up" else "off"
            run([manage, "controlvm", machine, f"setlinkstate{card}", word], _DEADLINE_S)
        return
    for address in hardware_addresses(run(virsh("domiflist", machine), _DEADLINE_S)):
        run(virsh("domif-setlink", machine, address, state), _DEADLINE_S)


def hardware_addresses(text: str) -> tuple[str, ...]:
    """Reads ``virsh domiflist``: a line for each card, its address last."""
    words = (line.split()[-1:] for line in text.splitlines())
    return tuple(word for (word,) in filter(None, words) if word.count(":") == 5)
