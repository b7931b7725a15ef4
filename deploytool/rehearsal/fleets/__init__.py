"""Throwaway fleets: real SSH hosts on this machine, brought up and taken away without a trace.

Three kinds: ``local`` (some ``sshd`` on loopback, no root needed), ``container`` (podman or
Docker, systemd inside, an address each) and ``vagrant`` (virtual machines, with a kernel, a disk
and a clock each). All write an inventory with pinned host keys, and all write down what they are
about to create before they create it, so that ``down`` finds all of it whatever happened to ``up``.
"""

from __future__ import annotations

from pathlib import Path

from deploytool.home import home
from deploytool.rehearsal.fleets.model import Kind
from deploytool.rehearsal.fleets.throwaway import Throwaway


def default_folder(kind: Kind) -> Path:
    """Where a throwaway fleet of this kind lives unless a person says otherwise."""
    return home() / "fleets" / kind


def open_fleet(kind: Kind, folder: Path | None = None) -> Throwaway:
    """The throwaway fleet of this kind in ``folder``, whether it is up or not."""
    from deploytool.rehearsal.fleets.container import ContainerFleet
    from deploytool.rehearsal.fleets.local import LocalFleet
    from deploytool.rehearsal.fleets.vagrant import VagrantFleet

    where = folder or default_folder(kind)
    if kind == "vagrant":
        return VagrantFleet(where)
    return LocalFleet(where) if kind == "local" else ContainerFleet(where)
