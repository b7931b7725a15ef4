"""Putting a release on a fleet, and finishing or undoing what was interrupted.

What a rollout needs beside the connections is imported while the hosts answer.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploytool.core.observer import NullObserver, Observer, never
from deploytool.errors import DeploytoolError, InputError, Refused
from deploytool.operations.connect import connected
from deploytool.operations.workspace import Workspace, holder
from deploytool.rollout.model import Purpose

if TYPE_CHECKING:
    from deploytool.release.model import Release
    from deploytool.rollout.model import Plan
    from deploytool.rollout.recovery import InterruptedRollout
    from deploytool.rollout.report import Report


@dataclass(frozen=True)
class Candidate:
    """A release that may be put on a fleet: whatever the gate refuses can't be made one.

    Raises:
        InputError: it is another service's release, or can't be read.
        Refused: the gate refuses it for this fleet.
    """

    space: Workspace
    release: Release

    def __post_init__(self) -> None:
        from deploytool.gate.check_deploy import check_deploy

        manifest, inventory = self.release.manifest, self.space.inventory
        if manifest.name != inventory.service.name:
            raise InputError(
                f"The release is {manifest.name!r}, the service is {inventory.service.name!r}.",
                "Nothing was touched.",
                "Name a release of this service; see: deploytool release list",
            )
        if manifest.rehearsal_only and not inventory.throwaway:
            raise Refused(
                "RELEASE_REHEARSAL_ONLY",
                f"{self.release.label} is for rehearsals only, "
                f"{inventory.fleet} is no throwaway fleet.",
                "Nothing was changed.",
                "Deploy another release, or rehearse: deploytool fleet up --fleet local",
            )
        check_deploy(self.space.path, self.release, self.space.store, time.time())


def find_candidate(space: Workspace, word: str) -> Candidate:
    """The release that ``word`` names: a version, a SHA-256 or its beginning, or a folder.

    Raises:
        InputError: there is no such release, or not one.
        Refused: the gate refuses it for this fleet.
    """
    from deploytool.release.store import find

    return Candidate(space, find(space.store, word))


@dataclass(frozen=True)
class RolloutEnd:
    """How a rollout ended. ``error`` None: every host was proven to be as was asked for."""

    report: Report
    error: DeploytoolError | None


def plan(candidate: Candidate) -> Plan:
    """What a deployment would do on each host. It changes nothing.

    Raises:
        Refused: a rule forbids it; every host that stands in the way is named.
    """
    from deploytool.release.store import known_releases
    from deploytool.rollout.admission import survey
    from deploytool.rollout.outcome import refused

    space, release = candidate.space, candidate.release
    with connected(space.inventory) as hosts:
        found = survey(
            space.inventory, release, hosts, space.senders(),
            plan_id=secrets.token_hex(8), known=known_releases(space.store),
        )  # fmt: skip
    if found.plan is None:
        raise refused(found.obstacles, release, Purpose.DEPLOY, str(space.path))
    return found.plan


def deploy(
    candidate: Candidate,
    *,
    bound: Plan | None = None,
    take_over: bool = False,
    halted: bool = False,
    by: str | None = None,
    observer: Observer | None = None,
    interrupted: Callable[[], bool] = never,
) -> RolloutEnd:
    """Puts a release on every host and proves it, or brings back what was switched.

    Args:
        bound: refuse where the fleet has moved since this plan was made.
        take_over: an interrupted rollout, or one that is on hold, ends by this one.
        halted: hosts may be HALTED when it ends, as they were before.
        by: who deploys, as locks name it; else ``user@machine``.
        observer: is told what goes on.
        interrupted: asked between two steps; True ends it in good order.

    Raises:
        EnvironmentProblem: the journal can't be written; nothing was done.
        Interrupted: KeyboardInterrupt came meanwhile; what was under way may have ended or not.
    """
    return _run(
        candidate.space, candidate.release,
        Purpose.SUPERSEDE if take_over else Purpose.DEPLOY, by, observer, interrupted,
        bound=bound, halted=halted,
    )  # fmt: skip


def find_interrupted(space: Workspace, purpose: Purpose) -> InterruptedRollout:
    """What an interrupted rollout was about, by what the hosts show. It changes nothing.

    Args:
        purpose: RESUME or ROLLBACK, whichever is to follow.

    Raises:
        NotProven: no host answers.
        Refused: there is nothing to finish or to undo, or the hosts' marks disagree.
    """
    from deploytool.rollout.recovery import locate

    with connected(space.inventory) as hosts:
        return locate(space.inventory, hosts, space.store, space.journal, str(space.path), purpose)


def resume(
    space: Workspace,
    found: InterruptedRollout | None = None,
    *,
    forward: bool = False,
    halted: bool = False,
    by: str | None = None,
    observer: Observer | None = None,
    interrupted: Callable[[], bool] = never,
) -> RolloutEnd:
    """Finishes what an interrupted rollout left, from any machine.

    Args:
        found: what ``find_interrupted`` gave; else it is asked for.
        forward: go on to the release although a rollback was in progress.
        halted: hosts that are HALTED now may stay so.
        by, observer, interrupted: as for ``deploy``.

    Raises:
        DeploytoolError: as ``find_interrupted`` and ``deploy``.
    """
    release = (found or find_interrupted(space, Purpose.RESUME)).release
    return _run(
        space, release, Purpose.RESUME, by, observer, interrupted, forward=forward, halted=halted
    )


def rollback(
    space: Workspace,
    found: InterruptedRollout | None = None,
    *,
    halted: bool = False,
    by: str | None = None,
    observer: Observer | None = None,
    interrupted: Callable[[], bool] = never,
) -> RolloutEnd:
    """Undoes what an interrupted rollout left, and proves it. Arguments as for ``resume``.

    Raises:
        DeploytoolError: as ``find_interrupted`` and ``deploy``.
    """
    release = (found or find_interrupted(space, Purpose.ROLLBACK)).release
    return _run(space, release, Purpose.ROLLBACK, by, observer, interrupted, halted=halted)


def flags_to_turn_off(
    space: Workspace,
    release: Release,
    purpose: Purpose = Purpose.DEPLOY,
    *,
    bound: Plan | None = None,
    forward: bool = False,
) -> tuple[str, ...]:
    """The flags that hosts or senders show in use, once nothing else forbids the rollout.

    Raises:
        Refused: something else forbids it; no flag was turned off.
    """
    from deploytool.arming.asking import in_use
    from deploytool.release.store import known_releases
    from deploytool.rollout.admission import Without, survey
    from deploytool.rollout.outcome import refused

    with connected(space.inventory) as hosts:
        found = in_use(space.inventory, hosts, space.outside())
        if not found:
            return ()
        asked = space.senders()
        # What is about to be withdrawn and observed is no bit in use by then.
        senders = Without(asked, frozenset().union(*found.values())) if asked else None
        seen = survey(
            space.inventory, release, hosts, senders, purpose,
            bound=bound, forward=forward, known=known_releases(space.store),
        )  # fmt: skip
    others = tuple(obstacle for obstacle in seen.obstacles if obstacle.rule != "FLAGS_ARMED")
    if others:
        raise refused(others, release, purpose, str(space.path))
    return tuple(found)


def _run(
    space: Workspace,
    release: Release,
    purpose: Purpose,
    by: str | None,
    observer: Observer | None,
    interrupted: Callable[[], bool],
    *,
    bound: Plan | None = None,
    forward: bool = False,
    halted: bool = False,
) -> RolloutEnd:
    inventory, by = space.inventory, by or holder()
    try:
        with connected(inventory, early=True) as hosts:
            # Read in while the hosts answer.
            from deploytool.release.store import known_releases
            from deploytool.rollout.journal import Journal, journal_path
            from deploytool.rollout.outcome import conclude
            from deploytool.rollout.runner import Runner

            # Never the bound plan's: two runs of one plan are two deployers.
            plan_id = secrets.token_hex(8)
            with Journal(journal_path(space.journal, inventory.fleet)) as journal:
                journal.begin(plan_id, purpose.value, inventory.fleet, release.digest, by)
                report = Runner(
                    inventory,
                    release,
                    hosts,
                    by,
                    observer or NullObserver(),
                    journal,
                    plan_id=plan_id,
                    purpose=purpose,
                    bound=bound,
                    interrupted=interrupted,
                    forward=forward,
                    halted=halted,
                    known=known_releases(space.store),
                    senders=space.senders(),
                ).run()
    except KeyboardInterrupt as again:
        from deploytool.rollout.outcome import cut_short

        raise cut_short(release.label, str(space.path)) from again
    return RolloutEnd(report, conclude(report, str(space.path)))
