"""What can be done to a virtual machine of a throwaway fleet: looking in, power, cable, measuring.

A fault is brought by the machine itself where nobody could reach it any more to lift it.
"""

from __future__ import annotations

import hashlib
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from deploytool.errors import EnvironmentProblem
from deploytool.rehearsal.fleets import cables, files, pace
from deploytool.rehearsal.fleets.folder import FleetFolder
from deploytool.rehearsal.fleets.model import FleetRecord, HostRecord, Kind
from deploytool.rehearsal.fleets.ready import wait_for_ssh
from deploytool.rehearsal.fleets.run import Outcome, attempt, find, for_each
from deploytool.rehearsal.fleets.vagrantcmd import BOOT_S, Vagrant, VagrantLogin

WORK_S = 300.0
_SSH_S = 120.0
_POLL_S = 1.0

_LATER = 'systemd-run --quiet --collect --unit="$1" sh -c "$2" sh "$3"'
"""Has a host do something to itself when nobody can reach it any more."""
_RESET = "sleep 0.3; echo 1 >/proc/sys/kernel/sysrq; echo b >/proc/sysrq-trigger"
_POWER_CUT = """\
echo 1 >/proc/sys/kernel/sysrq
until eval "$1"; do sleep 0.05; done
echo o >/proc/sysrq-trigger
"""


class VirtualMachines:
    """The machines of the fleet in ``folder``, once they are up."""

    kind: Kind = "vagrant"

    def __init__(self, folder: Path) -> None:
        self._folder = FleetFolder(folder, self.kind)
        # By its folder, so that machines whose record was lost are still known to be this fleet's.
        self._id = hashlib.sha256(str(self._folder.path).encode()).hexdigest()[:8]
        self._prefix = f"deploytool-{self._id}-"
        self._boots: dict[str, str] = {}
        self._booted_s: dict[str, float] = {}

    @property
    def folder(self) -> Path:
        """Where keys, inventory, record and Vagrant's own files lie."""
        return self._folder.path

    @property
    def inventory(self) -> Path:
        """The inventory, once ``up`` has finished."""
        return self.folder / files.INVENTORY

    def record(self) -> FleetRecord | None:
        """What was written down of it."""
        return self._folder.load()

    def figures(self) -> list[pace.Figures]:
        """Measures all machines at once, as they are now."""
        record = self.record()
        hosts = record.hosts if record else ()
        return measure(hosts, self._booted_s, lambda h, argv: self._at(h, argv, "", WORK_S))

    def pause(self, host: str) -> None:
        """Freezes a machine: it hangs, and its connections stay open."""
        self._vagrant().suspend(host)

    def unpause(self, host: str) -> None:
        """Lets a frozen machine go on."""
        self._vagrant().resume(host)

    def kill(self, host: str) -> None:
        """Cuts a machine's power."""
        self._vagrant().cut_power(host)

    def start(self, host: str) -> None:
        """Boots a machine that is off, and waits for its SSH server."""
        self._vagrant().boot(host)
        found = self._host(host)
        wait_for_ssh(found.name, found.address, found.port, _SSH_S)

    def reset(self, host: str) -> None:
        """Pulls a machine's power and gives it back at once: nothing is written to its disk.

        Raises:
            EnvironmentProblem: it can't be read which boot it is in: any would pass for a new one.
        """
        before = self._boot_id(host)
        if not before:
            raise EnvironmentProblem(
                f"{host} does not say which boot it is in.",
                "Its power was left as it is: a new boot could not be told from this one.",
                "Rehearse again.",
            )
        self._boots[host] = before
        self._later(host, "reset", _RESET)

    def await_boot(self, host: str) -> None:
        """Waits until a machine that was reset can be entered again.

        Raises:
            EnvironmentProblem: it can't within the time that a boot may take.
        """
        before = self._boots.pop(host)
        deadline = time.monotonic() + BOOT_S
        while time.monotonic() < deadline:
            try:
                now = self._boot_id(host)
            except EnvironmentProblem:
                now = ""
            if now and now != before:
                return
            time.sleep(_POLL_S)
        raise EnvironmentProblem(
            f"{host} did not come back within {BOOT_S:g} s.",
            "The fleet is not what it should be.",
            f"{self._folder.command('down')} && {self._folder.command('up')}",
        )

    @contextmanager
    def kill_when(self, host: str, condition: str) -> Iterator[None]:
        """Within the block the machine switches itself off at once when ``condition`` holds."""
        self._later(host, "power-cut", _POWER_CUT, condition)
        try:
            yield
        finally:
            stop = ("sh", "-c", "systemctl stop power-cut 2>/dev/null || :")
            # A machine that is off does not answer, and need not.
            self.inside(host, stop, timeout_s=_SSH_S)

    @contextmanager
    def cut_off(self, host: str) -> Iterator[None]:
        """Pulls a machine's network cables; they are plugged in again when the block ends."""
        record = self.record()
        provider = (record.engine if record else None) or "libvirt"
        cables.pull(provider, f"{self._prefix}{host}")
        try:
            yield
        finally:
            cables.plug(provider, f"{self._prefix}{host}")
            found = self._host(host)
            wait_for_ssh(found.name, found.address, found.port, _SSH_S)

    def inside(
        self, host: str, argv: Sequence[str], stdin: str = "", timeout_s: float = 20.0
    ) -> Outcome:
        """Runs a program as root on a machine, with the stock client and the admin key."""
        record = self.record()
        return self._at(
            self._host(host), argv, stdin, timeout_s * (record.factor if record else 1.0)
        )

    def _at(self, host: HostRecord, argv: Sequence[str], stdin: str, timeout_s: float) -> Outcome:
        key = str(self.folder / files.ADMIN_IDENTITY)
        pinned = f"UserKnownHostsFile={self.folder / files.KNOWN_HOSTS}"
        client = _ssh(key, host.port, "StrictHostKeyChecking=yes", pinned)
        return attempt([*client, f"root@{host.address}", shlex.join(argv)], timeout_s, stdin)

    def _later(self, host: str, unit: str, script: str, argument: str = "") -> None:
        told = self.inside(host, ("sh", "-c", _LATER, "sh", unit, script, argument))
        if told.code != 0:
            raise EnvironmentProblem(
                f"{host} could not be told to {unit}: {told.err.strip()[-300:]}",
                "The fault was not brought.",
                "Rehearse again.",
            )

    def _boot_id(self, host: str) -> str:
        told = self.inside(host, ("cat", "/proc/sys/kernel/random/boot_id"))
        return told.out.strip() if told.code == 0 else ""

    def _vagrant(self) -> Vagrant:
        record = self.record()
        return Vagrant(self.folder, self._id, (record.engine if record else None) or "libvirt")

    def _host(self, name: str) -> HostRecord:
        record = self.record()
        for host in record.hosts if record else ():
            if host.name == name:
                return host
        raise KeyError(name)


def by_way(way: VagrantLogin, argv: Sequence[str], stdin: str, timeout_s: float) -> Outcome:
    """Runs a program by Vagrant's own way in, before any key of the machine is known."""
    loose = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null")
    client = _ssh(way.key, way.port, *loose)
    return attempt([*client, f"{way.user}@{way.address}", shlex.join(argv)], timeout_s, stdin)


def measure(
    hosts: Sequence[HostRecord],
    booted_s: Mapping[str, float],
    ask: Callable[[HostRecord, Sequence[str]], Outcome],
) -> list[pace.Figures]:
    """Measures hosts, all at the same time: how long a small piece of work takes, and memory.

    Raises:
        EnvironmentProblem: a host does not do it.
    """

    def one(host: HostRecord) -> pace.Figures:
        began = time.monotonic()
        told = ask(host, ("sh", "-c", pace.WORK))
        seconds = time.monotonic() - began
        if told.code != 0:
            raise EnvironmentProblem(
                f"{host.name} could not be measured: {told.err.strip()[-300:]}",
                "The fleet is not what it should be.",
                "Take it down and bring it up again; if it stays so, look at the machine's load.",
            )
        return pace.read(host.name, booted_s.get(host.name), seconds, told.out)

    return for_each(hosts, one, at_once=max(1, len(hosts)))


def _ssh(key: str, port: int, *options: str) -> list[str]:
    """The stock client, with nothing but what is said here."""
    fixed = ("BatchMode=yes", "IdentitiesOnly=yes", "GlobalKnownHostsFile=none", "LogLevel=ERROR",
             "ConnectTimeout=30", "ServerAliveInterval=10")  # fmt: skip
    argv = [find("ssh", "openssh-client"), "-F", "none", "-i", key, "-p", str(port)]
    for option in (*fixed, *options):
        argv += ["-o", option]
    return argv
