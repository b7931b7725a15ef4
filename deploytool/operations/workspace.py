"""What every operation works with: a fleet's inventory, and where this machine keeps the rest."""

from __future__ import annotations

import getpass
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Self

from deploytool.fleet.inventory import load_inventory
from deploytool.fleet.paths import folder_of
from deploytool.home import home

if TYPE_CHECKING:
    from deploytool.arming.senders import SenderCommands
    from deploytool.fleet.model import Inventory


@dataclass(frozen=True)
class Workspace:
    """An inventory as it was read from ``path``, the folder of releases and that of journals."""

    inventory: Inventory
    path: Path
    store: Path
    journal: Path

    @classmethod
    def open(cls, path: Path, *, store: Path | None = None, journal: Path | None = None) -> Self:
        """Reads the inventory. A folder that isn't named is where the command line keeps it.

        Raises:
            InputError: the inventory is wrong; every mistake is named.
        """
        kept = home(path)
        return cls(load_inventory(path), path, store or kept / "store", journal or kept / "journal")

    @property
    def names(self) -> tuple[str, ...]:
        """The declared hosts."""
        return self.inventory.names

    @property
    def deadline_s(self) -> float:
        """How long a host may take to answer one question, in seconds."""
        return self.inventory.ssh.command_timeout_s

    @property
    def named(self) -> str:
        """The inventory's path as it is typed in a command."""
        return quote(str(self.path))

    def senders(self) -> SenderCommands | None:
        """The senders, which a rollout asks which bits are in use; None where none are declared."""
        from deploytool.arming.senders import senders_of

        return senders_of(self.inventory, folder_of(self.path))

    def outside(self) -> SenderCommands:
        """The senders and the census, as arming asks them; a call fails where none are declared."""
        from deploytool.arming.senders import SenderCommands

        return SenderCommands(self.inventory, folder_of(self.path))


def holder() -> str:
    """Who changes hosts, as locks name it: ``user@machine``."""
    return re.sub(r"[^A-Za-z0-9@._:+-]", "-", f"{getpass.getuser()}@{socket.gethostname()}")[:64]
