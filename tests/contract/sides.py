"""Two kinds of host that the contract suite asks the same things: one in memory, one real."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Protocol

import pytest
import yaml

from deploytool.errors import FaultKind, HostFault
from deploytool.fleet.helper import helper_path
from deploytool.fleet.host import Host, Payload
from deploytool.fleet.inventory import load_inventory
from deploytool.fleet.model import Inventory
from deploytool.fleet.protocol import Call, Reply
from deploytool.fleet.signing import sign
from deploytool.parity.model import Evidence
from deploytool.rehearsal.fleets.files import SECOND, SECOND_IDENTITY
from deploytool.rehearsal.fleets.local import LocalFleet
from deploytool.rehearsal.fleets.model import silent
from deploytool.rehearsal.fleets.ready import account, prepare
from deploytool.release.model import Manifest
from deploytool.simulation import board, fleet, program
from deploytool.simulation.host import SimulatedHost
from deploytool.start.request import NAMESPACE

ARTIFACT = Path(__file__).with_name("artifact.sh")
SHA, BOOT = "a" * 64, "00000000-0000-0000-0000-000000000000"


class Side(Protocol):
    """A prepared host, and the hands of somebody who is on it. Paths are below its root."""

    host: Host

    def release(self, version: str) -> tuple[Manifest, bytes]: ...

    def raw(self, sent: bytes) -> bytes: ...

    def read(self, path: str) -> bytes | None: ...

    def overwrite(self, path: str, content: bytes) -> None: ...

    def replace(self, path: str, content: bytes) -> None: ...

    def remove(self, path: str) -> None: ...

    def paths(self) -> list[str]: ...

    def kill_main(self) -> None: ...

    def sign(self, content: bytes) -> bytes: ...

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
        self._disk = self.simulated.helper.machine.disk

    def release(self, version: str) -> tuple[Manifest, bytes]:
        return program.build(version)

    def raw(self, sent: bytes) -> bytes:
        return self.simulated.helper.answer(sent)

    def read(self, path: str) -> bytes | None:
        if path == "current":
            target = self._disk.links.get(f"{self.root}/current")
            return target.encode() if target else None
        file = self._disk.files.get(f"{self.root}/{path}")
        return file.content if file else None

    def overwrite(self, path: str, content: bytes) -> None:
        self._disk.files[f"{self.root}/{path}"].write(content)

    def replace(self, path: str, content: bytes) -> None:
        self._disk.put(f"{self.root}/{path}", content, 0o555)

    def remove(self, path: str) -> None:
        if self._disk.links.pop(f"{self.root}/{path}", None) is None:
            self._disk.remove(f"{self.root}/{path}")

    def paths(self) -> list[str]:
        return sorted(path.removeprefix(f"{self.root}/") for path in self._disk.below(self.root))

    def kill_main(self) -> None:
        self.simulated.helper.service.crash()

    def sign(self, content: bytes) -> bytes:
        return board.sign(self.signer)(content).encode()


class Real:
    """A host behind a real ``sshd``, with the shell script as its artifact."""

    def __init__(self, host: Host, inventory: Inventory) -> None:
        self.host = host
        self.root = inventory.root(host.name)
        self.helper = helper_path(inventory, host.name)
        self._root = Path(self.root)
        self.fleet, self.signer = inventory.fleet, SECOND
        self._key = Path(str(inventory.signers)).with_name(SECOND_IDENTITY)

    def sign(self, content: bytes) -> bytes:
        return sign(content, self._key, NAMESPACE).encode()

    def release(self, version: str) -> tuple[Manifest, bytes]:
        return shell_release(version)

    def raw(self, sent: bytes) -> bytes:
        done = subprocess.run([self.helper], input=sent, capture_output=True, timeout=30)
        return done.stdout

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


def ask(side: Side, verb: str, **arguments: str | int) -> Reply:
    return asked(side, verb, arguments)


Arguments = Mapping[str, str | int]


def asked(side: Side, verb: str, arguments: Arguments, payload: bytes | None = None) -> Reply:
    """``ask`` with the arguments as a value."""
    pairs = tuple((key, str(value)) for key, value in arguments.items())
    sent = None if payload is None else Payload(len(payload), lambda: iter([payload]))
    return side.host.call(Call(verb, pairs), deadline_s=30, payload=sent)


def refused(side: Side, verb: str, arguments: Arguments, payload: bytes | None = None) -> str:
    """The code with which the host refuses; the reason stands there for a person."""
    with pytest.raises(HostFault) as caught:
        asked(side, verb, arguments, payload)
    fault = caught.value
    assert (fault.kind, fault.in_doubt) == (FaultKind.REFUSED, False), fault
    assert fault.text
    return fault.code


def refusal(side: Side, verb: str, **arguments: str | int) -> str:
    """``refused`` with the arguments as words."""
    return refused(side, verb, arguments)


def claim(plan: str = "plan1", holder: str = "me@here") -> Arguments:
    """What ``lock`` and ``takeover`` ask for."""
    return {"holder": holder, "purpose": "deploy", "plan": plan, "release": SHA}


def lock(side: Side, plan: str = "plan1") -> int:
    return int(asked(side, "lock", claim(plan)).one("token") or "")


def back(token: int) -> Arguments:
    """What ``unlock`` asks for."""
    return {"token": token, "keep": 2}


def switch(token: int, release: str) -> Arguments:
    """What ``activate`` asks for."""
    return {"token": token, "release": release, "seconds": 0}


def mark(token: int, seen: Evidence) -> Arguments:
    """What ``confirm`` asks for, for the process that was seen."""
    return {
        "token": token,
        "release": seen.release or "none",
        "pid": seen.main_pid,
        "start": seen.processes[seen.main_pid].start,
        "boot": seen.boot,
    }


def staging(manifest: Manifest, token: int) -> Arguments:
    """What ``stage`` asks for."""
    head = manifest.canonical()
    return {
        "token": token,
        "release": manifest.sha256,
        "size": manifest.size,
        "manifest": manifest.digest(),
        "manifest_size": len(head),
        "seconds": 20,
    }


def stage(side: Side, release: tuple[Manifest, bytes], token: int) -> Reply:
    manifest, content = release
    return asked(side, "stage", staging(manifest, token), manifest.canonical() + content)


def shape(side: Side, lines: tuple[tuple[str, str], ...]) -> list[str]:
    """An answer with what differs from host to host taken out; a line that repeats counts once."""
    shaped: list[str] = []
    for key, rest in lines:
        text = f"{key} {rest}".replace(side.root, "<root>").rstrip()
        if key in {"manifest", "status", "label"}:
            text = re.sub(r"\S{65,}$", "<base64>", text)
        if key == "process":
            text = " ".join([*text.split()[:4], "<state> <command>"])
        text = re.sub(r"(interpreter \S+) .*", r"\1 <path>", text)
        text = re.sub(r"disk (\S+) (direct|cached)", r"disk \1 <way>", text)
        text = re.sub(r"\b[0-9a-f]{64}\b", "<sha256>", text)
        text = re.sub(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "<boot>", text)
        text = re.sub(r"\b[0-9a-f]{32}\b", "<machine>", text)
        text = re.sub(r"(?<![\w<])\d+(\.\d+)?\b", "<n>", text)
        if text not in shaped:
            shaped.append(text)
    return shaped
