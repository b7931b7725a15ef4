"""Real ``sshd``s on loopback, each with a configuration of its own, and three ways to one of them.

Nothing here needs root, a container or a deployed service: what is tried is who gets in.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deploytool.errors import DeploytoolError, HostFault
from deploytool.fleet.inventory import load_inventory
from deploytool.fleet.paths import PlainNames
from deploytool.fleet.session import Session
from deploytool.fleet.sshconfig import route
from deploytool.parity.testinfra_specs import ssh_config
from deploytool.rehearsal.fleets.local import _use_pam, free_ports
from deploytool.rehearsal.fleets.ready import account, make_key, wait_for_ssh
from deploytool.stop.targets import read_targets
from tests.unable import unable

TIMEOUT_S = 60
"""What is tried is who gets in, and not how fast: the machine may be busy."""
HOST = "h"
IN = "deploytool got in"
LEFT = "ran-on-this-machine"
"""A file that a command of the person's own would leave in the bench's folder."""


@dataclass(frozen=True)
class Server:
    """One ``sshd``. ``folder`` holds its host keys and ``authorized_keys``."""

    folder: Path
    address: str
    port: int

    @property
    def where(self) -> str:
        """The name under which known_hosts has its key."""
        return f"[{self.address}]:{self.port}"

    def key(self, kind: str = "ed25519") -> str:
        """One of its public host keys."""
        words = (self.folder / f"host_{kind}.pub").read_text().split()
        return " ".join(words[:2])

    def log(self) -> str:
        return (self.folder / "sshd.log").read_text(errors="replace")


class Servers:
    """Starts each ``sshd`` when it is first asked for, and ends them all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[object, Server] = {}
        self._sshd = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if self._sshd is None:
            unable("needs OpenSSH's server")
        self.ca = folder / "ca"
        make_key(self.ca)
        self.user_key = folder / "user"
        make_key(self.user_key)

    def get(
        self,
        name: str = "plain",
        *settings: str,
        kinds: tuple[str, ...] = ("ed25519",),
        address: str = "127.0.0.1",
        port: int | None = None,
        lets_in: bool = True,
    ) -> Server:
        """The one of this name; the rest says how it is made. ``{folder}`` stands for its own."""
        if name in self._running:
            return self._running[name]
        here = self._folder / name
        here.mkdir(mode=0o700)
        for kind in kinds:
            words = ["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(here / f"host_{kind}")]
            subprocess.run(words, check=True, timeout=TIMEOUT_S)
        public = self.user_key.with_suffix(".pub").read_text()
        (here / "authorized_keys").write_text(public if lets_in else "")
        server = Server(here, address, port or free_ports(1)[0])
        lines = [
            f"Port {server.port}", f"ListenAddress {address}", f"PidFile {here}/pid",
            f"AuthorizedKeysFile {here}/authorized_keys", "StrictModes no", f"UsePAM {_use_pam()}",
            "PasswordAuthentication no", "KbdInteractiveAuthentication no",
            "PermitRootLogin prohibit-password", f"AllowUsers {account()}", "PrintMotd no",
            "UseDNS no", "LogLevel VERBOSE", f"SetEnv HOME={here}",
            *(f"HostKey {here}/host_{kind}" for kind in kinds),
            *(line.replace("{folder}", str(here)) for line in settings),
        ]  # fmt: skip
        (here / "sshd_config").write_text("\n".join([*lines, ""]))
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        assert self._sshd is not None
        command = [self._sshd, "-f", str(here / "sshd_config"), "-E", str(here / "sshd.log")]
        subprocess.run(command, check=True, timeout=TIMEOUT_S)
        wait_for_ssh(name, address, server.port, TIMEOUT_S)
        self._running[name] = server
        return server

    def close(self) -> None:
        for server in self._running.values():
            with suppress(OSError, ValueError):
                os.kill(int((server.folder / "pid").read_text()), signal.SIGTERM)


class Bench:
    """What one habit sets up: an inventory of one host, and what OpenSSH is told of it."""

    def __init__(
        self, servers: Servers, folder: Path, environment: Callable[[str, str | None], None]
    ) -> None:
        self.servers = servers
        self.folder = folder
        self.environment = environment
        """Sets an environment variable for all three ways; None takes it away."""
        self.agents: list[subprocess.Popen[bytes]] = []
        self.config: str | None = None
        """What the person's own configuration says."""
        self.pins: list[str] = []
        self.identity: str | None = "id"
        self.server = servers.get()
        self.address: str | None = None
        """What the inventory calls the host, where that is not the server's own address."""
        shutil.copy(servers.user_key, folder / "id")
        shutil.copy(servers.user_key.with_suffix(".pub"), folder / "id.pub")

    def pin(self, server: Server | None = None, name: str = "", kind: str = "ed25519") -> None:
        found = server or self.server
        self.pins.append(f"{name or found.where} {found.key(kind)}")

    def block(self, name: str, server: Server, *lines: str) -> str:
        """What OpenSSH is told of a server, and of the key that it lets in."""
        said = (f"HostName {server.address}", f"Port {server.port}",
                f"IdentityFile {self.folder}/id", "IdentitiesOnly yes", *lines)  # fmt: skip
        return f"Host {name}\n" + "".join(f" {line}\n" for line in said)

    def agent(self, *keys: Path) -> Path:
        """An agent that holds these keys, and that the environment names."""
        where = self.folder / "agent"
        if len(str(where)) > 100:
            where = Path(os.path.relpath(where))
        self.agents.append(
            subprocess.Popen(["ssh-agent", "-D", "-a", str(where)], stdout=subprocess.DEVNULL)
        )
        ends = time.monotonic() + TIMEOUT_S
        while not where.exists():
            assert time.monotonic() < ends
            time.sleep(0.01)
        for key in keys:
            subprocess.run(
                ["ssh-add", "-q", str(key)], check=True, timeout=TIMEOUT_S, capture_output=True,
                env={**os.environ, "SSH_AUTH_SOCK": str(where)}, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        self.environment("SSH_AUTH_SOCK", str(where.absolute()))
        return where.absolute()

    def lock(self, key: Path) -> None:
        """From now on the file needs a passphrase, which is given nowhere."""
        command = ["ssh-keygen", "-q", "-p", "-P", "", "-N", "a passphrase", "-f", str(key)]
        subprocess.run(command, check=True, timeout=TIMEOUT_S, stdin=subprocess.DEVNULL)

    def certify(self, key: Path, *, valid: str = "-1d:+1d") -> Path:
        """Makes a certificate of a key, by the CA that the server named ``ca`` trusts."""
        command = ["ssh-keygen", "-q", "-s", str(self.servers.ca), "-I", "habit"]
        command += ["-n", account(), "-V", valid, str(key.with_name(f"{key.name}.pub"))]
        subprocess.run(command, check=True, timeout=TIMEOUT_S, stdin=subprocess.DEVNULL)
        return key.with_name(f"{key.name}-cert.pub")

    def inventory(self) -> Path:
        ssh: dict[str, Any] = {"known_hosts": "known_hosts", "connect_timeout_s": TIMEOUT_S}
        if self.identity is not None:
            ssh["identity_file"] = self.identity
        if self.config is not None:
            (self.folder / "ssh_config").touch()
            (self.folder / "ssh_config").write_text(self.config)
        else:  # the person's own, which is not this test's
            (self.folder / "ssh_config").write_text("Host *\n")
        ssh["config_file"] = "ssh_config"
        spec: dict[str, Any] = {"address": self.address or self.server.address}
        if self.address is None:
            spec["port"] = self.server.port
        command = ["{current}/x"]
        (self.folder / "known_hosts").write_text("".join(f"{pin}\n" for pin in self.pins))
        path = self.folder / "inventory.yaml"
        said = {
            "fleet": "habits", "expect": 1, "release_root": "/opt/x", "waves": ["rest"],
            "service": {"name": "x", "supervisor": "process", "start": command,
                        "version": [*command], "status": [*command]},
            "ssh": ssh, "hosts": {HOST: spec},
        }  # fmt: skip
        path.write_text(yaml.safe_dump(said))
        return path

    def close(self) -> None:
        for agent in self.agents:
            agent.terminate()
            agent.wait(TIMEOUT_S)


def by_paramiko(path: Path) -> str:
    """As ``deploy`` and ``status`` reach a host: IN, or why not."""
    try:
        inventory = load_inventory(path)
        way = route(inventory, HOST)
        ssh = inventory.ssh
        session = Session(way, ssh.known_hosts, ssh.connect_timeout_s)
    except (HostFault, DeploytoolError) as error:
        return _told(error)
    try:
        said = session.run("cat", IN.encode(), deadline_s=TIMEOUT_S)
    finally:
        session.close()
    return said.output.decode()


def by_stop(path: Path) -> str:
    """As ``stop`` and ``watch`` reach a host."""
    found = read_targets(path)
    (target,) = found.targets
    return _client((*target.argv[:-1], "cat"))


def by_specs(path: Path) -> str:
    """As the specs of ``verify --spec`` reach a host."""
    try:
        inventory = load_inventory(path)
        way = route(inventory, HOST)
    except DeploytoolError as error:
        return _told(error)
    plain = PlainNames()
    config = path.with_name("for_specs")
    config.write_text(ssh_config(inventory, {HOST: way}, plain))
    return _client(("ssh", "-F", str(config), HOST, "cat"))


def _told(error: Exception) -> str:
    return error.told() if isinstance(error, DeploytoolError) else str(error)


def _client(argv: tuple[str, ...]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT_S, input=IN)
    return done.stdout if done.returncode == 0 else done.stderr


WAYS: Mapping[str, Callable[[Path], str]] = {
    "paramiko": by_paramiko,
    "stop": by_stop,
    "specs": by_specs,
}
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "deploy": ("paramiko",),
    "status": ("paramiko",),
    "watch": ("stop",),
    "stop": ("stop",),
    "verify": ("paramiko", "specs"),
}
"""Which ways a command goes."""
