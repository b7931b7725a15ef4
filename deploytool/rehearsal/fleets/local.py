"""The local fleet: some ``sshd`` on loopback, as whoever runs this. No root is needed.

Each host has a port, a host key and a folder of its own; they share the machine and its accounts,
so a host is told apart by its release root, and services run under ``supervisor: process``.
"""

from __future__ import annotations

import os
import random
import secrets
import socket
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

from deploytool.errors import EnvironmentProblem, InputError
from deploytool.rehearsal.fleets import files, processes
from deploytool.rehearsal.fleets.folder import FleetFolder
from deploytool.rehearsal.fleets.model import (
    Client,
    Endpoint,
    FleetRecord,
    HostRecord,
    HostState,
    HostStatus,
    Kind,
    Progress,
)
from deploytool.rehearsal.fleets.ready import account, make_key, make_signers, prepare, wait_for_ssh
from deploytool.rehearsal.fleets.run import find, for_each, run
from deploytool.rehearsal.fleets.throwaway import FleetStatus

_LOOPBACK = "127.0.0.1"
_PORTS = range(20_000, 32_000)  # below those that the kernel gives to outgoing connections
_START_S = 15.0
_GRACE_S = 5.0
_END_S = 30.0


class LocalFleet:
    """Some ``sshd`` on 127.0.0.1; everything lies in ``folder``."""

    kind: Kind = "local"

    def __init__(self, folder: Path) -> None:
        self._folder = FleetFolder(folder, self.kind)

    @property
    def folder(self) -> Path:
        """Where everything lies."""
        return self._folder.path

    @property
    def inventory(self) -> Path:
        """The inventory, once ``up`` has finished."""
        return self.folder / files.INVENTORY

    def record(self) -> FleetRecord | None:
        """What was written down of it."""
        return self._folder.load()

    def host_folder(self, name: str) -> Path:
        """The folder that is this host's whole disk."""
        return self.folder / "hosts" / name

    def up(self, count: int, progress: Progress) -> Path:
        """Starts ``count`` hosts and readies them.

        Raises:
            InputError: a fleet is up already, or the folder won't do.
            EnvironmentProblem: ``sshd`` is missing or does not start.
        """
        sshd = find("sshd", "openssh-server")
        if any(character.isspace() or character in "{}" for character in str(self.folder)):
            raise InputError(
                f"The path {self.folder} holds a blank or a brace, which a release root must not.",
                "Nothing was started.",
                "deploytool fleet up --fleet local --folder DIR",
            )
        with self._folder.locked(create=True):
            self._folder.claim(count)
            record = self._plan(count)
            self._folder.save(record)
            progress(f"starting {count} sshd on {_LOOPBACK}")
            make_key(self.folder / files.IDENTITY)
            hosts = for_each(record.hosts, lambda host: self._start(sshd, record, host))
            record = replace(record, hosts=tuple(hosts))
            self._folder.save(record)
            self._describe(record)
            identity = self.folder / files.IDENTITY
            public = identity.with_suffix(".pub")
            prepare(self.inventory, identity, account(), public, progress)
            self._folder.save(replace(record, phase="up"))
        return self.inventory

    def _plan(self, count: int) -> FleetRecord:
        ports = free_ports(2 * count + 1)
        hosts = tuple(
            HostRecord(
                name=f"router{number + 1}",
                address=_LOOPBACK,
                port=ports[2 * number],
                listen=f"{_LOOPBACK}:{ports[2 * number + 1]}",
            )
            for number in range(count)
        )
        return FleetRecord(
            id=secrets.token_hex(4),
            kind=self.kind,
            phase="rising",
            hosts=hosts,
            market=Endpoint(_LOOPBACK, ports[-1]),
            client=Client("GATE01", secrets.token_hex(5)),
        )

    def _start(self, sshd: str, record: FleetRecord, host: HostRecord) -> HostRecord:
        """Makes one host's folder and starts its ``sshd``; gives by what it is known."""
        here = self.host_folder(host.name)
        here.mkdir(mode=0o700, parents=True)
        make_key(here / "host_key")
        public = (self.folder / files.IDENTITY).with_suffix(".pub").read_text()
        self._folder.write(f"hosts/{host.name}/authorized_keys", public)
        config = self._folder.write(
            f"hosts/{host.name}/sshd_config", sshd_config(here, record, host)
        )
        (here / "root" / "etc").mkdir(parents=True)
        settings = here / "root" / "etc" / files.ROUTER_CONFIG
        settings.write_text(files.router_config(record))
        settings.chmod(0o644)
        if os.geteuid() == 0:  # sshd insists on it as root; Debian makes it with its service
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        return self._launch(sshd, config, host)

    def _launch(self, sshd: str, config: Path, host: HostRecord) -> HostRecord:
        log = config.with_name("sshd.log")
        run([sshd, "-f", str(config), "-E", str(log)], _START_S)
        try:
            wait_for_ssh(host.name, host.address, host.port, _START_S)
            pid = int(config.with_name("sshd.pid").read_text())
        except (EnvironmentProblem, OSError, ValueError) as error:
            said = log.read_text(errors="replace").splitlines()[-5:] if log.exists() else []
            raise EnvironmentProblem(
                f"{host.name}: sshd did not start on port {host.port}.",
                "The fleet is not up.",
                f"{self._folder.command('down')} && {self._folder.command('up')}",
                tuple(said),
            ) from error
        process = processes.look(pid)
        if process is None or not any(str(config) in part for part in process.argv):
            raise EnvironmentProblem(
                f"{host.name}: process {pid} is not the sshd that was started.",
                "The fleet is not up.",
                f"{self._folder.command('down')} && {self._folder.command('up')}",
            )
        return replace(host, pid=pid, start_ticks=process.start_ticks)

    def _describe(self, record: FleetRecord) -> None:
        keys = {
            host.name: ((self.host_folder(host.name) / "host_key.pub").read_text(),)
            for host in record.hosts
        }
        user = account()
        root = f"{self.folder}/hosts/{{host}}/root"
        self._folder.write(files.KNOWN_HOSTS, files.known_hosts(record, keys))
        self._folder.write(files.SIGNERS, make_signers(self.folder))
        self._folder.write(files.INVENTORY, files.inventory(record, root, user, user, "process"))

    def down(self, progress: Progress) -> tuple[str, ...]:
        """Ends every process that has to do with a host's folder, and removes the fleet's folder.

        That finds an ``sshd`` that ``up`` had no time to write down, and whatever was started
        through one and outlived its session.
        """
        with self._folder.locked(create=False) as there:
            if not there:
                return ()
            # The hosts' folders, not the fleet's: a person may well sit in that, or read in it.
            near = processes.touching(self.folder / "hosts")
            record = self.record()
            mark = f"{processes.MARK}={record.id}" if record else None
            ended = processes.end_all(
                lambda p: near(p) or (mark is not None and processes.has_environment(p, mark)),
                _GRACE_S,
                _END_S,
            )
            progress(f"ended {ended} processes")
            self._folder.remove()
        return (*((f"{ended} processes",) if ended else ()), str(self.folder))

    def status(self) -> FleetStatus:
        """Looks at each ``sshd`` by its number and start time."""
        record = self.record()
        if record is None:
            return FleetStatus(self.kind, self.folder, "absent")
        hosts = tuple(
            HostStatus(host.name, self._state(host), host.address, host.port)
            for host in record.hosts
        )
        whole = record.phase == "up" and all(host.state == "running" for host in hosts)
        return FleetStatus(self.kind, self.folder, "up" if whole else "incomplete", hosts)

    @staticmethod
    def _state(host: HostRecord) -> HostState:
        if host.pid is None or host.start_ticks is None:
            return "missing"
        return "running" if processes.is_alive(host.pid, host.start_ticks) else "stopped"


def sshd_config(here: Path, record: FleetRecord, host: HostRecord) -> str:
    """The configuration of one host's ``sshd``: one user, one key, nothing but that."""
    return f"""\
Port {host.port}
ListenAddress {host.address}
HostKey {here}/host_key
PidFile {here}/sshd.pid
AuthorizedKeysFile {here}/authorized_keys
# The folder is 0700, but may well lie below one that sshd would find too open (as /tmp is).
StrictModes no
UsePAM {_use_pam()}
PubkeyAuthentication yes
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
AllowUsers {account()}
PrintMotd no
PrintLastLog no
UseDNS no
MaxStartups 100
MaxSessions 100
LoginGraceTime 20
LogLevel VERBOSE
Subsystem sftp internal-sftp
# Whatever a session leaves behind carries the mark, so that `down` knows it for the fleet's. A host
# has a home of its own: what a person's shell does at login is theirs, and can take long.
SetEnv {processes.MARK}={record.id} HOME={here}
"""


def _use_pam() -> str:
    """Without PAM sshd refuses an account whose password is locked, as root's is on many machines.

    Only root's own sshd can know that, and only root may read where it stands.
    """
    with suppress(OSError):
        for line in Path("/etc/shadow").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name == account() and rest.startswith("!") and os.geteuid() == 0:
                return "yes"
    return "no"


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on: all different, since all are held while looking.

    Raises:
        EnvironmentProblem: there are not enough.
    """
    found: list[int] = []
    with ExitStack() as held:
        # Spread so that fleets that start at the same moment rarely meet; nothing secret in it.
        for port in random.sample(_PORTS, len(_PORTS)):
            if len(found) == count:
                return found
            probe = held.enter_context(socket.socket())
            with suppress(OSError):
                probe.bind((_LOOPBACK, port))
                found.append(port)
    raise EnvironmentProblem(
        f"There are no {count} free ports on {_LOOPBACK}.",
        "Nothing was started.",
        "See who holds them: ss -ltnp",
    )
