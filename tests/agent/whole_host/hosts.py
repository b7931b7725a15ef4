"""This machine as a host with a service: real files, processes and control groups."""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import shutil
import signal
import subprocess
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from deploytool.agent.host import AgentHost
from deploytool.agent.linux import Linux
from deploytool.agent.model import Other, Owner, Process, ReleaseRun
from deploytool.agent.port import UnitState, View
from deploytool.agent.record import Record
from deploytool.agent.remembered import Digests
from deploytool.agent.settings import Command, Settings
from deploytool.agent.verbs.sighting import Sighting, sight
from deploytool.agent.words import Pid  # a field's kind
from tests.unable import unable

ACCOUNT = "games"
PYTHON = "/usr/bin/python3"
GROUPS = ("/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified", "/sys/fs/cgroup")

SCRIPT = b"""#!/usr/bin/python3
import sys, time
own = open(__file__, "rb") if "--hold" in sys.argv else None
print("up", flush=True)
time.sleep(600)
"""
SHELL = b"""#!/bin/sh
echo up
sleep 600
"""


class Unit:
    """Stands in for systemd: it says which control group and main process are the service's."""

    def __init__(self) -> None:
        self.told = UnitState()

    def state(self) -> UnitState:
        return self.told

    def unit_files(self) -> tuple[str, ...]:
        return ()


class System:
    """This machine's own files, processes and commands; and a service of the test's."""

    def __init__(self, settings: Settings, unit: Unit) -> None:
        linux = Linux(settings)
        self.settings = settings
        self.files, self.processes = linux.files, linux.processes
        self.commands, self.machine = linux.commands, linux.machine
        self.supervisor = unit


class Looked(Record):
    """A look, as it can leave the process that took it."""

    views: tuple[View, ...]
    others: tuple[Other, ...]
    service: tuple[Pid, ...]
    runs: tuple[ReleaseRun, ...]
    owners: tuple[Owner, ...]
    to_kill: tuple[Pid, ...]

    @staticmethod
    def of(seen: Sighting) -> Looked:
        """All that matters of it."""
        return Looked(
            views=tuple(seen.views.values()),
            others=seen.others,
            service=tuple(sorted(seen.service)),
            runs=seen.runs(),
            owners=seen.owners(),
            to_kill=seen.to_kill(),
        )

    def view(self, pid: int) -> View:
        """One process."""
        return next(view for view in self.views if view.process.pid == pid)


def apart(take: Callable[[], object]) -> object:
    """What it gives, in a process of its own: what a test starts is not the agent's client."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with os.fdopen(writing, "w", encoding="ascii") as out:
                json.dump(take(), out)
            code = 0
        except Exception:  # noqa: BLE001 # whatever it is, its parent has to hear of it
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading, encoding="ascii") as answer:
        text = answer.read()
    assert os.waitpid(child, 0)[1] == 0, "the look failed: see its traceback"
    return json.loads(text)


@dataclass
class Place:
    """A prepared host: its release root, and what the test started on it."""

    root: Path
    unit: Unit
    settings: Settings
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def release(self, content: bytes) -> Path:
        """Puts a release where a deployment would; its artifact."""
        folder = self.root / "releases" / hashlib.sha256(content).hexdigest()
        folder.mkdir(exist_ok=True)
        artifact = folder / "router"
        if not artifact.exists():
            artifact.write_bytes(content)
            artifact.chmod(0o555)
            (folder / "release.json").write_text("{}\n")
        return artifact

    def compiled(self, mark: str = "") -> Path:
        """A release that is a compiled program, unlike every other on this machine."""
        own = f"{mark} {self.root}".encode()
        return self.release(Path("/usr/bin/sleep").read_bytes() + own)

    def activate(self, artifact: Path) -> None:
        link = self.root / "current"
        link.unlink(missing_ok=True)
        link.symlink_to(f"releases/{artifact.parent.name}")

    def start(self, *argv: str | Path, **options: object) -> int:
        """Starts a process; it is known to have executed its program when this returns."""
        process = subprocess.Popen(
            [str(word) for word in argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if options.pop("says_up", False) else subprocess.DEVNULL,
            start_new_session=True,
            **options,  # type: ignore[call-overload]
        )
        self.started.append(process)
        if process.stdout is not None:
            assert process.stdout.readline() == b"up\n"
        return int(process.pid)

    @contextmanager
    def host(self, **settings: object) -> Iterator[AgentHost]:
        """It as the agent sees it."""
        system = System(self.settings.but(**settings), self.unit)
        with AgentHost.open(system, "0" * 64) as host:  # type: ignore[arg-type] # its unit is a double
            yield host

    def look(self, **settings: object) -> Looked:
        def look() -> dict[str, object]:
            with self.host(**settings) as host:
                cache = Digests(host)
                return Looked.of(sight(host, self.unit.told, cache=cache)).to_json()

        return Looked.from_json(apart(look))

    def role(self, pid: int, **settings: object) -> tuple[str, tuple[str, ...], str | None]:
        """What a process is to the service, in which ways, and the release that it has."""
        for other in self.look(**settings).others:
            if other.pid == pid:
                return other.role, other.ways, other.release
        return "", (), None

    def group(self) -> Path:
        """A control group of the service's own."""
        for folder in GROUPS:
            if os.access(f"{folder}/cgroup.procs", os.W_OK):
                group = Path(folder) / f"deploytool-test-{os.getpid()}-{self.root.parent.name}"
                group.mkdir(exist_ok=True)
                return group
        return unable("this account can't make a control group here")

    def end(self) -> None:
        for process in self.started:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()
            process.wait(10)
            if process.stdout is not None:
                process.stdout.close()


def wait_for(what: Callable[[], bool], seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it did not come true in time"
        time.sleep(0.02)


def executes(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/exe").readlink())
    except FileNotFoundError:
        return ""


def mentions(text: str) -> list[str]:
    """Processes that have a text among their arguments: a test leaves none behind."""
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return [line for line in listed.stdout.splitlines() if text in line]


def started(process: Process) -> tuple[int, int]:
    return process.pid, process.start


@contextmanager
def prepared(folder: Path) -> Iterator[Place]:
    """A prepared host in a folder that the service's account can enter."""
    if os.geteuid() != 0:
        unable("only root can look at the whole host")
    if not shutil.which("unshare") or not Path(PYTHON).exists():
        unable("unshare or the system's Python is not here")
    pwd.getpwnam(ACCOUNT)
    root = folder / "root"
    for name in ("releases", "state", "state/service"):
        (root / name).mkdir(parents=True)
    for name in ("mutex", "probe.lock"):
        (root / "state" / name).touch()
    settings = Settings(
        agent="/usr/local/libexec/deploytool/router",
        fleet="test",
        host="here",
        name="router",
        root=str(root),
        account=ACCOUNT,
        supervisor="systemd",
        start=Command(argv=("{current}/router",)),
        version=Command(argv=("{current}/router", "--version")),
        status=Command(argv=("{current}/router", "--help")),
    )
    place = Place(root, Unit(), settings)
    try:
        yield place
    finally:
        place.end()
        wait_for(lambda: not mentions(str(folder)))
        for group in GROUPS:
            for own in Path(group).glob(f"deploytool-test-{os.getpid()}-*"):
                with suppress(OSError):
                    own.rmdir()
