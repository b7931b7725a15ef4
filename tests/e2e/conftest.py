"""One fleet of eight containers for the session; each test finds it as the last left it, mended.

A test that can't run here says so, and under CI that is a failure.
"""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploytool.errors import EnvironmentProblem
from deploytool.rehearsal.fleets.container import ContainerFleet
from deploytool.rehearsal.fleets.engine import find_engine
from deploytool.rehearsal.fleets.model import silent
from deploytool.rehearsal.fleets.run import find

from .workstation import BROKEN, NEW, OLD, ROOT, Ended, Look, Workstation, runs

SOURCE = Path(__file__).resolve().parents[2] / "router_binary"
MARKER = "/etc/refuse-to-start"

# What a bad build does: it prints its version, and dies where it should serve.
_BREAK = f"""
import os, sys
if os.path.exists("{MARKER}") and "serve" in sys.argv:
    raise SystemExit("router: this build does not start here")
"""


@pytest.fixture(scope="session")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workstation]:
    """A user's desk beside eight hosts that have nothing yet."""
    folder = tmp_path_factory.mktemp("desk")
    shutil.copytree(SOURCE, folder / "router_binary")
    _add_broken_build(folder / "router_binary")
    containers = ContainerFleet(folder / "fleet")
    try:
        containers.up(8, silent)
        record = containers.record()
        assert record is not None
        made = Workstation(folder, containers, record)
        # The deadlines of our own inventory are part of the helper: hosts are brought up to date.
        for ended in (
            made.prepare("-i", made.inventory),
            *(made.tool("release", "build", version) for version in (OLD, NEW)),
            made.tool("release", "build", BROKEN, "--source", "broken_source"),
        ):
            assert ended.code == 0, ended
        yield made
    finally:
        containers.down(silent)


def _add_broken_build(source: Path) -> None:
    """A third build, which starts only where nothing forbids it."""
    broken = source.parent / "broken_source"
    shutil.copytree(source, broken)
    recipe = (source / "builds" / f"{NEW}.yaml").read_text()
    (broken / "builds" / f"{BROKEN}.yaml").write_text(recipe.replace(f'"{NEW}"', f'"{BROKEN}"'))
    terms = broken / "router" / "terms.py"
    terms.write_text(terms.read_text() + _BREAK)


@dataclass(frozen=True)
class Trio:
    """Three of the hosts as a fleet of their own, proven on the old release. router2 gets hurt."""

    desk: Workstation
    inventory: Path
    names: tuple[str, ...] = ("router1", "router2", "router3")
    victim: str = "router2"

    def status(self) -> Ended:
        return self.desk.tool("status", "-i", self.inventory)

    def deploy(self, version: str = NEW) -> Ended:
        return self.desk.tool("deploy", "-i", self.inventory, version)

    def looks(self) -> dict[str, Look]:
        return self.desk.looks(self.names)

    def look(self, host: str) -> Look:
        return self.desk.look(host)

    def others(self) -> tuple[str, ...]:
        return tuple(name for name in self.names if name != self.victim)

    def hurt(self, script: str) -> str:
        """Does something to the victim as root, past SSH."""
        return self.desk.root(self.victim, script)

    def all_run(self, version: str) -> bool:
        digest = self.desk.digest(version)
        return all(runs(look, digest) for look in self.looks().values())


@pytest.fixture(scope="session")
def trio_inventory(desk: Workstation) -> Path:
    return desk.write_inventory("trio.yaml", list(Trio.names), waves=[1, "rest"])


@pytest.fixture
def trio(desk: Workstation, trio_inventory: Path) -> Trio:
    """Begins at parity on the old release: redeployed where it is not."""
    made = Trio(desk, trio_inventory)
    began = made.deploy(OLD)
    if began.code == 3 and " since " in began.err:
        for name in made.names:
            # A rollout that was held was what the last test saw.
            desk.root(name, f"cd {ROOT}/state && rm -f lock rollout held")
        began = made.deploy(OLD)
    assert began.code == 0, began
    return made


@functools.cache
def _lacking(marker: str) -> str:
    """Why tests with this marker can't run on this machine; empty when they can."""
    try:
        if marker == "sshd":
            find("sshd", "openssh-server")
        if marker == "containers":
            find_engine()
    except EnvironmentProblem as problem:
        return f"{problem.what} {problem.now}"
    return ""


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in ("sshd", "containers"):
        if item.get_closest_marker(marker) and (reason := _lacking(marker)):
            if os.environ.get("CI"):
                pytest.fail(f"under CI nothing is skipped: {reason}", pytrace=False)
            pytest.skip(reason)
