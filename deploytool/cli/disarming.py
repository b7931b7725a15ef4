"""``--disarm``: every flag is turned off first, once nothing else forbids what was asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from deploytool.cli.output import say
from deploytool.errors import DeploytoolError, Interrupted

if TYPE_CHECKING:
    from deploytool.operations.workspace import Workspace
    from deploytool.release.model import Release
    from deploytool.rollout.model import Plan, Purpose

GOES_ON = "turning the flag off goes on to its end, for nothing is safer"


def disarm_first(
    space: Workspace,
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
    from deploytool.operations.rollouts import flags_to_turn_off

    off: list[str] = []
    with naming(off):
        for flag in flags_to_turn_off(space, wanted, purpose, bound=bound, forward=forward):
            _turn_off(space, flag)
            off.append(flag)
    return tuple(off)


def _turn_off(space: Workspace, flag: str) -> None:
    from deploytool.cli.interrupt import interruptible
    from deploytool.cli.screen import PlainScreen
    from deploytool.operations.flags import disarm

    say(f"{flag} is turned off first.")
    with interruptible(GOES_ON) as pending, PlainScreen() as shown:
        error = disarm(space, flag, observer=shown, interrupted=pending).error
        stop_here = pending()
    if error is not None:
        error.means = f"No host was switched. {error.means}"
        raise error
    if stop_here:
        raise Interrupted(
            f"Interrupted while {flag} was being turned off.",
            "It was observed off everywhere; no host was switched.",
            f"deploytool status -i {space.named}",
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
