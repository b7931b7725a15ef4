"""Where the tools compete: hosts, how they are entered, and what stands there beforehand."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploytool.rehearsal.fleets.container import RELEASE_ROOT, ContainerFleet
from deploytool.rehearsal.fleets.local import LocalFleet, free_ports
from deploytool.rehearsal.fleets.model import HostRecord, silent

_ASK_S = 60
_SWEEP = """\
for root in {} {}; do
    cd "$root/releases" && [ -L ../current ] || continue
    live=$(basename "$(readlink ../current)")
    for one in *; do [ "$one" = "$live" ] || rm -rf -- "$one"; done
done
"""
_UNIT = """\
[Service]
ExecStart=/opt/plain/current/plain serve --state /opt/plain/state --listen 0.0.0.0:7002
"""


@dataclass(frozen=True)
class BenchFleet:
    """A fleet as a stock tool sees it: other folders and another service than deploytool's.

    Its file is called ``plain``: a unit that named the artifact would be a starter of the service.
    """

    hosts: tuple[HostRecord, ...]
    inventory: Path
    known_hosts: Path
    user: str
    identity: Path
    root: Callable[[HostRecord], str]
    """Where a stock tool works on a host."""
    ours: Callable[[HostRecord], str]
    """Where deploytool works there: its release root."""
    restart: Callable[[HostRecord], str]
    ask: Callable[[HostRecord, str], str]
    """Runs a shell command on a host past every tool that is measured."""

    def each(self, job: Callable[[HostRecord], str]) -> list[str]:
        """Does ``job`` for all hosts at once."""
        with ThreadPoolExecutor(len(self.hosts)) as pool:
            return list(pool.map(job, self.hosts))

    def ssh(self, host: HostRecord) -> list[str]:
        """The stock client's arguments, up to the command."""
        return ["ssh", *self.ssh_options(), "-p", str(host.port), f"{self.user}@{host.address}"]

    def ssh_options(self) -> list[str]:
        """What the stock clients need to enter a host with a pinned key."""
        given = (
            *("BatchMode=yes", "StrictHostKeyChecking=yes", "IdentitiesOnly=yes"),
            *(f"UserKnownHostsFile={self.known_hosts}", f"IdentityFile={self.identity}"),
        )
        return ["-F", "none", *(word for option in given for word in ("-o", option))]

    def sweep(self) -> None:
        """Removes all releases but the ``current`` ones, so that no run finds another's bytes."""
        self.each(lambda host: self.ask(host, _SWEEP.format(self.root(host), self.ours(host))))
        os.sync()  # nobody pays for what another one wrote


@contextmanager
def containers(folder: Path, count: int) -> Iterator[BenchFleet]:
    """Eight hosts with systemd; stock tools come in as root, which spares them ``sudo``."""
    fleet = ContainerFleet(folder)
    fleet.down(silent)
    inventory = fleet.up(count, print)
    record = fleet.record()
    if record is None:
        raise RuntimeError("the fleet was taken down meanwhile")

    def ask(host: HostRecord, script: str) -> str:
        told = fleet.inside(host.name, ("sh", "-eu"), script, _ASK_S)
        if told.code != 0:
            raise RuntimeError(f"{host.name}: {told.err.strip()}")
        return told.out

    bench = BenchFleet(
        record.hosts,
        inventory,
        fleet.folder / "known_hosts",
        "root",
        fleet.folder / "admin_ed25519",
        root=lambda _host: "/opt/plain",
        ours=lambda _host: RELEASE_ROOT,
        restart=lambda _host: "systemctl restart plain",
        ask=ask,
    )
    unit = shlex.quote(_UNIT)
    try:
        bench.each(
            lambda host: ask(
                host,
                f"mkdir -p /opt/plain/releases /opt/plain/state\n"
                f"printf %s {unit} > /etc/systemd/system/plain.service\nsystemctl daemon-reload",
            )
        )
        yield bench
    finally:
        fleet.down(print)


def _ports_beside(hosts: tuple[HostRecord, ...]) -> dict[str, int]:
    """A port for each host's other service: none that the fleet's own, not up yet, will take."""
    theirs = {int(host.listen.rpartition(":")[2]) for host in hosts}
    found = [port for port in free_ports(2 * len(hosts)) if port not in theirs]
    return dict(zip((host.name for host in hosts), found, strict=False))


@contextmanager
def loopback(folder: Path, count: int) -> Iterator[BenchFleet]:
    """Many ``sshd`` on this machine; services are restarted by hand, for want of systemd."""
    fleet = LocalFleet(folder)
    fleet.down(silent)
    inventory = fleet.up(count, silent)
    record = fleet.record()
    if record is None:
        raise RuntimeError("the fleet was taken down meanwhile")
    ports = _ports_beside(record.hosts)

    def root(host: HostRecord) -> str:
        return str(fleet.host_folder(host.name) / "plain")

    def ours(host: HostRecord) -> str:
        return str(fleet.host_folder(host.name) / "root")

    def restart(host: HostRecord) -> str:
        here = root(host)
        listen = f"127.0.0.1:{ports[host.name]}"
        serve = f"{here}/current/plain serve --state {here}/state --listen {listen}"
        return (
            f"if [ -f {here}/pid ]; then kill $(cat {here}/pid); fi; "
            f"setsid {serve} </dev/null >/dev/null 2>&1 & echo $! >{here}/pid"
        )

    def ask(_host: HostRecord, script: str) -> str:
        argv = ["sh", "-eu", "-c", script]
        return subprocess.run(
            argv, capture_output=True, text=True, timeout=_ASK_S, check=True
        ).stdout

    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    for host in record.hosts:
        Path(root(host), "releases").mkdir(parents=True)
        Path(root(host), "state").mkdir()
    known_hosts, identity = fleet.folder / "known_hosts", fleet.folder / "id_ed25519"
    try:
        yield BenchFleet(
            record.hosts, inventory, known_hosts, user, identity, root, ours, restart, ask
        )
    finally:
        fleet.down(silent)
