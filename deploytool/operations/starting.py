"""Letting stopped hosts serve again: one person asks, a second one signs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from deploytool.operations.connect import connected
from deploytool.operations.workspace import Workspace, holder
from deploytool.parity.model import RoundAnswers
from deploytool.release.store import known_releases
from deploytool.start.flag_checks import flag_objections
from deploytool.start.request import StartRequest
from deploytool.start.runner import ask, begin, check, probe, read

Shown = Callable[[RoundAnswers], object]


@dataclass(frozen=True)
class StartResult:
    """What a start was told by each host, empty where nothing was wrong; what all showed then."""

    outcomes: Mapping[str, str]
    answers: RoundAnswers


def request_start(
    space: Workspace,
    chosen: tuple[str, ...],
    reason: str,
    by: str,
    *,
    shown: Shown = lambda _answers: None,
) -> tuple[StartRequest, ...]:
    """The requests for these hosts, to be signed; with none chosen, for all that are stopped.

    Args:
        space: the fleet.
        chosen: declared hosts.
        reason: why they may serve again; it is signed with.
        by: who asks, as the signers file names them.
        shown: is given what hosts showed, before anything is refused.

    Raises:
        Refused: a rule forbids to start them; nothing was changed.
    """
    now = int(time.time())
    with connected(space.inventory) as hosts:
        seen = probe(space.inventory, hosts, known_releases(space.store))
        flags = flag_objections(space.inventory, hosts, seen, space.senders())
    shown(seen)
    return ask(space.inventory, seen, chosen, by, reason, now, str(space.path), flags)


def start(
    space: Workspace,
    requests: tuple[Path, ...],
    signatures: tuple[Path, ...] = (),
    *,
    by: str | None = None,
    shown: Shown = lambda _answers: None,
) -> StartResult:
    """Checks signed requests, has the hosts check them too, and lets the hosts serve again.

    Args:
        space: the fleet.
        requests: signed files, or folders of them.
        signatures: theirs, in the same order; else ``FILE.sig`` beside each.
        by: who does this, as locks name it; else ``user@machine``.
        shown: is given what hosts showed, before anything is refused.

    Raises:
        InputError: a file is missing, or is not what it must be.
        Refused: a rule forbids it; nothing was changed.
    """
    signed, inventory = read(requests, signatures), space.inventory
    with connected(inventory) as hosts:
        seen = probe(inventory, hosts, known_releases(space.store))
        shown(seen)
        flags = flag_objections(inventory, hosts, seen, space.senders())
        check(inventory, signed, seen, time.time(), str(space.path), flags)
        outcomes = begin(inventory, hosts, signed, seen, by or holder())
        return StartResult(outcomes, probe(inventory, hosts))
