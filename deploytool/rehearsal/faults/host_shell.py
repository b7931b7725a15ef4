"""One host of a throwaway fleet, as a fault sees it: past SSH, with a shell on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deploytool.errors import EnvironmentProblem
from deploytool.fleet.agent_settings import agent_path
from deploytool.fleet.model import Inventory
from deploytool.rehearsal.fleets.local import LocalFleet
from deploytool.rehearsal.fleets.run import find, run
from deploytool.rehearsal.fleets.throwaway import Machines, Throwaway

_SHELL_S = 45.0


@dataclass(frozen=True)
class HostShell:
    """Where a fault strikes. ``old`` and ``new``: the releases that the case is about."""

    fleet: Throwaway
    inventory: Inventory
    host: str
    old: str
    new: str

    @property
    def slow(self) -> float:
        """How many times slower than a usual host this one is."""
        record = self.fleet.record()
        return record.factor if record else 1.0

    @property
    def root(self) -> str:
        """The release root on this host."""
        return self.inventory.root(self.host)

    @property
    def service(self) -> str:
        """The service's name, which is the artifact's too."""
        return self.inventory.service.name

    @property
    def supervisor(self) -> str:
        """What runs the service."""
        return self.inventory.service.supervisor

    @property
    def port(self) -> str:
        """The port that the service must own."""
        listen = self.inventory.service.listen[0]
        return self.inventory.expand(listen, self.host).rpartition(":")[2]

    def shell(self, script: str) -> str:
        """Runs a script as root there, with what it needs to know of the host in variables."""
        return self.inside(("sh", "-c", f"set -u\n{self._settings()}\n{script}"))

    def inside(self, argv: Sequence[str]) -> str:
        """Runs a program on the host and gives what it printed.

        Raises:
            EnvironmentProblem: it failed.
        """
        if isinstance(self.fleet, LocalFleet):
            return run(argv, _SHELL_S)
        outcome = self._machines.inside(self.host, argv, timeout_s=_SHELL_S)
        if outcome.code != 0:
            raise EnvironmentProblem(
                f"{self.host}: {argv[0]} failed with exit code {outcome.code}.",
                "The fault could not be brought, or not be lifted.",
                "Rehearse again; if it stays so, this kind of fleet can't have this fault.",
                tuple(outcome.err.strip().splitlines()[-5:]),
            )
        return outcome.out

    def outside(self, script: str) -> None:
        """Runs a script in the host's mount namespace, with the right to mount.

        Raises:
            EnvironmentProblem: it failed; a container's own root may not mount.
        """
        if self.fleet.kind == "vagrant":
            self.shell(script)  # a machine's root may
            return
        record = self.fleet.record()
        names = [h.container for h in record.hosts if h.name == self.host] if record else []
        engine = (record.engine if record else None) or "podman"
        asked = [find(engine, engine), "inspect", "-f", "{{.State.Pid}}", names[0] or ""]
        pid = run(asked, _SHELL_S).strip()
        enter = (find("nsenter", "util-linux"), "-t", pid, "-m", "-p", "sh", "-c")
        run([*enter, f"set -u\n{self._settings()}\n{script}"], _SHELL_S)

    @property
    def _machines(self) -> Machines:
        if isinstance(self.fleet, Machines):
            return self.fleet
        raise TypeError(f"there is no way into a {self.fleet.kind} host past SSH")

    def _settings(self) -> str:
        if isinstance(self.fleet, LocalFleet):
            here = self.fleet.host_folder(self.host)
            keys, host_keys = f"{here}/authorized_keys", f"{here}/host_key"
            main = 'cut -d" " -f1 "$ROOT/state/pid"'
        else:
            keys = f"/home/{self.inventory.ssh.user}/.ssh/authorized_keys"
            host_keys = "/etc/ssh/ssh_host_ecdsa_key /etc/ssh/ssh_host_ed25519_key"
            main = 'systemctl show -p MainPID --value "$NAME"'
        return "\n".join(
            (
                f"ROOT={self.root} NAME={self.service} HOST={self.host} PORT={self.port}",
                f"OLD={self.old} NEW={self.new} KEYS={keys}",
                f"HOST_KEYS='{host_keys}' AGENT={agent_path(self.inventory, self.host)}",
                f"main_pid() {{ {main}; }}",
            )
        )
