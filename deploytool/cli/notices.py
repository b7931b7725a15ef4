"""Says, in every command, what hosts say of a stop or of a rollout that did not end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from deploytool.cli.output import say
from deploytool.parity.host_notices import notices
from deploytool.parity.words import let_in_command

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from deploytool.fleet.model import Inventory
    from deploytool.parity.model import RoundAnswers


def say_notices(seen: RoundAnswers) -> tuple[str, ...]:
    """Says a line for each thing that hosts say; gives the lines."""
    lines = notices(seen, time.time())
    for line in lines:
        say(line)
    return lines


def way_back(fleet: Inventory, path: Path) -> Iterator[str]:
    """What a plan says of what the inventory leaves off: signers, and the dead-man."""
    if not fleet.service.deadman_s:
        yield (
            "service.deadman_s is 0: if the deployer is lost after a switch, the switched hosts "
            "continue to serve a build that was not verified"
        )
    if fleet.signers is None:
        yield (
            "The inventory names no signers: a host that was stopped can only be let in by root on "
            f"it: {let_in_command('HOST', str(path), fleet.service.supervisor)}. Name signers to "
            "have two people do it: docs/stop.md"
        )
