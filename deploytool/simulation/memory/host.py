"""A prepared host in memory, which the real verbs serve."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from deploytool.agent.requests import Answer, Expire, Request
from deploytool.agent.serve import serve
from deploytool.agent.settings import Command, Settings
from deploytool.simulation.memory.agent import MemoryAgent
from deploytool.simulation.memory.computer import Computer
from deploytool.simulation.memory.disk import Fate, sha256
from deploytool.simulation.memory.programs import Build
from deploytool.simulation.memory.run import Hook, Run, Wait
from deploytool.simulation.memory.service import MemoryService, MemorySystemd, Plain
from deploytool.simulation.memory.time import Time

AGENT = b"# the agent of the simulation\n"


def settings(
    *, supervisor: str = "systemd", name: str = "router", host: str = "router1"
) -> Settings:
    """What an inventory would say of a service with all that the contract knows but flags."""
    root = f"/opt/{name}"
    artifact = f"{{current}}/{name}"
    return Settings(
        tool="0",
        agent=f"/usr/local/lib/deploytool/{name}",
        fleet="simulated",
        host=host,
        name=name,
        root=root,
        account="router" if supervisor == "systemd" else None,
        supervisor=supervisor,
        start=Command(argv=(artifact, "serve")),
        version=Command(argv=(artifact, "--version")),
        status=Command(argv=(artifact, "status", "--json")),
        halt=Command(argv=(artifact, "halt", "--reason", "{reason}", "--by", "{by}")),
        lease=Command(argv=(artifact, "lease", "{nonce}")),
        resume=Command(argv=(artifact, "resume")),
        signers=f"/etc/deploytool/{name}.signers",
        ports=(7001,),
        configs=(f"/etc/{name}.json",),
    )


class SentBytes:
    """What follows a request. ``stalls_at``: so many bytes come in time, and no more."""

    def __init__(self, content: bytes, stalls_at: int | None = None) -> None:
        self._content, self._at, self._stalls_at = content, 0, stalls_at

    def __call__(self, at_most: int, _deadline: float) -> bytes:
        """The next bytes."""
        if self._stalls_at is not None:
            at_most = min(at_most, self._stalls_at - self._at)
            if at_most <= 0:
                raise TimeoutError("nothing comes")
        found = self._content[self._at : self._at + at_most]
        self._at += len(found)
        return found


@dataclass(eq=False)
class MemoryHost:
    """One host: its computer, its service, and requests to the agent on it."""

    computer: Computer
    service: MemoryService

    @staticmethod
    def prepared(
        build: Build | None = None,
        *,
        described: Settings | None = None,
        agent: bytes = AGENT,
        time: Time | None = None,
        number: int = 1,
    ) -> MemoryHost:
        """A host as ``host prepare`` leaves it; with a build it serves that."""
        computer = Computer(time, number=number)
        described = described or settings(host=f"router{number}")
        kind = MemorySystemd if described.supervisor == "systemd" else Plain
        host = MemoryHost(computer, kind(computer, described))
        root = described.root
        for path in (root, f"{root}/releases", f"{root}/state", f"{root}/state/service"):
            computer.make_folders(path)
        for name in ("mutex", "probe.lock"):
            computer.put(f"{root}/state/{name}", b"", 0o600)
        computer.put(described.agent, agent, 0o755)
        for path in described.configs:
            computer.put(path, b"{}\n")
        if described.signers is not None:
            computer.put(described.signers, b"ann@example.com ssh-ed25519 A\n")
        if isinstance(host.service, MemorySystemd):
            host.service.install()
        if build is not None:
            host.place(build)
            computer.link(f"{root}/current", f"releases/{build.release}")
            host.service.start()
        computer.sync()
        return host

    def place(self, build: Build) -> None:
        """Puts a release there, as an earlier deployment did."""
        folder = f"{self.service.root}/releases/{build.release}"
        self.computer.put(f"{folder}/{self.service.settings.name}", build.artifact, 0o555)
        self.computer.put(f"{folder}/release.json", build.manifest, 0o444)

    def ask(
        self,
        request: Request,
        payload: bytes | SentBytes = b"",
        *,
        hook: Hook | None = None,
        wait: Wait | None = None,
    ) -> Answer:
        """What a new run of the agent answers to one request.

        Raises:
            Ended: it was cut short.
        """
        with_payload = payload if isinstance(payload, SentBytes) else SentBytes(payload)
        line = json.dumps(request.to_json(), separators=(",", ":")).encode()
        agent = MemoryAgent(self.service, hook=hook, wait=wait)
        try:
            digest = sha256(self.computer.read(self.service.settings.agent) or b"")
            return serve(agent, digest, type(request), line, with_payload)
        finally:
            agent.run.end()

    def pass_time(self, seconds: float) -> None:
        """Lets time pass; the host's own timer asks it what it was set for."""
        until = self.computer.time.now + seconds
        self.ask_due()
        while (due := self.computer.time.next()) is not None and due <= until:
            self.computer.time.pass_to(due)
            self.ask_due()
        self.computer.time.pass_to(max(until, self.computer.time.now))

    def ask_due(self) -> None:
        """Asks what timers that rang are to ask."""
        while self.service.due:
            self.ask(Expire(token=self.service.due.pop(0)))

    def reboot(self, fate: Fate | None = None) -> None:
        """Power is lost and comes back."""
        if self.computer.on:
            self.computer.lose_power(fate)
        self.computer.boot()
        self.service.boot()

    def mark(self, name: str) -> str | None:
        """A file in STATE, as text."""
        content = self.computer.read(f"{self.service.root}/state/{name}")
        return None if content is None else content.decode()


class Points:
    """Counts points and remembers what they were; at one of them it strikes.

    ``strike`` ends the run: by ``killed``, or by ``loses_power``.
    """

    def __init__(self, at: int = 0, strike: Callable[[Run], None] | None = None) -> None:
        self._at, self._strike = at, strike
        self.seen: list[str] = []

    def __call__(self, run: Run, what: str) -> None:
        """Is told of a point."""
        self.seen.append(what)
        if self._strike is not None and len(self.seen) == self._at:
            self._strike(run)


def killed(run: Run) -> None:
    """SIGKILL."""
    run.end()


def loses_power(fate: Fate) -> Callable[[Run], None]:
    """The computer of that run loses its power."""
    return lambda run: run.computer.lose_power(fate)
