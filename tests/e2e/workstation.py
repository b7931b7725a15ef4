"""What a user has: a desk with the console command, an inventory, and hosts to look at.

What is true on the hosts is asked with testinfra: over OpenSSH as the deploy account, with strict
host key checking, or through the container engine as root. Never with deploytool's own probe.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, TypeVar

import testinfra
import yaml

from deploytool.fleet.members import Member, Members
from deploytool.rehearsal.fleets.container import ContainerFleet
from deploytool.rehearsal.fleets.model import FleetRecord
from tests.schemas import valid

ROOT = "/opt/router"
T = TypeVar("T")
HELPER = "/usr/local/libexec/deploytool/router/helper"
UNIT = "/usr/local/lib/systemd/system/router.service"
OLD, NEW, BROKEN = "2026.0", "2026.1", "2026.1-broken"
NAMES = tuple(f"router{number}" for number in range(1, 9))
TOOL = str(Path(sys.executable).parent / "deploytool")

# One look at a host, as root. Only what a deployment may change is in it.
_LOOK = f"""
cd {ROOT}
echo "current $(readlink current)"
echo "disk $(sha256sum <current/router 2>/dev/null | cut -d' ' -f1)"
pid=$(systemctl show -p MainPID --value router)
echo "pid $pid"
echo "start $(cut -d')' -f2 /proc/$pid/stat 2>/dev/null | cut -d' ' -f21)"
echo "runs $(for fd in /proc/$pid/fd/*; do case $(readlink $fd) in
    {ROOT}/releases/*) sha256sum <$fd | cut -d' ' -f1;; esac; done 2>/dev/null | sort -u | xargs)"
echo "active $(systemctl is-active router)"
echo "enabled $(systemctl is-enabled router 2>/dev/null)"
echo "config $(sha256sum <etc/router.json | cut -d' ' -f1)"
echo "locked $([ -e state/lock ] && echo yes || echo no)"
"""


@dataclass(frozen=True)
class Ended:
    """How the command ended, and all that it said."""

    argv: tuple[str, ...]
    code: int
    out: str
    err: str
    took_s: float

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document on stdout; anything else there is a failure."""
        value = json.loads(self.out)
        assert isinstance(value, dict)
        return valid(self.argv, value)

    @property
    def now(self) -> str:
        """The advice: the last of the three lines."""
        found = re.findall(r"^What to do now: (.*)$", self.err, re.MULTILINE)
        assert len(found) == 1, self.err
        return str(found[0])

    def __str__(self) -> str:
        return (
            f"{' '.join(self.argv)} -> {self.code} in {self.took_s:.1f} s\n{self.out}\n{self.err}"
        )


Look = dict[str, str]
"""What one host shows to the independent witness."""


@dataclass
class Workstation:
    """One user's folder, and the fleet that it is about."""

    folder: Path
    containers: ContainerFleet
    record: FleetRecord
    inventory: Path = field(init=False)
    fleets: dict[Path, tuple[str, ...]] = field(default_factory=dict)
    """The hosts of each inventory of the one fleet; tests take some of its hosts for all of it."""
    members: tuple[str, ...] = ()
    """Whom the hosts of the inventory that was used last believe to be the fleet."""

    def __post_init__(self) -> None:
        self.inventory = self.write_inventory("eight.yaml", [h.name for h in self.record.hosts])
        self.members = self.fleets[self.inventory]

    # --- the command ----------------------------------------------------------------------

    def tool(self, *words: object, timeout_s: float = 120) -> Ended:
        """Runs the console command to its end, as a user does."""
        argv = tuple(map(str, words))
        self.enlist(self._meant(words))
        began = time.monotonic()
        done = subprocess.run(
            [TOOL, *argv],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
        )
        return Ended(argv, done.returncode, done.stdout, done.stderr, time.monotonic() - began)

    def begin(self, *words: object) -> subprocess.Popen[str]:
        """Starts the console command; the caller ends it."""
        self.enlist(self._meant(words))
        return subprocess.Popen(
            [TOOL, *map(str, words)],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            stdin=subprocess.DEVNULL,
        )

    def interrupted(self, at: str, *words: object) -> Ended:
        """Runs the command and breaks it off (Ctrl-C) as soon as it says ``at``."""
        began, said = time.monotonic(), []
        with self.begin(*words) as process:
            guard = threading.Timer(60, process.kill)
            guard.start()
            for line in process.stdout or ():
                said.append(line)
                if at in line:
                    process.send_signal(signal.SIGINT)
                    at = "\0"
            process.wait()
            guard.cancel()
        text = "".join(said)
        assert at == "\0", f"it never came that far:\n{text}"
        argv = tuple(map(str, words))
        return Ended(argv, process.returncode, "", text, time.monotonic() - began)

    def paste(self, ended: Ended) -> Ended:
        """Does literally what the advice says: the command in it, without a placeholder."""
        _, found, command = ended.now.rpartition("deploytool ")
        assert found, f"the advice names no command: {ended.now}"
        assert not re.search(r"\b[A-Z]{4,}\b", command), f"a placeholder in: {ended.now}"
        words = shlex.split(command)
        if words[:2] == ["host", "prepare"]:
            # Where the administrator's key lies is the user's to know.
            words += ["--admin-key", str(self.containers.folder / "admin_ed25519")]
        return self.tool(*words)

    # --- inventories ----------------------------------------------------------------------

    def write_inventory(self, name: str, hosts: list[str], **changes: Any) -> Path:
        """An inventory of some of the hosts, with deadlines that suit a test.

        ``changes`` replace top-level keys; ``ssh`` and ``service`` are merged.
        """
        said = yaml.safe_load(self.containers.inventory.read_text())
        fleet = self.containers.folder
        said["signers"] = str(fleet / said["signers"])
        said["ssh"] |= {
            "known_hosts": str(fleet / "known_hosts"),
            "identity_file": str(fleet / "id_ed25519"),
            "connect_timeout_s": 10,
            "command_timeout_s": 30,
            "transfer_timeout_s": 60,
            **changes.pop("ssh", {}),
        }
        said["signers"] = str(fleet / "signers")
        said["service"] |= {
            "ready_timeout_s": 8,
            "stop_timeout_s": 3,
            "soak_s": 0.5,
            **changes.pop("service", {}),
        }
        said |= {"expect": len(hosts), "hosts": {h: said["hosts"][h] for h in hosts}, **changes}
        path = self.folder / name
        path.write_text(yaml.safe_dump(said, sort_keys=False))
        if "fleet" not in changes:
            self.fleets[path] = tuple(hosts)
        return path

    def _meant(self, words: tuple[object, ...]) -> tuple[str, ...]:
        """The hosts of the inventory that a command names."""
        named = [word for word in words if isinstance(word, Path) and word in self.fleets]
        return self.fleets[named[0]] if named else ()

    def enlist(self, names: tuple[str, ...]) -> None:
        """Has these hosts believe that they are the fleet, as if no others had been prepared."""
        if not names or set(names) == set(self.members):
            return
        fleet = yaml.safe_load(self.inventory.read_text())["fleet"]
        machines = {name: self.root(name, "cat /etc/machine-id").strip() for name in names}
        listed = Members(
            fleet=fleet,
            epoch=1,
            hosts=tuple(Member(name=n, machine=machines[n], root=ROOT) for n in sorted(names)),
        )
        folder = "/etc/deploytool/router"
        for name in names:
            self.root(
                name,
                f"mkdir -p {folder}; cat >{folder}/members <<'END'\n{listed.text}END\n"
                f"chmod 0644 {folder}/members",
            )
        self.members = names

    def prepare(self, *words: object) -> Ended:
        """Has the hosts made ready by the admin account, as a user does once."""
        folder = self.containers.folder
        return self.tool(
            *("host", "prepare", "--admin", "root", "--admin-key", folder / "admin_ed25519"),
            *("--authorize", folder / "id_ed25519.pub", *words),
        )

    def digest(self, version: str) -> str:
        """The SHA-256 of a release in the store, taken by ourselves."""
        for path in (self.folder / ".deploytool" / "store").glob("*/release.json"):
            said = json.loads(path.read_text())
            if said["version"] == version:
                return str(said["sha256"])
        raise KeyError(version)

    # --- hosts ----------------------------------------------------------------------------

    def container(self, host: str) -> str:
        """The engine's name for a host."""
        return f"deploytool-{self.record.id}-{host}"

    def address(self, host: str) -> str:
        """A host's address."""
        return next(h.address for h in self.record.hosts if h.name == host)

    def root(self, host: str, script: str, timeout_s: float = 20) -> str:
        """Runs a shell script as root on a host, past SSH; it must succeed."""
        told = self.containers.inside(host, ("sh", "-euc", script), timeout_s=timeout_s)
        assert told.code == 0, f"{host}: {script}\n{told.out}{told.err}"
        return told.out

    def from_outside(self, host: str, *argv: str) -> str:
        """Runs a program in a host's namespaces with all of this machine's rights."""
        form = ["podman", "inspect", "--format", "{{.State.Pid}}", self.container(host)]
        pid = subprocess.run(form, capture_output=True, text=True, check=True).stdout.strip()
        enter = ["nsenter", "-t", pid, "-m", "-n", "-p", "--", *argv]
        done = subprocess.run(enter, capture_output=True, text=True, timeout=20)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def ssh_config(self) -> Path:
        """An OpenSSH configuration of our own: pinned keys, nothing else is let in."""
        folder = self.containers.folder
        blocks = [f"Host {h.name}\n  HostName {h.address}" for h in self.record.hosts]
        strict = (
            "Host *\n  User deploy\n  StrictHostKeyChecking yes\n  BatchMode yes\n"
            f"  UserKnownHostsFile {folder / 'known_hosts'}\n  GlobalKnownHostsFile none\n"
            f"  IdentityFile {folder / 'id_ed25519'}\n  IdentitiesOnly yes\n  ConnectTimeout 5\n"
        )
        path = self.folder / "ssh_config"
        # Several threads ask for it: none may find half of it.
        with NamedTemporaryFile("w", dir=self.folder, delete=False) as file:
            file.write("\n".join([*blocks, strict]))
        Path(file.name).replace(path)
        return path

    def seen(self, host: str) -> Any:
        """The host as testinfra sees it, over OpenSSH as the deploy account."""
        config = self.ssh_config()
        return testinfra.get_host(f"ssh://{host}", ssh_config=str(config), controlpersist=0)

    def seen_as_root(self, host: str) -> Any:
        """The host as testinfra sees it through the engine, as root."""
        return testinfra.get_host(f"podman://{self.container(host)}")

    def look(self, host: str) -> Look:
        """What is true there: one look by testinfra, as root."""
        done = self.seen_as_root(host).run(_LOOK)
        assert done.rc == 0, done.stderr
        return dict(line.partition(" ")[::2] for line in done.stdout.splitlines())

    def looks(self, hosts: tuple[str, ...]) -> dict[str, Look]:
        """The same for several hosts."""
        return self.each(hosts, self.look)

    @staticmethod
    def each(hosts: tuple[str, ...], job: Callable[[str], T]) -> dict[str, T]:
        """Has ``job`` done for several hosts, a few at a time; each ends by its own deadline."""
        with ThreadPoolExecutor(max_workers=4) as pool:
            return dict(zip(hosts, pool.map(job, hosts), strict=True))


def runs(look: Look, digest: str) -> bool:
    """Whether disk, link and running process agree on this release."""
    return (
        look["current"] == f"releases/{digest}"
        and look["disk"] == look["runs"] == digest
        and look["active"] == "active"
        and look["enabled"] == "enabled"
    )


@contextmanager
def doing(job: Callable[[], object]) -> Iterator[None]:
    """Has ``job`` done beside; its error is the test's."""
    errors: list[BaseException] = []

    def work() -> None:
        try:
            job()
        except BaseException as error:  # noqa: BLE001 it is raised in the test's own thread
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield
    thread.join(60)
    assert not thread.is_alive(), "what was done beside did not end"
    if errors:
        raise errors[0]


def in_path(name: str) -> str:
    """Where a program of this machine is; the tests can't do without it."""
    for folder in [*os.environ["PATH"].split(":"), "/usr/sbin", "/sbin"]:
        if (Path(folder) / name).exists():
            return str(Path(folder) / name)
    raise FileNotFoundError(name)
