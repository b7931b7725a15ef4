"""A release root on this machine, and the agent's own file in it."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from deploytool.agent.linux.killing import _HIERARCHIES
from deploytool.agent.protocol import answer_end, parse_answer, request_bytes
from deploytool.agent.requests import Answer, RefusedAnswer, Request
from deploytool.agent.settings import Command, Settings
from deploytool.fleet.agent_file import agent_file
from tests.unable import unable

ARTIFACT = Path(__file__).parents[2] / "contract" / "artifact.sh"
NONCE = "0a1b"
PYTHON = "/usr/bin/python3"


def as_root() -> None:
    if os.geteuid() != 0:
        unable("this needs root")


@dataclass
class Ran:
    """What one run of the agent's file printed, and how it ended."""

    output: bytes
    errors: bytes
    code: int


@dataclass
class Place:
    """A prepared release root without a supervisor."""

    root: Path
    settings: Settings
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": os.environ["PATH"]})

    @property
    def agent(self) -> Path:
        return Path(self.settings.agent)

    @property
    def state(self) -> Path:
        return self.root / "state"

    def write_agent(self, change: Callable[[bytes], bytes] = lambda content: content) -> None:
        self.agent.write_bytes(change(agent_file(self.settings)))
        self.agent.chmod(0o755)

    def raw(self, sent: bytes, *, deadline_s: float = 30.0) -> Ran:
        ended = subprocess.run(
            [self.agent], input=sent, capture_output=True, timeout=deadline_s, env=self.environment
        )
        return Ran(ended.stdout, ended.stderr, ended.returncode)

    def ask(self, request: Request, payload: bytes = b"") -> Answer | RefusedAnswer:
        ran = self.raw(request_bytes(request, NONCE) + payload)
        assert answer_end(NONCE) in ran.output, ran
        return parse_answer(ran.output, NONCE, request)


def command(*words: str) -> Command:
    return Command(argv=words)


def settings_for(root: Path, **changed: object) -> Settings:
    artifact, state = "{current}/router", f"{root}/state/service"
    return Settings(
        agent=f"{root}/libexec/helper",
        fleet="rehearsal",
        host="router1",
        name="router",
        root=str(root),
        account=None,
        supervisor="process",
        start=command(artifact, "serve", state),
        version=command(artifact, "--version"),
        status=command(artifact, "status", state),
        halt=command(artifact, "halt", state),
        stop_s=3,
        ready_s=10,
    ).but(**changed)


@pytest.fixture
def place() -> Iterator[Place]:
    # Short: a Unix socket's path has 107 bytes.
    with tempfile.TemporaryDirectory(prefix="deploytool-agent-", dir="/var/tmp") as folder:
        root = Path(folder).resolve() / "root"
        for name in ("libexec", "releases", "state/service"):
            (root / name).mkdir(parents=True)
        for name in ("mutex", "probe.lock"):
            (root / "state" / name).touch()
        made = Place(root, settings_for(root))
        made.write_agent()
        try:
            yield made
        finally:
            kill_below(root)


def kill_below(root: Path) -> None:
    """Ends what a test left running below its root."""
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                line = (process / "cmdline").read_bytes()
                if os.fsencode(root) in line and int(process.name) != os.getpid():
                    os.kill(int(process.name), 9)
            except OSError:
                continue


def eventually(holds: Callable[[], object], within_s: float = 20.0) -> None:
    """Waits for what must come true; a machine may be slow."""
    until = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < until, "it did not come true"
        time.sleep(0.02)


@contextmanager
def running(*argv: str | Path, **options: object) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(argv, **options) as process:  # type: ignore[call-overload] # as given
        try:
            yield process
        finally:
            process.kill()


LEADERLESS = """
import ctypes, platform, sys, threading, time
held = [open(name) for name in sys.argv[1:]]
threading.Thread(target=time.sleep, args=(60,)).start()
print(flush=True)
ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[platform.machine()], 0)
"""
"""A program whose first thread ends, as by pthread_exit(3), while another goes on: _exit(2)."""


CHURNING = """
import ctypes, platform, sys, threading, time
held = [open(name) for name in sys.argv[1:]]
def lives():
    time.sleep(0.002)
    threading.Thread(target=lives).start()
threading.Thread(target=lives).start()
print(flush=True)
ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[platform.machine()], 0)
"""
"""The same; and of its other threads each starts the next one, and ends."""


@contextmanager
def leaderless(
    *argv: str | Path, program: str = LEADERLESS, **options: object
) -> Iterator[subprocess.Popen[bytes]]:
    """A process whose first thread has ended. ``argv``: a Python, and what it is to hold open."""
    words = (argv[0], "-c", program, *argv[1:])
    with running(*words, stdout=subprocess.PIPE, **options) as process:
        stat = Path(f"/proc/{process.pid}/stat")
        eventually(lambda: stat.read_text().rpartition(")")[2].split()[0] == "Z")
        assert process.poll() is None, "its other thread goes on"
        yield process


def members(group: Path) -> list[str]:
    """The processes of a control group and of those below it."""
    lists = group.rglob("cgroup.procs")
    return [pid for procs in lists for pid in procs.read_text().split()]


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group of its own where systemd has those of services; of version 2, if possible."""
    as_root()
    for hierarchy in reversed(_HIERARCHIES):
        folder = Path(hierarchy) / "system.slice" / f"deploytool-test-{os.getpid()}.service"
        if not (Path(hierarchy) / "cgroup.procs").exists():
            continue
        try:
            (folder / "below").mkdir(parents=True)
        except OSError:
            continue
        break
    else:
        unable("no control group can be made here")
    try:
        yield folder
    finally:
        eventually(lambda: not members(folder))
        for below in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
            below.rmdir()
        folder.rmdir()


@contextmanager
def breeding(group: Path) -> Iterator[None]:
    """A process of a group that starts others again and again, and one in the group below."""
    breeds = 'echo $$ >"$1/cgroup.procs"; while :; do sleep 5 & sleep 0.01; done'
    quiet = 'echo $$ >"$1/below/cgroup.procs"; exec sleep 60'
    with running("sh", "-c", breeds, "sh", group), running("sh", "-c", quiet, "sh", group):
        eventually(lambda: len(members(group)) > 4)
        yield
