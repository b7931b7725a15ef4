"""A local fleet on a proven release, shared by the tests of this folder; each leaves it as one."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploytool.rehearsal.faults.deployer import DeployerEnd, Operator
from deploytool.rehearsal.faults.host_shell import HostShell
from deploytool.rehearsal.faults.operators import Operators
from deploytool.rehearsal.faults.run import Rehearsal
from deploytool.rehearsal.faults.truth import Truth
from deploytool.rehearsal.fleets.local import LocalFleet
from deploytool.rehearsal.fleets.model import silent
from deploytool.release.build import build

HOSTS = int(os.environ.get("DEPLOYTOOL_HOSTS", "3"))


@dataclass
class Theatre:
    """The fleet, whoever deploys to it, and what is true on it."""

    fleet: LocalFleet
    operators: Operators
    rehearsal: Rehearsal
    store: Path

    @property
    def old(self) -> str:
        """What every host runs when a test begins."""
        return self.rehearsal.old

    @property
    def new(self) -> str:
        """The other release."""
        return self.rehearsal.new

    @property
    def hosts(self) -> tuple[str, ...]:
        return self.rehearsal.hosts

    def look(self) -> dict[str, Truth]:
        return dict(self.rehearsal.look())

    def settled(self) -> dict[str, Truth]:
        """What is true once nothing changes any more."""
        before = self.look()
        for _ in range(10):
            time.sleep(1.0)
            now = self.look()
            if now == before:
                return now
            before = now
        raise AssertionError("the fleet does not come to rest")

    def host_shell(self, host: str) -> HostShell:
        return self.rehearsal.host_shell(host)

    def state(self, host: str, name: str) -> Path:
        """A file of the host's state folder."""
        return Path(self.rehearsal.host_shell(host).root) / "state" / name

    def everyone_runs(self, release: str) -> bool:
        """Whether each host runs the release, and nothing is left of any rollout."""
        seen = self.look().values()
        return all(t.runs(release) and not (t.locked or t.marked or t.held) for t in seen)

    def forget(self) -> None:
        """The new release is on no disk, so that it is copied again."""
        for host in self.hosts:
            self.host_shell(host).shell('rm -rf "$ROOT/releases/$NEW"')


@pytest.fixture(scope="session")
def stage() -> Iterator[Theatre]:
    with tempfile.TemporaryDirectory(prefix="deploytool-crash-") as folder:
        store = Path(folder) / "store"
        source = Path("router_binary")
        releases = (build(store, source, "2026.0"), build(store, source, "2026.1"))
        fleet = LocalFleet(Path(folder) / "fleet")
        try:
            fleet.up(HOSTS, silent)
            operators = Operators(fleet, store)
            try:
                yield Theatre(fleet, operators, Rehearsal(fleet, operators, releases), store)
            finally:
                operators.close()
        finally:
            fleet.down(silent)


@pytest.fixture
def theatre(stage: Theatre) -> Theatre:
    """The fleet on one release, whichever the test before has left; it is called the old one."""
    if stage.everyone_runs(stage.new):
        stage.rehearsal.turn()
    if not stage.everyone_runs(stage.old):
        stage.operators.fresh("first").run("resume")
        ended = stage.operators.fresh("first").run("deploy", stage.old)
        assert ended.code == 0, shown(ended)
        assert stage.everyone_runs(stage.old)
    stage.forget()
    return stage


def shown(ended: DeployerEnd) -> str:
    """How a command ended, for a test's message."""
    details = "\n".join(map(str, ended.document.get("details", [])))
    return (
        f"{ended.verb}: exit {ended.code}: {ended.document.get('what')}\n{details}\n{ended.errors}"
    )


def called(operator: Operator, name: str) -> Operator:
    """The same operator under another person's name: locks say who holds them."""
    return Operator(operator.inventory, operator.store, operator.journal, {"LOGNAME": name})
