"""Arming and disarming a flag, and what hosts and senders show of all flags."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploytool.arming.certificate import NAMESPACE
from deploytool.arming.checks import SenderObservation
from deploytool.arming.hosts import FlagHosts
from deploytool.arming.keys import Key, Signing, find_key, signs_nothing
from deploytool.arming.model import Shown
from deploytool.arming.outcome import conclude
from deploytool.arming.report import Report
from deploytool.arming.runner import Runner
from deploytool.arming.senders import of_now
from deploytool.arming.status import FlagRow, rows
from deploytool.arming.table import Purpose
from deploytool.core.observer import NullObserver, Observer, never
from deploytool.errors import DeploytoolError, HostFault, InputError, Interrupted
from deploytool.operations.connect import connected
from deploytool.operations.workspace import Workspace
from deploytool.parity.model import RoundAnswers
from deploytool.parity.round import probe_request, take_round
from deploytool.release.store import known_releases

_NAME = re.compile(r"[A-Z][A-Z0-9_]{0,31}")


@dataclass(frozen=True)
class FlagChange:
    """How an arming or a disarming ended. ``error`` None: it is observed everywhere.

    ``answers``: what the hosts showed afterwards, where that was asked for.
    """

    report: Report
    error: DeploytoolError | None
    answers: RoundAnswers | None = None


@dataclass(frozen=True)
class FlagStatus:
    """What each host showed of each flag, and the senders; a fault says why that is not known."""

    rows: tuple[FlagRow, ...]
    answers: RoundAnswers
    shown: Mapping[str, Shown | HostFault]
    senders: SenderObservation | HostFault


@contextmanager
def signing_key(space: Workspace, chosen: Path | None = None) -> Iterator[Key]:
    """The operator's key that may sign for this fleet, for the length of a block.

    Args:
        space: the fleet.
        chosen: its file; else the first in the agent or ``~/.ssh`` that may.

    Raises:
        InputError: there is none, or the chosen one may not sign.
    """
    with tempfile.TemporaryDirectory(prefix="deploytool-") as scratch:
        yield find_key(space.inventory.allowed_signers, chosen, Path(scratch))


def arm(
    space: Workspace,
    flag: str,
    key: Key,
    *,
    typed: Path | None = None,
    observer: Observer | None = None,
    interrupted: Callable[[], bool] = never,
) -> FlagChange:
    """Turns a flag on, on every host or on none.

    Args:
        space: the fleet.
        flag: its name in the registry.
        key: signs the certificate; see ``signing_key``.
        typed: the key's file as the user named it, for the advice at the end.
        observer: is told what goes on.
        interrupted: asked between two steps; True has the flag turned off again.

    Raises:
        InputError: it is not the name of a flag.
        Interrupted: KeyboardInterrupt came meanwhile; the flag may be on at some hosts.
    """
    named = str(typed) if typed else None
    sign = key.signing(NAMESPACE)
    return _change(space, flag, Purpose.ARM, sign, observer, interrupted, key=named)


def disarm(
    space: Workspace,
    flag: str,
    *,
    look_after: bool = False,
    observer: Observer | None = None,
    interrupted: Callable[[], bool] = never,
) -> FlagChange:
    """Turns a flag off: the senders first, then every host, and observes it.

    Args:
        space: the fleet.
        flag: its name in the registry.
        look_after: take a round afterwards, for what else hosts say of themselves.
        observer: is told what goes on.
        interrupted: asked before the hosts are told; from then on it goes to its end.

    Raises:
        InputError: it is not the name of a flag.
        Interrupted: KeyboardInterrupt came meanwhile; the flag may be on at some hosts.
    """
    return _change(
        space, flag, Purpose.DISARM, signs_nothing, observer, interrupted, look_after=look_after
    )


def check_name(flag: str) -> None:
    """Refuses what can't be the name of a flag.

    Raises:
        InputError: it can't.
    """
    if _NAME.fullmatch(flag) is None:
        raise InputError(
            f"{flag!r} is not the name of a flag.",
            "Nothing was touched.",
            "A name is of capital letters, digits and _; deploytool flags status lists them",
        )


def _change(
    space: Workspace,
    flag: str,
    purpose: Purpose,
    sign: Signing,
    observer: Observer | None,
    interrupted: Callable[[], bool],
    *,
    key: str | None = None,
    look_after: bool = False,
) -> FlagChange:
    check_name(flag)
    answers = None
    try:
        with connected(space.inventory) as hosts:
            report = Runner(
                space.inventory,
                hosts,
                flag,
                space.outside(),
                observer or NullObserver(),
                purpose=purpose,
                sign=sign,
                interrupted=interrupted,
                known=known_releases(space.store),
            ).run()
            if look_after:  # what it looked for lies behind it: this delays nothing
                answers = take_round(hosts, probe_request(disk=False), space.deadline_s)
    except KeyboardInterrupt as again:
        raise Interrupted(
            f"{flag}: interrupted again, before it could finish.",
            "It may be on at some hosts, or used by the senders; what was not settled lapses.",
            f"deploytool flags disarm {flag} -i {space.named}",
        ) from again
    return FlagChange(report, conclude(report, str(space.path), key), answers)


def flag_status(space: Workspace) -> FlagStatus:
    """What each flag is on each host, and what the senders do. It changes nothing."""
    with connected(space.inventory) as hosts:
        answers = take_round(hosts, probe_request(disk=False), space.deadline_s)
        shown = FlagHosts(hosts, space.deadline_s, lambda _host, _text, _fault: None).observe()
    senders: SenderObservation | HostFault
    try:
        senders = of_now(space.outside().observe(), time.time())
    except HostFault as fault:
        senders = fault
    return FlagStatus(rows(answers, shown), answers, shown, senders)
