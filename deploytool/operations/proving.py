"""What is true of a fleet now: one evidence round, and testinfra specs. It changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from deploytool.operations.connect import connected
from deploytool.operations.workspace import Workspace

if TYPE_CHECKING:
    from deploytool.parity.model import Round, RoundAnswers
    from deploytool.parity.testinfra_specs import SpecResult


@dataclass(frozen=True)
class VerifyResult:
    """A round, and what the specs of a folder came to on each host."""

    round: Round
    specs: tuple[SpecResult, ...]
    folder: Path


def probe(
    space: Workspace, only: tuple[str, ...] | None = None, *, surroundings: bool = False
) -> RoundAnswers:
    """What each host shows of itself without its disk, or why it shows nothing.

    Args:
        space: the fleet.
        only: these hosts, where not all of them.
        surroundings: ask too what a host is prepared with.
    """
    from deploytool.parity.round import probe_request, take_round

    with connected(space.inventory, only=only) as hosts:
        request = probe_request(disk=False, surroundings=surroundings)
        return take_round(hosts, request, space.deadline_s)


def status(
    space: Workspace,
    release: str | None = None,
    *,
    heard: Callable[[str, object], None] = lambda _host, _outcome: None,
    whole: bool = False,
) -> Round:
    """Takes one evidence round and judges it.

    Args:
        space: the fleet.
        release: what every host is checked against; else the release that most hosts have.
        heard: called as each host answers.
        whole: whether libraries are read although nothing shows that they were changed.

    Raises:
        InputError: there is no such release.
    """
    from deploytool.release.store import find, known_releases

    wanted = find(space.store, release).manifest if release is not None else None
    with connected(space.inventory, early=True) as hosts:
        # Read in while the hosts answer.
        from deploytool.parity.judge import judge, shown_manifest
        from deploytool.parity.round import probe_request, take_round

        request = probe_request(known=known_releases(space.store), whole=whole)
        seen = take_round(hosts, request, space.deadline_s, heard)
    return judge(space.inventory, seen, wanted or shown_manifest(seen))


def logs(space: Workspace, host: str, lines: int) -> tuple[str, ...]:
    """The last lines that the service on a host printed, the oldest first.

    Args:
        space: the fleet.
        host: one of its hosts.
        lines: so many of them at most; a host shows 1,000.

    Raises:
        InputError: there is no such host.
        NotProven: the host did not answer, or can't read them.
    """
    from deploytool.agent.requests import LogShown, ShowLog
    from deploytool.core.text import one_line
    from deploytool.errors import HostFault, InputError, NotProven

    if host not in space.names:
        raise InputError(
            f"{host} is no host of this inventory.",
            "Nothing was touched.",
            f"Name one of these: {', '.join(space.names)}",
        )
    with connected(space.inventory, only=(host,)) as hosts:
        try:
            answer = hosts[host].call(ShowLog(lines=lines), deadline_s=space.deadline_s)
        except HostFault as fault:
            raise NotProven(
                f"{host} did not show its log: {fault}",
                "Nothing was changed.",
                "See whether it answers at all: deploytool status",
            ) from fault
    assert isinstance(answer, LogShown)  # noqa: S101 the protocol checked it
    return tuple(one_line(line) for line in answer.lines)


_whole = partial(status, whole=True)


def verify(
    space: Workspace,
    release: str | None = None,
    spec: Path | None = None,
    *,
    look: Callable[[Workspace, str | None], Round] = _whole,
) -> VerifyResult:
    """``status``, and testinfra specs on every host.

    Args:
        space: the fleet.
        release: as for ``status``.
        spec: a folder of specs, run whatever the round shows; else the ones that ship, run on a
            fleet in parity.
        look: takes the round.

    Raises:
        InputError: there is no such release, or the folder holds no specs.
    """
    from deploytool.parity.model import Parity
    from deploytool.parity.testinfra_specs import OWN, run_specs

    specs = run_specs(space.inventory, spec) if spec is not None else ()
    taken = look(space, release)
    if spec is None and taken.parity is Parity.PARITY:
        specs = run_specs(space.inventory, OWN)
    return VerifyResult(taken, specs, spec or OWN)
