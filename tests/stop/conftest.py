"""Three real hosts on a proven release, whom the tests of this folder stop and start again.

What is true on them is read past deploytool: from ``/proc`` and from the router's own files.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deploytool.rehearsal.fleets.local import LocalFleet
from deploytool.rehearsal.fleets.model import silent
from tests.schemas import valid

TOOL = str(Path(sys.executable).parent / "deploytool")
SOURCE = Path(__file__).resolve().parents[2] / "router_binary"
HOSTS = ("router1", "router2", "router3")


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """What ``--json`` printed."""
        found: dict[str, Any] = json.loads(self.out)
        return valid(["stop"], found) if "latch" in found else found

    def row(self, host: str) -> dict[str, Any]:
        """One host of a stop."""
        found: dict[str, Any] = next(h for h in self.document["hosts"] if h["host"] == host)
        return found


class Desk:
    """The user's side of a small fleet."""

    def __init__(self, fleet: LocalFleet, folder: Path) -> None:
        self.fleet = fleet
        self.folder = folder
        self.inventory = str(fleet.inventory)
        self.store = str(folder / "store")

    def tool(self, *words: str, timeout_s: float = 120.0, **given: Any) -> Ended:
        """Runs the console command."""
        given.setdefault("cwd", self.folder)
        done = subprocess.run(
            [TOOL, *words], capture_output=True, text=True, timeout=timeout_s, **given
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    def deploy(self, release: str) -> Ended:
        return self.tool("deploy", "-i", self.inventory, release, "--store", self.store)

    def stop(self, *words: str, **given: Any) -> Ended:
        return self.tool("stop", "-i", self.inventory, "--json", *words, **given)

    def start(self, *hosts: str, folder: str) -> Ended:
        """Both steps: the first person asks, the second signs."""
        place = self.folder / folder
        chosen = [word for host in hosts for word in ("--host", host)] or ["--all"]
        asked = self.tool(
            *("start", "-i", self.inventory, *chosen, "--reason", "mended"),
            *("--by", "rehearsal", "--out", str(place)),
        )
        assert asked.code == 0, asked
        for request in sorted(place.glob("*.request")):
            self.sign(request, "second")
        return self.tool("start", "-i", self.inventory, "--request", str(place))

    def sign(self, request: Path, who: str) -> None:
        key = {"second": "second_ed25519", "rehearsal": "signer_ed25519"}[who]
        Path(f"{request}.sig").unlink(missing_ok=True)
        subprocess.run(
            ["ssh-keygen", "-q", "-Y", "sign", "-n", "start.deploytool", "-f",
             str(self.fleet.folder / key), str(request)],
            check=True, capture_output=True, timeout=20,
        )  # fmt: skip

    # --- what is true on a host -------------------------------------------------------------------

    def root(self, host: str) -> Path:
        return self.fleet.host_folder(host) / "root"

    def main(self, host: str) -> int:
        """The process that serves, by the kernel; 0 where there is none."""
        try:
            pid, start = (self.root(host) / "state" / "pid").read_text().split()
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()
        except (OSError, ValueError):
            return 0
        return int(pid) if fields[19] == start.encode() and fields[0] != b"Z" else 0

    def latch(self, host: str) -> dict[str, Any] | None:
        """What the router itself has latched on its disk."""
        try:
            text = (self.root(host) / "state" / "service" / "latch.json").read_text()
        except FileNotFoundError:
            return None
        found: dict[str, Any] = json.loads(text)
        return found

    def signal(self, host: str, number: int) -> None:
        os.kill(self.main(host), number)

    @contextmanager
    def watching(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """A watch beside the test, ready to be asked; it is ended as a user would."""
        watch = subprocess.Popen(
            [TOOL, "watch", "-i", self.inventory, "--every", "2", *words],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=self.folder,
        )  # fmt: skip
        assert watch.stdout is not None
        seen = ""
        until = time.monotonic() + 60
        while not all(f"{host}: MATCH" in seen for host in HOSTS):
            assert time.monotonic() < until, seen
            seen += watch.stdout.readline()
        try:
            yield watch
        finally:
            watch.terminate()
            watch.communicate(timeout=30)


@pytest.fixture(scope="session")
def session_desk() -> Iterator[Desk]:
    with tempfile.TemporaryDirectory(prefix="deploytool-stop-") as folder:
        fleet = LocalFleet(Path(folder) / "fleet")
        try:
            fleet.up(len(HOSTS), silent)
            # Nothing dies young here: tests of a rollout wait for that.
            said = fleet.inventory.read_text()
            fleet.inventory.write_text(said.replace("soak_s: 1\n", "soak_s: 0.2\n"))
            made = Desk(fleet, Path(folder))
            for version in ("2026.0", "2026.1"):
                built = made.tool(
                    *("release", "build", version, "--store", made.store),
                    *("--source", str(SOURCE)),
                )
                assert built.code == 0, built
            assert made.deploy("2026.0").code == 0
            yield made
        finally:
            fleet.down(silent)


@pytest.fixture
def desk(session_desk: Desk) -> Iterator[Desk]:
    """The fleet as it was: every host trades, on one release, and no rollout holds it."""
    yield session_desk
    for host in HOSTS:
        state = session_desk.root(host) / "state"
        for mark in ("halted", "fenced", "lock", "rollout", "held"):
            (state / mark).unlink(missing_ok=True)
        if (main := session_desk.main(host)) != 0:
            os.kill(main, 9)
        (state / "service" / "latch.json").unlink(missing_ok=True)
    ended = session_desk.deploy("2026.0")
    assert ended.code == 0, ended
