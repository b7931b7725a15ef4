"""Arming and disarming on a throwaway fleet, by the code of a user's command, with its senders."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deploytool.arming.certificate import NAMESPACE
from deploytool.arming.outcome import conclude
from deploytool.arming.report import Report
from deploytool.arming.runner import Runner
from deploytool.arming.senders import SenderCommands
from deploytool.arming.table import Purpose, State
from deploytool.errors import DeploytoolError
from deploytool.fleet.inventory import load_inventory
from deploytool.fleet.paths import folder_of
from deploytool.fleet.remote import connect_fleet
from deploytool.fleet.signing import sign
from deploytool.rehearsal.fleets.files import SIGNER_IDENTITY
from deploytool.rehearsal.fleets.model import Throwaway

_ASK_S = 5.0
_CLOSED_PORT = 1
"""Nobody listens there: whoever asks is refused at once."""


@dataclass(frozen=True)
class Changed:
    """How an arming or a disarming ended."""

    exit_code: int
    report: Report
    error: DeploytoolError | None

    def __str__(self) -> str:
        """In one line."""
        error = self.error
        said = "" if error is None else ": " + " ".join([error.what, *error.details[:2]])
        return f"exit {self.exit_code}{said}"


def inventory_with_senders(
    fleet: Throwaway,
    control: Path,
    name: str,
    *,
    only: tuple[str, ...] = (),
    dark: tuple[str, ...] = (),
    like: Path | None = None,
) -> Path:
    """The fleet's inventory, with the gateway behind ``control`` as its senders and census.

    It stands beside the fleet's own, or the one that it is to be ``like``. ``only`` these hosts
    are in it, where some are named; those that are ``dark`` can't be reached by it.
    """
    beside = like or fleet.inventory
    said: dict[str, Any] = yaml.safe_load(beside.read_text(encoding="utf-8"))
    record = fleet.record()
    timeout_s = _ASK_S * (record.factor if record else 1.0)
    sender = [sys.executable, "-m", "deploytool.market.sender", "--control", str(control)]
    said["gateway"] = {
        "use": [*sender, "use", "{bit}", "--release", "{release}"],
        "withdraw": [*sender, "withdraw", "{bit}"],
        "observe": [*sender, "observe"],
        "timeout_s": timeout_s,
    }
    said["membership"] = {"command": [*sender, "membership"], "timeout_s": timeout_s}
    if only:
        said["hosts"] = {host: said["hosts"][host] for host in only}
        said |= {"expect": len(only), "waves": ["rest"]}
    for host in dark:
        said["hosts"][host]["port"] = _CLOSED_PORT
    path = beside.with_name(name)
    path.write_text(yaml.safe_dump(said, sort_keys=False, width=1000), encoding="utf-8")
    return path


class _Silent:
    """Nobody watches; what it came to is in the report."""

    def state(self, state: State, hosts: tuple[str, ...]) -> None:
        """Not shown."""

    def host(self, host: str, text: str, *, good: bool | None) -> None:
        """Not shown."""


def change(inventory_path: Path, flag: str, purpose: Purpose) -> Changed:
    """``deploytool flags arm`` or ``disarm``, signed with the throwaway fleet's own key."""
    inventory = load_inventory(inventory_path)
    key = inventory_path.with_name(SIGNER_IDENTITY)
    hosts = connect_fleet(inventory)
    try:
        report = Runner(
            inventory,
            hosts,
            flag,
            SenderCommands(inventory, folder_of(inventory_path)),
            _Silent(),
            purpose=purpose,
            sign=lambda content: sign(content, key, NAMESPACE),
        ).run()
    finally:
        for host in hosts.values():
            host.close()
    error = conclude(report, str(inventory_path))
    return Changed(0 if error is None else error.exit_code, report, error)
