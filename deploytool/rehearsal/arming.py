"""Arming and disarming on a throwaway fleet, by the code of a user's command, with its senders."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deploytool.arming.keys import Key
from deploytool.arming.report import Report
from deploytool.arming.table import Purpose
from deploytool.errors import DeploytoolError
from deploytool.operations.flags import arm, disarm
from deploytool.operations.workspace import Workspace
from deploytool.rehearsal.fleets.files import SIGNER_IDENTITY
from deploytool.rehearsal.fleets.throwaway import Throwaway

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


def change(inventory_path: Path, flag: str, purpose: Purpose) -> Changed:
    """``deploytool flags arm`` or ``disarm``, signed with the throwaway fleet's own key."""
    space = Workspace.open(inventory_path, store=inventory_path.parent / "no-store")
    if purpose is Purpose.ARM:
        end = arm(space, flag, Key("rehearsal", inventory_path.with_name(SIGNER_IDENTITY)))
    else:
        end = disarm(space, flag)
    return Changed(0 if end.error is None else end.error.exit_code, end.report, end.error)
