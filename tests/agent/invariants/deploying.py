"""A deployer of one host in memory, and what is on that host, read without the verbs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from deploytool.agent.requests import (
    Activated,
    Answer,
    Confirm,
    Locked,
    Probe,
    RefusedAnswer,
    Request,
    Staged,
    Unlock,
)
from deploytool.simulation.memory.agent import MemoryAgent
from deploytool.simulation.memory.disk import sha256
from deploytool.simulation.memory.host import MemoryHost
from deploytool.simulation.memory.host import settings as described
from deploytool.simulation.memory.programs import Build, build
from deploytool.simulation.memory.run import Hook, Run, Wait
from tests.agent.verbs.ground import claim, staging, switch

if TYPE_CHECKING:
    from deploytool.agent.port import Folder

OLD, NEW, OTHER = build("2026.1"), build("2026.2", padding=9000), build("2026.3")
DEADMAN_S = 60
STEPS = ("lock", "stage", "activate", "confirm", "unlock")


class No(Exception):
    """A host refused what had to be done."""


@dataclass
class Deployer:
    """One deployer on one host. ``asks`` is what it has a host do; it is told of each answer."""

    host: MemoryHost
    plan: str
    build: Build = NEW
    purpose: str = "deploy"
    deadman: int = DEADMAN_S
    hook: Hook | None = None
    wait: Wait | None = None
    token: int = 0
    latch: str | None = None
    done: list[str] = field(default_factory=list)

    def ask(self, request: Request, payload: bytes = b"") -> Answer:
        answer = self.host.ask(request, payload, hook=self.hook, wait=self.wait)
        if isinstance(answer, RefusedAnswer):
            raise No(f"{request.verb}: {answer.code}: {answer.text}")
        return answer

    def step(self, name: str) -> None:
        getattr(self, name)()
        self.done.append(name)

    def lock(self, take_over: int | None = None, before: str | None = None) -> None:
        wanted = {"purpose": self.purpose, "release": self.build.release, "take_over": take_over}
        seen = {"before": before, "knows_before": before is not None}
        answer = self.ask(claim(self.plan, f"{self.plan}@here", **wanted, **seen))
        assert isinstance(answer, Locked)
        self.token = answer.token

    def stage(self) -> None:
        request = staging(self.build, self.token, latch=self.latch)
        answer = self.ask(request, self.build.manifest + self.build.artifact)
        assert isinstance(answer, Staged)

    def activate(self) -> None:
        show = Probe(release=self.build.release, manifest=self.build.label, only_target=True)
        words = {"deadman": self.deadman, "show": show, "latch": self.latch}
        assert isinstance(self.ask(switch(self.build, self.token, **words)), Activated)

    def confirm(self) -> None:
        main = self.host.service.main
        if main is None:
            raise No("confirm: nothing runs")
        self.ask(
            Confirm(
                token=self.token,
                release=self.build.release,
                pid=main.pid,
                start=main.start,
                boot=self.host.computer.boot_id,
            )
        )

    def unlock(self) -> None:
        self.ask(Unlock(token=self.token, keep=3, release=self.build.release))

    def all(self) -> None:
        for name in STEPS:
            self.step(name)


def prepared(supervisor: str = "systemd") -> MemoryHost:
    return MemoryHost.prepared(OLD, described=described(supervisor=supervisor))


def state_of(host: MemoryHost) -> Folder:
    return MemoryAgent(host.service).files.open_root(f"{host.service.root}/state")


def linked(host: MemoryHost) -> str | None:
    """What ``current`` names; its whole text where that is no release of ours."""
    node = host.computer.find(host.service.current, follow=False)
    if node is None:
        return None
    text = node.content.decode() if node.kind == "link" else node.kind
    return text.removeprefix("releases/")


def running(host: MemoryHost) -> str | None:
    """The release that the service's main process loaded."""
    main = host.service.main
    return sha256(main.loaded) if main is not None and host.computer.alive(main) else None


def snapshot(host: MemoryHost) -> tuple[object, ...]:
    """What only the holder of the lock may change."""
    names = ("lock", "token", "rollout", "finished", "verified", "held", "deadman")
    found = host.computer.find(f"{host.service.root}/releases")
    releases = sorted(n for n in found.entries if not n.startswith(".")) if found else []
    return (linked(host), running(host), releases, *(host.mark(name) for name in names))


def points_of(step: str, supervisor: str = "systemd", *, every: bool = False) -> list[int]:
    """The points of a step at which a strike finds something else than at the one before."""
    host = prepared(supervisor)
    deployer = Deployer(host, "first")
    for name in STEPS[: STEPS.index(step)]:
        deployer.step(name)
    found: list[int] = []
    states: list[object] = []

    def hook(_run: Run, _what: str) -> None:
        timer, service = host.service.timer, host.service
        tasks = {task for task in host.computer.tasks.values() if not task.of_agent}
        now = host.computer.disk.steps, timer, service.main, tasks, getattr(service, "active", "")
        if every or not states or states[-1] != now:
            found.append(len(states) + 1)
        states.append(now)

    deployer.hook = hook
    deployer.step(step)
    return found
