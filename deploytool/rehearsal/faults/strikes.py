"""Brings each fault of the catalogue, and lifts it again."""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

from deploytool.rehearsal.faults.copy import refuses_copies
from deploytool.rehearsal.faults.deployer import Deployer, DeployerEnd, Operator
from deploytool.rehearsal.faults.host_shell import HostShell
from deploytool.rehearsal.faults.relay import Relay
from deploytool.rehearsal.faults.scripts import SCRIPTS, Script
from deploytool.rehearsal.fleets.throwaway import Machines


@dataclass
class Scene:
    """What a strike can get hold of. ``others`` collects how other deployers ended."""

    host_shell: HostShell
    relay: Relay
    elsewhere: Operator
    release: str
    deployer: Deployer | None = None
    others: list[DeployerEnd] = field(default_factory=list)

    @property
    def machines(self) -> Machines:
        """The fleet, where its hosts have a power switch each."""
        if not isinstance(self.host_shell.fleet, Machines):
            raise TypeError("this fault needs hosts with a power switch")
        return self.host_shell.fleet


Strike = Callable[[Scene], AbstractContextManager[None]]


def _scripted(script: Script) -> Strike:
    @contextmanager
    def strike(scene: Scene) -> Iterator[None]:
        do = scene.host_shell.outside if script.outside else scene.host_shell.shell
        do(script.bring)
        try:
            yield
        finally:
            if script.lift != ":":
                do(script.lift)

    return strike


def _relayed(bring: Callable[[Relay], None]) -> Strike:
    @contextmanager
    def strike(scene: Scene) -> Iterator[None]:
        bring(scene.relay)
        try:
            yield
        finally:
            scene.relay.heal()

    return strike


@contextmanager
def _hangs(scene: Scene) -> Iterator[None]:
    scene.machines.pause(scene.host_shell.host)
    try:
        yield
    finally:
        scene.machines.unpause(scene.host_shell.host)


@contextmanager
def _gone(scene: Scene) -> Iterator[None]:
    scene.machines.kill(scene.host_shell.host)
    try:
        yield
    finally:
        scene.machines.start(scene.host_shell.host)


@contextmanager
def _reboot(scene: Scene) -> Iterator[None]:
    scene.machines.kill(scene.host_shell.host)
    scene.machines.start(scene.host_shell.host)
    yield


@contextmanager
def _refuses_copies(scene: Scene) -> Iterator[None]:
    with refuses_copies(scene.host_shell.fleet, scene.host_shell.host):
        yield


@contextmanager
def _killed(scene: Scene) -> Iterator[None]:
    if scene.deployer is not None:
        scene.deployer.send(signal.SIGKILL)
    yield


@contextmanager
def _interrupted(scene: Scene) -> Iterator[None]:
    if scene.deployer is not None:
        scene.deployer.send(signal.SIGINT)
    yield


@contextmanager
def _journal_unwritable(scene: Scene) -> Iterator[None]:
    """No file of the deployer's may grow: what a full disk is to a journal, by the kernel."""
    if scene.deployer is not None:
        pid = scene.deployer.process.pid
        hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, hard))
    yield


@contextmanager
def _two_deployers(scene: Scene) -> Iterator[None]:
    with scene.elsewhere.start("deploy", scene.release) as other:
        yield
        scene.others.append(other.wait())


@contextmanager
def _other_deployer(scene: Scene) -> Iterator[None]:
    """The deployer sleeps (it is held while this goes on), and wakes up without its locks."""
    scene.others.append(scene.elsewhere.run("resume"))
    yield


STRIKES: Mapping[str, Strike] = {
    **{name: _scripted(script) for name, script in SCRIPTS.items()},
    "connection-refused": _relayed(Relay.refuse),
    "connect-timeout": _relayed(Relay.stall),
    "connection-lost": _relayed(Relay.cut),
    "connection-lost-midway": _relayed(Relay.cut_midway),
    "answer-lost": _relayed(Relay.lose_answer),
    "answer-cut": _relayed(Relay.cut_answer),
    "late": _relayed(Relay.hold_up),
    "bytes-altered-on-the-way": _relayed(Relay.alter),
    "hangs": _hangs,
    "gone": _gone,
    "reboot": _reboot,
    "copy-truncated": _refuses_copies,
    "deployer-killed": _killed,
    "deployer-interrupted": _interrupted,
    "journal-unwritable": _journal_unwritable,
    "two-deployers": _two_deployers,
    "other-deployer": _other_deployer,
}

LOOK_LATER = frozenset({"hangs", "gone", "two-deployers"})
"""What is true is asked when these are over: a host can't be looked at, or a deployer goes on."""
AT_WORK = frozenset({"reboot", "sessions-killed", "disk-read-only"})
"""These strike while the deployer works on; it is held for none of them."""
