"""``--disarm``: every flag is turned off first, once nothing else forbids what was asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from deploytool.cli.output import say
from deploytool.errors import DeploytoolError, Interrupted
from deploytool.fleet.paths import folder_of

if TYPE_CHECKING:
    from deploytool.arming.senders import Outside
    from deploytool.fleet.host import Host
    from deploytool.fleet.model import Inventory
    from deploytool.release.model import Release
    from deploytool.rollout.model import Plan, Purpose

GOES_ON = "turning the flag off goes on to its end, for nothing is safer"


def disarm_first(
    fleet: Inventory,
    path: Path,
    wanted: Release,
    purpose: Purpose,
    bound: Plan | None = None,
    *,
    forward: bool = False,
    wished: bool,
) -> tuple[str, ...]:
    """Turns off every flag that a host or a sender shows in use, where that was asked for.

    Gives the flags that were turned off, and observed off.

    Raises:
        Refused: something else forbids the rollout; no flag was turned off.
        DeploytoolError: a flag was not observed off; no host was switched.
    """
    if not wished:
        return ()
    from deploytool.arming.runner import in_use
    from deploytool.arming.senders import SenderCommands, senders_of
    from deploytool.fleet.remote import connect_fleet
    from deploytool.rollout.admission import Without, forbids
    from deploytool.rollout.outcome import refused

    folder = folder_of(path)
    outside = SenderCommands(fleet, folder)
    hosts = connect_fleet(fleet)
    off: list[str] = []
    try:
        found = in_use(fleet, hosts, outside)
        if not found:
            return ()
        asked = senders_of(fleet, folder)
        # What is about to be withdrawn and observed is no bit in use by then.
        senders = Without(asked, frozenset().union(*found.values())) if asked else None
        obstacles = forbids(fleet, wanted, hosts, purpose, senders, bound, forward=forward)
        others = tuple(obstacle for obstacle in obstacles if obstacle.rule != "FLAGS_ARMED")
        if others:
            raise refused(others, wanted, purpose, str(path))
        with naming(off):
            for flag in found:
                _turn_off(fleet, path, hosts, flag, outside)
                off.append(flag)
    finally:
        for host in hosts.values():
            host.close()
    return tuple(off)


def _turn_off(
    fleet: Inventory,
    path: Path,
    hosts: Mapping[str, Host],
    flag: str,
    outside: Outside,
) -> None:
    from deploytool.arming.outcome import conclude
    from deploytool.arming.runner import Runner, signs_nothing
    from deploytool.arming.table import Purpose
    from deploytool.cli.interrupt import interruptible
    from deploytool.cli.screen import PlainScreen

    say(f"{flag} is turned off first.")
    with interruptible(GOES_ON) as pending, PlainScreen() as shown:
        report = Runner(
            fleet, hosts, flag, outside, shown,
            purpose=Purpose.DISARM, sign=signs_nothing, interrupted=pending,
        ).run()  # fmt: skip
        stop_here = pending()
    error = conclude(report, str(path))
    if error is not None:
        error.means = f"No host was switched. {error.means}"
        raise error
    if stop_here:
        raise Interrupted(
            f"You broke it off while {flag} was turned off.",
            "It was observed off everywhere; no host was switched.",
            f"deploytool status -i {quote(str(path))}",
        )


@contextmanager
def naming(off: Sequence[str]) -> Iterator[None]:
    """Whatever goes wrong from here on says which flags had been turned off before."""
    try:
        yield
    except DeploytoolError as error:
        name_them(error, off)
        raise


def name_them(error: DeploytoolError, off: Sequence[str]) -> None:
    """Says in an end which flags had been turned off before it came."""
    if off:
        named = f"{', '.join(off)} {'was' if len(off) == 1 else 'were'}"
        error.means = f"{named} turned off first, and observed off. Beside that: {error.means}"
