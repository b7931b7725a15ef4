"""People at their commands over simulated hosts: what is typed, what is printed, what is true."""

from __future__ import annotations

import io
import os
import re
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import pytest

from deploytool.agent.requests import Answer, Request
from deploytool.cli import starting
from deploytool.cli.output import Ended as Finished
from deploytool.cli.output import show_error
from deploytool.cli.status import status
from deploytool.cli.stopnow import run as stop
from deploytool.errors import DeploytoolError, HostFault
from deploytool.fleet.host import Payload
from deploytool.fleet.inventory import load_inventory
from deploytool.fleet.protocol import Call, Reply
from deploytool.release.model import Release
from deploytool.rollout.model import Purpose
from deploytool.rollout.outcome import conclude
from deploytool.rollout.runner import Runner
from deploytool.simulation import fleet
from deploytool.simulation.faults import BEFORE
from deploytool.simulation.host import SimulatedHost
from deploytool.simulation.memory.service import MemorySystemd, Quirk
from deploytool.simulation.memory.signing import sign
from deploytool.simulation.rungs import rung
from deploytool.start.request import NAMESPACE

from .cases import OLD, Forgetful, Silent
from .crashes import Killed

ASKS, SIGNS = "anna", "bea"
KILLED = 137
KEPT = ("fenced", "expired", "held", "rollout", "lock", "deadman")
"""Marks of a host whose unit ``host prepare`` leaves as it is."""
_KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIB" + "A" * 42
_SIGNERS = f"{ASKS} ssh-ed25519 {_KEY}\n{SIGNS} ssh-ed25519 {_KEY[:-1]}E\n"
_NAMED = r"(router\d+(?:, router\d+)*)"
_SAYS_NO = ("it is HALTED", "nothing runs there", "HALTED after", "DEAD after")


def trades(host: SimulatedHost) -> bool:
    """Whether orders can leave a machine: something serves there, and no halt is on its disk."""
    return bool(host.service.of_this_root()) and not host.service.own_latch()


_HUNG = "/run/hung"


def _recover(host: SimulatedHost) -> None:
    """Whatever is started in place of a process that hung answers."""
    hung = host.computer.read(_HUNG)
    if hung is not None and int(hung) not in host.computer.tasks:
        host.service.quirks.discard(Quirk.SILENT)


@dataclass(frozen=True)
class Kill:
    """SIGKILL to a command at its ``nth`` call, counted over all hosts."""

    nth: int
    part: str

    def __str__(self) -> str:
        return f"killed {self.part} call {self.nth}"


class Deployer:
    """One process of deploytool. Once it is dead it does nothing more, whatever was to follow."""

    def __init__(self, hosts: Mapping[str, SimulatedHost], kill: Kill | None) -> None:
        self._hosts = hosts
        self._kill = kill
        self._dead = False
        self.calls: list[str] = []

    def ask(
        self, host: str, asks: Call | Request, payload: Payload | None = None
    ) -> Reply | Answer:
        if self._dead:
            raise Killed
        self.calls.append(asks.verb)
        here = self._kill is not None and self._kill.nth == len(self.calls)
        if here and self._kill is not None and self._kill.part == BEFORE:
            self._die()
        try:
            if isinstance(asks, Call):
                return rung(self._hosts[host], asks)
            return self._hosts[host].call(asks, deadline_s=5.0, payload=payload)
        finally:
            _recover(self._hosts[host])
            if here:
                self._die()

    def _die(self) -> None:
        self._dead = True
        raise Killed


class Connection:
    """A host as the commands but ``stop`` reach it."""

    def __init__(self, name: str, deployer: Deployer) -> None:
        self.name = name
        self._deployer = deployer

    def close(self) -> None:
        """Nothing is open."""

    def call(
        self,
        request: Request,
        *,
        deadline_s: float,
        payload: Payload | None = None,
        insist: bool = False,
    ) -> Answer:
        del deadline_s, insist
        answer = self._deployer.ask(self.name, request, payload)
        assert isinstance(answer, Answer)
        return answer


class Channel:
    """A host as ``stop`` reaches it: an answer is there as soon as it was asked for."""

    deployer: ClassVar[Deployer]
    said = ""
    unsent = no_room = False

    def __init__(self, argv: Sequence[str], host: str) -> None:
        del host
        (number,) = (
            word.rpartition(".")[2] for word in argv if re.fullmatch(r"192\.0\.2\.\d+", word)
        )
        self._host = f"router{number}"
        self._asks: Call | Request | None = None
        self.asked_at, self.of_agent = 0.0, False
        self.stdout, self._ready = os.pipe()
        self.stderr, self._quiet = os.pipe()
        self.over = self.begun = self.reached = False

    def ask(self, asks: Call | Request) -> None:
        self._asks, self.begun = asks, False
        self.asked_at = time.time()
        self.of_agent = self.of_agent or isinstance(asks, Request)
        os.write(self._ready, b".")

    def hear(self) -> Reply | Answer | None:
        asks, self._asks = self._asks, None
        if asks is None:
            return None
        os.read(self.stdout, 1)
        try:
            reply = self.deployer.ask(self._host, asks)
        except HostFault:
            self.over = True
            raise
        self.begun = self.reached = True
        return reply

    def close(self) -> None:
        if self._ready >= 0:
            for descriptor in (self.stdout, self._ready, self.stderr, self._quiet):
                os.close(descriptor)
        self.over, self._ready = True, -1


@dataclass
class Ended:
    """How a command ended, and everything that it printed."""

    words: tuple[str, ...]
    code: int
    text: str
    calls: tuple[str, ...]
    before: Mapping[str, bool]
    """Which host traded when it was typed, and looked."""

    @property
    def advised(self) -> list[str] | None:
        """The first command that is to be typed now; None where none is advised."""
        _, found, now = self.text.partition("What to do now:")
        if not found:
            return ["rollback"] if "'deploytool rollback' takes it away" in self.text else None
        commands = re.findall(r"deploytool (\w+ [^;,(\n]*)", now)
        return shlex.split(commands[0]) if commands else []

    def __str__(self) -> str:
        return f"deploytool {shlex.join(self.words)} -> {self.code}:\n{self.text}"


@dataclass
class Operators:
    """A fleet of three, and people who type commands about it, one after the other."""

    folder: Path
    supervisor: str
    monkeypatch: pytest.MonkeyPatch
    hosts: dict[str, SimulatedHost] = field(default_factory=dict)
    typed: list[Ended] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.inventory = self.folder / f"{self.supervisor}.yaml"
        self.inventory.write_text(fleet.inventory_text(3, self.supervisor, resumes=True))
        pins = (f"192.0.2.{number} ssh-ed25519 {_KEY}\n" for number in (1, 2, 3))
        (self.folder / "known_hosts").write_text("".join(pins))
        (self.folder / "signers").write_text(_SIGNERS)
        self._artifact = self.folder / "router"
        self._artifact.write_bytes(OLD[1])
        read = load_inventory(self.inventory)
        self.rendered = fleet.Rendered.of(read)
        # The same each time, and slow to read and to render.
        patch = self.monkeypatch.setattr
        patch("deploytool.parity.judge.host_files", lambda _i, host, _a: self.rendered.files[host])
        patch("deploytool.operations.workspace.load_inventory", lambda _path: read)
        self.renew()

    def renew(self) -> None:
        """Three machines that trade, as a deployment has left them."""
        self.hosts = fleet.fleet_of(self.rendered, OLD)
        self.typed.clear()

    def hang(self, host: str) -> None:
        """Its process runs, and answers nothing any more, for as long as it lives."""
        service = self.hosts[host].service
        service.quirks.add(Quirk.SILENT)
        assert service.main is not None
        self.hosts[host].computer.put(_HUNG, str(service.main.pid).encode())

    @property
    def truth(self) -> dict[str, bool]:
        """Which host trades."""
        return {name: trades(host) for name, host in self.hosts.items()}

    # --- commands -------------------------------------------------------------------------------

    def type(self, *words: str, kill: Kill | None = None) -> Ended:
        """Runs a command to its end, or to its death."""
        deployer = Channel.deployer = Deployer(self.hosts, kill)
        connected = {name: Connection(name, deployer) for name in self.hosts}
        patch = self.monkeypatch.setattr
        patch("deploytool.fleet.remote.connect_fleet", lambda *_i, **_k: connected)
        patch(sys, "argv", ["deploytool", *words])
        said, before = io.StringIO(), self.truth
        with redirect_stdout(said), redirect_stderr(said):
            try:
                code = self._run(words, connected)
            except Killed:
                code = KILLED
            except Finished as end:
                show_error(end.error)
                code = end.error.exit_code
            except DeploytoolError as error:
                show_error(error)
                code = error.exit_code
        ended = Ended(words, code, said.getvalue(), tuple(deployer.calls), before)
        self.typed.append(ended)
        return ended

    def _run(self, words: tuple[str, ...], connected: Mapping[str, Connection]) -> int:
        verb, *rest = words
        if verb == "stop":
            return stop(rest)
        if verb == "status":
            status(self.inventory)
        elif verb == "start" and "--request" in rest:
            starting.do(self.inventory, (Path(rest[rest.index("--request") + 1]),), ())
        elif verb == "start":
            chosen = tuple(b for a, b in pairwise(rest) if a == "--host")
            out = self.folder / f"asked-{len(list(self.folder.iterdir()))}"
            starting.ask_for(
                self.inventory, chosen, "the cause is gone", ASKS, out, every="--all" in rest
            )
            for request in out.glob("*.request"):
                Path(f"{request}.sig").write_text(sign(SIGNS, request.read_bytes(), NAMESPACE))
        else:
            return self._roll(Purpose(verb), connected)
        return 0

    def _roll(self, purpose: Purpose, connected: Mapping[str, Connection]) -> int:
        report = Runner(
            self.rendered.inventory,
            Release(OLD[0], str(self._artifact)),
            connected,
            "carl@elsewhere",
            Silent(),
            Forgetful(),
            plan_id=f"plan{len(self.typed)}",
            purpose=purpose,
        ).run()
        error = conclude(report, str(self.inventory))
        if error is not None:
            raise error
        return 0

    def asks(self, *hosts: str, kill: Kill | None = None) -> Ended:
        """The first of two people writes the requests, and the second one signs them."""
        chosen = [word for host in hosts for word in ("--host", host)] or ["--all"]
        return self.type("start", "-i", str(self.inventory), *chosen, kill=kill)

    def starts(self, kill: Kill | None = None) -> Ended:
        """Starts what was signed last."""
        folders = sorted(self.folder.glob("asked-*"), key=lambda place: int(place.name[6:]))
        words = ("start", "-i", str(self.inventory), "--request", str(folders[-1]))
        return self.type(*words, kill=kill)

    def stops(self, *hosts: str, kill: Kill | None = None) -> Ended:
        """Presses the key."""
        chosen = [word for host in hosts for word in ("--host", host)] or ["--all"]
        return self.type("stop", "-i", str(self.inventory), *chosen, kill=kill)

    def looks(self) -> Ended:
        """``status``."""
        return self.type("status", "-i", str(self.inventory))

    # --- what is printed, and what is true --------------------------------------------------------

    def lies(self, ended: Ended) -> Iterator[str]:
        """What a command said of a host's trading that was not so.

        What hosts show at first is true of the beginning, everything else of the end.
        """
        now = self.truth
        for host, trading, line in claims(ended.text):
            truth = ended.before if " since " in line else now
            if truth[host] is not trading:
                so = "trades" if truth[host] else "does not trade"
                yield f"{host} {so}, and {ended.words[0]} said: {line}"

    def follow(self) -> Iterator[str]:
        """Does what is printed until nothing is left to do; gives what is wrong on the way.

        Whoever finds hosts that are held, and nothing else, has them started.
        """
        for _ in range(8):
            seen = self.looks()
            yield from self.lies(seen)
            command = seen.advised
            if command is None and " stopped " in seen.text:
                command = ["start", "--all"]
            if command is None:
                yield from self._not_well(seen)
                return
            yield from self._obey(command)
        yield f"following what is printed leads nowhere: {[str(one) for one in self.typed[-6:]]}"

    def _obey(self, command: list[str]) -> Iterator[str]:
        if not command:
            yield f"no command is advised: {self.typed[-1]}"
            return
        hosts = tuple(b for a, b in pairwise(command) if a == "--host")
        if command[0] == "stop":
            yield from self.lies(self.stops(*hosts))
        elif command[0] == "start":
            asked = self.asks(*hosts)
            yield from self.lies(asked)
            if asked.code == 0:
                yield from self.lies(self.starts())
            elif asked.advised and asked.advised[0] in {"stop", "rollback", "deploy"}:
                yield from self._obey(asked.advised)
        elif command[0] in {"rollback", "resume", "deploy"}:
            self.type(command[0])
        elif command[:2] == ["host", "prepare"]:
            self._prepare()
        elif command[0] != "status":
            yield f"nobody here can do what is advised: {command}: {self.typed[-1]}"

    def _prepare(self) -> None:
        """As ``prepare.sh`` does: a mask that came back with a loss of power goes again."""
        for host in self.hosts.values():
            service = host.service
            kept = any(host.mark(name) is not None for name in KEPT)
            if isinstance(service, MemorySystemd) and not kept:
                service.unmask()
                host.computer.sync()

    def _not_well(self, seen: Ended) -> Iterator[str]:
        if seen.code != 0 or "locked" in seen.text:
            yield f"nothing more is advised, and it is not well: {seen}"
        for host, trading in self.truth.items():
            if not trading:
                yield f"nothing more is advised, and {host} does not trade: {seen}"


def claims(text: str) -> Iterator[tuple[str, bool, str]]:
    """Host by host, whether a text says that it trades; nothing of whom it leaves open."""
    for line in text.splitlines():
        if (told := re.match(rf"\s*{_NAMED}: (.*)", line)) is not None:
            names, rest = told.groups()
            if "it trades" in rest and "whether it trades" not in rest:
                yield from ((host, True, line) for host in names.split(", "))
            elif any(words in rest for words in _SAYS_NO):
                yield from ((host, False, line) for host in names.split(", "))
        for names in re.findall(rf"do NOT trade: {_NAMED}", line):
            yield from ((host, False, line) for host in names.split(", "))
        for names in re.findall(rf"trade, and their start is not finished: {_NAMED}", line):
            yield from ((host, True, line) for host in names.split(", "))
