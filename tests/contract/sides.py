"""Two kinds of host that the contract suite asks the same things: one in memory, one real."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import pytest
import yaml

from deploytool.agent.model import Latch
from deploytool.agent.requests import (
    Activate,
    Activated,
    Answer,
    Confirm,
    Locked,
    Probe,
    Request,
    Staged,
    StageRelease,
    TakeLock,
    Unlock,
)
from deploytool.errors import FaultKind, HostFault
from deploytool.fleet.agent_settings import agent_path
from deploytool.fleet.host import Host, Payload
from deploytool.fleet.inventory import load_inventory
from deploytool.fleet.model import Inventory
from deploytool.fleet.protocol import Call, Reply, parse_reply, request
from deploytool.fleet.signing import sign
from deploytool.parity.evidence import read_evidence
from deploytool.parity.model import Evidence
from deploytool.parity.round import look as look_at
from deploytool.parity.round import probe_request
from deploytool.rehearsal.fleets.files import SECOND, SECOND_IDENTITY
from deploytool.rehearsal.fleets.local import LocalFleet
from deploytool.rehearsal.fleets.model import silent
from deploytool.rehearsal.fleets.ready import account, prepare
from deploytool.release.model import Manifest
from deploytool.simulation import events, fleet, program
from deploytool.simulation.host import SimulatedHost
from deploytool.simulation.memory import signing
from deploytool.simulation.memory.disk import Node
from deploytool.start.request import NAMESPACE

ARTIFACT = Path(__file__).with_name("artifact.sh")
NONCE = "ab" * 16
STOP = Latch(latch="ab12", by="me@here", reason="runaway orders", since=1)
SHA, BOOT = "a" * 64, "00000000-0000-0000-0000-000000000000"


class Side(Protocol):
    """A prepared host, and the hands of somebody who is on it. Paths are below its root."""

    host: Host

    def release(self, version: str) -> tuple[Manifest, bytes]: ...

    def read(self, path: str) -> bytes | None: ...

    def overwrite(self, path: str, content: bytes) -> None: ...

    def replace(self, path: str, content: bytes) -> None: ...

    def remove(self, path: str) -> None: ...

    def paths(self) -> list[str]: ...

    def kill_main(self) -> None: ...

    def sign(self, content: bytes) -> bytes: ...

    def pass_time(self, seconds: float) -> None: ...

    def fence(self) -> None: ...

    fleet: str
    signer: str

    @property
    def root(self) -> str: ...


class Simulated:
    """The host in memory."""

    def __init__(self) -> None:
        inventory = fleet.inventory(1, "process")
        service = inventory.service.model_copy(update={"listen": ()})
        inventory = inventory.model_copy(update={"service": service})
        self.simulated: SimulatedHost = fleet.bare("router1", fleet.Rendered.of(inventory))
        self.host: Host = self.simulated
        self.root = inventory.root("router1")
        self.fleet, self.signer = inventory.fleet, fleet.OPERATOR
        self._computer = self.simulated.computer

    def release(self, version: str) -> tuple[Manifest, bytes]:
        return program.build(version)

    def _node(self, path: str) -> Node | None:
        return self._computer.find(f"{self.root}/{path}", follow=False)

    def read(self, path: str) -> bytes | None:
        node = self._node(path)
        return node.content if node is not None and node.kind in {"file", "link"} else None

    def overwrite(self, path: str, content: bytes) -> None:
        node = self._node(path)
        assert node is not None
        self._computer.time.tick(0.001)
        self._computer.disk.overwrite(node, content)

    def replace(self, path: str, content: bytes) -> None:
        self._computer.put(f"{self.root}/{path}", content, 0o555)

    def remove(self, path: str) -> None:
        assert self._node(path) is not None
        self._computer.remove(f"{self.root}/{path}")

    def paths(self) -> list[str]:
        tree = self._computer.disk.tree()
        below = [path for path, node in tree.items() if node.kind == "file"]
        prefix = f"{self.root}/"
        return sorted(path.removeprefix(prefix) for path in below if path.startswith(prefix))

    def kill_main(self) -> None:
        self.simulated.service.crash()

    def pass_time(self, seconds: float) -> None:
        self.simulated.pass_time(seconds)

    def fence(self) -> None:
        """What stands for the last rungs of a stop, which are a shell's."""
        events.fence(self.simulated, STOP)

    def sign(self, content: bytes) -> bytes:
        return signing.sign(self.signer, content, NAMESPACE).encode()


class Real:
    """A host behind a real ``sshd``, with the shell script as its artifact."""

    def __init__(self, host: Host, inventory: Inventory) -> None:
        self.host = host
        self.root = inventory.root(host.name)
        self.agent = agent_path(inventory, host.name)
        self._root = Path(self.root)
        self.fleet, self.signer = inventory.fleet, SECOND
        self._key = Path(str(inventory.signers)).with_name(SECOND_IDENTITY)

    def pass_time(self, seconds: float) -> None:
        time.sleep(seconds)

    def rung(self, verb: str, **words: str) -> Reply:
        """One of the last rungs of a stop, told to the host's own file."""
        call = Call(verb, tuple(words.items()), changes=verb != "look")
        done = subprocess.run(
            [self.agent], input=request(call, NONCE), capture_output=True, timeout=30
        )
        return parse_reply(done.stdout, NONCE, call)

    def fence(self) -> None:
        words = {"latch": STOP.latch, "by": STOP.by, "reason": "runaway+orders", "since": "1"}
        assert self.rung("fence", **words).one("fenced") == "yes"
        self.rung("kill", **words, seconds="3")

    def sign(self, content: bytes) -> bytes:
        return sign(content, self._key, NAMESPACE).encode()

    def release(self, version: str) -> tuple[Manifest, bytes]:
        return shell_release(version)

    def read(self, path: str) -> bytes | None:
        where = self._root / path
        if path == "current":
            return str(where.readlink()).encode() if where.is_symlink() else None
        return where.read_bytes() if where.is_file() else None

    def overwrite(self, path: str, content: bytes) -> None:
        where = self._root / path
        mode = where.stat().st_mode
        where.chmod(0o644)
        where.write_bytes(content)
        where.chmod(mode)

    def replace(self, path: str, content: bytes) -> None:
        where = self._root / path
        fresh = where.with_name("fresh")
        fresh.write_bytes(content)
        fresh.chmod(0o555)
        fresh.replace(where)

    def remove(self, path: str) -> None:
        (self._root / path).unlink()

    def paths(self) -> list[str]:
        found = (p.relative_to(self._root) for p in self._root.rglob("*") if p.is_file())
        return sorted(str(path) for path in found if path.parts[0] != "current")

    def kill_main(self) -> None:
        text = (self.read("state/pid") or b"").split()
        if not text:
            return
        pid, start = int(text[0]), text[1]
        until = time.monotonic() + 10
        while time.monotonic() < until:
            with suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()
                if fields[19] == start and fields[0] != b"Z":
                    os.kill(pid, signal.SIGKILL)
                    time.sleep(0.02)
                    continue
            return
        raise TimeoutError(f"process {pid} does not end")

    def reset(self) -> None:
        """Makes it a host again that was prepared and has no release."""
        self.kill_main()
        for path in (self._root / "releases").iterdir():
            shutil.rmtree(path)
        (self._root / "current").unlink(missing_ok=True)
        for left in (self._root / "state").iterdir():
            if left.is_file():
                left.unlink()
        for left in (self._root / "state" / "service").iterdir():
            left.unlink()
        for mark in ("mutex", "probe.lock"):
            (self._root / "state" / mark).touch()


def shell_release(version: str) -> tuple[Manifest, bytes]:
    content = ARTIFACT.read_bytes().replace(b"VERSION=1.0", b"VERSION=" + version.encode())
    digest = sha256(content).hexdigest()
    line = f"router {version}"
    made = Manifest(
        name="router", version=version, sha256=digest, size=len(content), version_line=line
    )
    return made, content


def for_shell(throwaway: LocalFleet) -> Path:
    """The fleet's inventory with the shell script as its service; the hosts are prepared for it."""
    said = yaml.safe_load(throwaway.inventory.read_text())
    said["service"] |= {
        "start": ["{current}/router", "serve", "{state}"],
        "version": ["{current}/router", "--version"],
        "status": ["{current}/router", "status", "{state}"],
        "halt": ["{current}/router", "halt", "{state}"],
        "listen": [],
        "stop_timeout_s": 3,
        "soak_s": 0.2,
    }
    for key in ("halt_signal", "lease", "resume"):
        del said["service"][key]  # the script knows no signal but SIGTERM, and has no lease
    path = throwaway.inventory.with_name("shell.yaml")
    path.write_text(yaml.safe_dump(said))
    identity = Path(str(load_inventory(path).ssh.identity_file))
    prepare(path, identity, account(), identity.with_suffix(".pub"), silent)
    return path


# --- what tests ask of either side ----------------------------------------------------------------


def asked(side: Side, asks: Request, payload: bytes | None = None) -> Answer:
    """What the host answers."""
    sent = None if payload is None else Payload(len(payload), lambda: iter([payload]))
    return side.host.call(asks, deadline_s=30, payload=sent)


def refused(side: Side, asks: Request, payload: bytes | None = None) -> str:
    """The code with which the host refuses; the reason stands there for a person."""
    with pytest.raises(HostFault) as caught:
        asked(side, asks, payload)
    fault = caught.value
    assert (fault.kind, fault.in_doubt) == (FaultKind.REFUSED, False), fault
    assert fault.text
    return fault.code


def look(side: Side, **what: Any) -> Evidence:
    """What the host shows."""
    return look_at(side.host, probe_request(**what), 30)


def claim(plan: str = "plan1", holder: str = "me@here", **more: Any) -> TakeLock:
    """Asks for the lock, by ``take_over`` for one that another has."""
    made = TakeLock(holder=holder, purpose="deploy", plan=plan, release=SHA)
    return made.but(**more)


def take(side: Side, asks: TakeLock) -> int:
    """Takes the lock; gives its token."""
    locked = asked(side, asks)
    assert isinstance(locked, Locked)
    return locked.token


def lock(side: Side, plan: str = "plan1") -> int:
    return take(side, claim(plan))


def back(token: int, **more: Any) -> Unlock:
    """Gives the lock back."""
    return Unlock(token=token, keep=2).but(**more)


def switch(token: int, release: str | None, **more: Any) -> Activate:
    """Asks to switch, and to be shown what came of it."""
    return Activate(token=token, release=release, show=Probe()).but(**more)


def activate(side: Side, asks: Activate) -> Evidence:
    """Switches; gives what was seen then."""
    activated = asked(side, asks)
    assert isinstance(activated, Activated)
    now = time.time()
    return read_evidence(activated, now - 60, now)


def mark(token: int, seen: Evidence) -> Confirm:
    """Confirms the process that was seen."""
    return Confirm(
        token=token,
        release=str(seen.release),
        pid=seen.main_pid,
        start=seen.processes[seen.main_pid].start,
        boot=seen.boot,
    )


def staging(manifest: Manifest, token: int, **more: Any) -> StageRelease:
    """Announces a copy."""
    made = StageRelease(
        token=token,
        release=manifest.sha256,
        artifact_size=manifest.size,
        manifest=manifest.digest(),
        manifest_size=len(manifest.canonical()),
        seconds=20,
    )
    return made.but(**more)


def stage(side: Side, release: tuple[Manifest, bytes], token: int, **more: Any) -> Staged:
    manifest, content = release
    staged = asked(side, staging(manifest, token, **more), manifest.canonical() + content)
    assert isinstance(staged, Staged)
    return staged


def shape(side: Side, shown: object) -> list[str]:
    """What an answer has, in lines, with what differs from host to host taken out."""
    lines = (f"{where}: {json.dumps(value)}" for where, value in _leaves("", shown))
    return sorted({_shaped(side, line) for line in lines})


def _leaves(where: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, below in value.items():
            yield from _leaves(f"{where}.{key}", below)
    elif isinstance(value, list):
        for below in value:
            yield from _leaves(where, below)
    else:
        yield where, value


def _shaped(side: Side, line: str) -> str:
    text = line.replace(side.root, "<root>")
    place = text.partition(":")[0]
    if place.startswith(".made."):
        return ".made: <settings>"
    if place.endswith((".text", ".answer", ".command", ".arguments", ".environment", ".path")):
        return f"{place}: <text>"
    text = re.sub(r"\b[0-9a-f]{64}\b", "<sha256>", text)
    text = re.sub(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "<boot>", text)
    text = re.sub(r"\b[0-9a-f]{32}\b", "<machine>", text)
    return re.sub(r"(?<![\w<])\d[\d.:]*\b", "<n>", text)
