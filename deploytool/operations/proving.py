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
