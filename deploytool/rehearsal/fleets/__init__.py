"""Throwaway fleets: real SSH hosts on this machine, brought up and taken away without a trace.

Two kinds: ``local`` (some ``sshd`` on loopback, no root needed) and ``container`` (podman or
Docker, systemd inside, an address each). Both write an inventory with pinned host keys, and both
write down what they are about to create before they create it, so that ``down`` finds all of it
whatever happened to ``up``.
"""

from __future__ import annotations

from pathlib import Path

from deploytool.rehearsal.fleets.model import Kind, Throwaway


def default_folder(kind: Kind) -> Path:
    """Where a throwaway fleet of this kind lives unless a person says otherwise."""
    return Path(".deploytool/fleets") / kind


def open_fleet(kind: Kind, folder: Path | None = None) -> Throwaway:
    """The throwaway fleet of this kind in ``folder``, whether it is up or not."""
    from deploytool.rehearsal.fleets.container import ContainerFleet
    from deploytool.rehearsal.fleets.local import LocalFleet

    where = folder or default_folder(kind)
    return LocalFleet(where) if kind == "local" else ContainerFleet(where)
