"""Where scenarios play: a throwaway fleet, two releases, a market and a client.

Everything that a scenario does to the fleet goes through the same code as a user's command.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deploytool.core.observer import Observer
from deploytool.errors import DeploytoolError, EnvironmentProblem
from deploytool.fleet.inventory import load_inventory
from deploytool.market.exchange import Quote
from deploytool.market.flow import Flow
from deploytool.market.venue import Address
from deploytool.operations.proving import status
from deploytool.operations.rollouts import Candidate, RolloutEnd, deploy, rollback
from deploytool.operations.workspace import Workspace
from deploytool.parity.model import Parity, Round
from deploytool.rehearsal.faults.host_shell import HostShell
from deploytool.rehearsal.faults.truth import Truth, truth
from deploytool.rehearsal.fleets.files import SYMBOLS
from deploytool.rehearsal.fleets.local import LocalFleet
from deploytool.rehearsal.fleets.model import FleetRecord
from deploytool.rehearsal.fleets.run import for_each
from deploytool.rehearsal.fleets.throwaway import Machines, Throwaway
from deploytool.rehearsal.trading import Trading
from deploytool.release.model import Release
from deploytool.rollout.outcome import not_proven
from deploytool.rollout.report import Report

_HOLDER = "rehearsal"
_HURRIED_S, _HURRIED_COPY_S = 12.0, 30.0
_HURRIED_BY_FACTOR_S, _HURRIED_COPY_BY_FACTOR_S = 6.0, 12.0
"""Deadlines where a scenario has a host fall silent: they are waited for, several times. On slow
hosts what counts is a multiple of what their commands take."""


@dataclass(frozen=True)
class CommandEnd:
    """How a command on the stage ended, as a user's shell would see it."""

    exit_code: int
    text: str
    report: Report | None = None
    round: Round | None = None

    def on(self, release: str) -> tuple[str, ...]:
        """The hosts that showed this release as their active one."""
        hosts = self.round.hosts if self.round else ()
        return tuple(item.host for item in hosts if item.release == release)


class Stage:
    """A fleet that is up, with the releases that a scenario plays with."""

    def __init__(
        self,
        fleet: Throwaway,
        baseline: Release,
        candidate: Release,
        say: Callable[[str], None],
        *,
        source: Path = Path("router_binary"),
        inventory: Path | None = None,
    ) -> None:
        self.fleet = fleet
        self.source = source
        self._inventory = inventory
        self.baseline = baseline
        self.candidate = candidate
        self.say = say

    @property
    def record(self) -> FleetRecord:
        """What the fleet wrote down of itself.

        Raises:
            EnvironmentProblem: it is not up.
        """
        record = self.fleet.record()
        if record is None:
            raise EnvironmentProblem(
                "The rehearsal's fleet is gone.", "Nothing was proven.", "Rehearse again."
            )
        return record

    @property
    def inventory(self) -> Path:
        """The inventory that its commands use: the fleet's own, where no other was named."""
        return self._inventory or self.fleet.inventory

    def by(self, inventory: Path) -> Stage:
        """The same stage, played on by another inventory of the same fleet."""
        return Stage(
            self.fleet,
            self.baseline,
            self.candidate,
            self.say,
            source=self.source,
            inventory=inventory,
        )

    @property
    def last_host(self) -> str:
        """The host that faults are brought upon: the eighth."""
        return self.record.hosts[-1].name

    @property
    def machines(self) -> Machines:
        """The fleet, where its hosts have a power switch and a cable each.

        Raises:
            EnvironmentProblem: they haven't.
        """
        if isinstance(self.fleet, Machines):
            return self.fleet
        raise EnvironmentProblem(
            f"Hosts of a {self.fleet.kind} fleet have no power switch of their own.",
            "Nothing was proven.",
            "deploytool rehearse --fleet vagrant",
        )

    def truths(self, hosts: tuple[str, ...] | None = None) -> dict[str, Truth]:
        """What is true on hosts (None: on all), asked past deploytool."""
        inventory = load_inventory(self.inventory)
        old, new = self.baseline.digest, self.candidate.digest
        names = inventory.names if hosts is None else hosts

        def look(name: str) -> Truth:
            return truth(HostShell(self.fleet, inventory, name, old, new))

        return dict(zip(names, for_each(names, look), strict=True))

    def deploy(
        self,
        release: Release,
        *,
        observer: Observer | None = None,
        hurried: bool = False,
    ) -> CommandEnd:
        """``deploytool deploy``; ``hurried``: with short deadlines."""
        space = self._space()
        if hurried:
            slow = self.record.factor
            short = {
                "command_timeout_s": max(_HURRIED_S, _HURRIED_BY_FACTOR_S * slow),
                "transfer_timeout_s": max(_HURRIED_COPY_S, _HURRIED_COPY_BY_FACTOR_S * slow),
            }
            ssh = space.inventory.ssh.model_copy(update=short)
            inventory = space.inventory.model_copy(update={"ssh": ssh})
            space = replace(space, inventory=inventory)
        return _ended(deploy(Candidate(space, release), by=_HOLDER, observer=observer))

    def rollback(self) -> CommandEnd:
        """``deploytool rollback``, once every host answers again."""
        return _ended(rollback(self._space(), by=_HOLDER))

    def _space(self) -> Workspace:
        folder = self.fleet.folder
        return Workspace.open(self.inventory, store=folder / "no-store", journal=folder / "journal")

    def status(self) -> CommandEnd:
        """``deploytool status``."""
        taken = status(self._space())
        proven = taken.parity is Parity.PARITY
        error = None if proven else not_proven(taken, str(self.inventory), taken.parity.value)
        return CommandEnd(_code(error), _text(error, taken), None, taken)

    def forget(self, release: Release) -> None:
        """Takes a release that isn't active off the disks of all hosts, past SSH."""
        inventory = load_inventory(self.inventory)
        for host in inventory.names:
            folder = f"{inventory.root(host)}/releases/{release.digest}"
            if isinstance(self.fleet, LocalFleet):
                shutil.rmtree(folder, ignore_errors=True)
            else:
                self.machines.inside(host, ("rm", "-rf", folder))

    @contextmanager
    def trading(self) -> Iterator[Trading]:
        """A market and a client gateway, for the length of a block."""
        market = self.record.market
        quotes = {name: Quote(price - 100, price + 100) for name, price in SYMBOLS.items()}
        # A Unix socket's path must be short, so this does not lie in the fleet's folder.
        with (
            tempfile.TemporaryDirectory(prefix="market-") as folder,
            Flow(Path(folder), [Address("XA", market.host, market.port)], quotes) as flow,
        ):
            yield Trading(self.record, self._statuses, flow)

    def _statuses(self) -> dict[str, dict[str, Any]]:
        """What each service says of itself now; without those that gave no evidence."""
        taken = self.status().round
        return {
            item.host: dict(item.evidence.status)
            for item in (taken.hosts if taken else ())
            if item.evidence is not None and item.evidence.status is not None
        }


def _ended(end: RolloutEnd) -> CommandEnd:
    taken = end.report.round
    return CommandEnd(_code(end.error), _text(end.error, taken), end.report, taken)


def _code(error: DeploytoolError | None) -> int:
    return 0 if error is None else error.exit_code


def _text(error: DeploytoolError | None, taken: Round | None) -> str:
    if error is not None:
        return " ".join([error.what, error.means, *error.details[:2]])
    return f"{taken.parity.value} on {taken.label}" if taken else ""
