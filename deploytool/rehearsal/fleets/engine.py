"""The container engine: podman, or Docker where a Docker engine answers. Its commands."""

from __future__ import annotations

import ipaddress
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass

from deploytool.errors import EnvironmentProblem
from deploytool.rehearsal.fleets.model import HostState
from deploytool.rehearsal.fleets.run import Outcome, attempt, find, run

LABEL = "deploytool.fleet"
_ASK_S = 20.0
_ACT_S = 60.0
_TRIES = 5
_AGAIN_S = 0.5

_STATES: dict[str, HostState] = {"running": "running", "paused": "paused"}

# Whatever the machine's own limits are: where they can't be raised, asking for more fails.
_LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000")

# What root may do on a real host and the agent relies on: look into other accounts' processes.
_RIGHTS = ("--cap-add", "SYS_PTRACE", "--cap-add", "AUDIT_WRITE")

_DOCKER_SYSTEMD = (
    *("--privileged", "--cgroupns=private", "--env", "container=docker"),
    *("--tmpfs", "/run", "--tmpfs", "/run/lock"),
)


@dataclass(frozen=True)
class Engine:
    """How containers are run on this machine."""

    name: str
    program: str

    @property
    def _start_flags(self) -> tuple[str, ...]:
        if self.name == "docker":
            return _DOCKER_SYSTEMD
        return ("--systemd=always", *_RIGHTS)

    @property
    def _run_program(self) -> tuple[str, ...]:
        # crun does not start systemd where cgroups are mixed v1 and v2; runc does on both.
        if self.name == "podman" and (runc := shutil.which("runc")):
            return (self.program, "--runtime", runc)
        return (self.program,)

    def has_image(self, image: str) -> bool:
        """Whether the image is here already."""
        return attempt([self.program, "image", "inspect", image], _ASK_S).code == 0

    def make_network(self, name: str, subnet: str, fleet: str) -> bool:
        """Makes a bridge of its own for the fleet; false when the subnet is taken."""
        label = f"{LABEL}={fleet}"
        argv = [self.program, "network", "create", "--subnet", subnet, "--label", label, name]
        return attempt(argv, _ACT_S).code == 0

    def start(
        self, fleet: str, name: str, hostname: str, network: str, address: str, image: str
    ) -> None:
        """Starts one host: systemd as its first process, and an address of its own."""
        run(
            [
                *(*self._run_program, "run", "--detach", "--name", name, "--hostname", hostname),
                *("--label", f"{LABEL}={fleet}", "--network", network, *self._card(address)),
                *(*_LIMITS, *self._start_flags, image, "/sbin/init"),
            ],
            _ACT_S,
        )

    def inside(
        self, name: str, argv: Sequence[str], stdin: str = "", timeout_s: float = _ASK_S
    ) -> Outcome:
        """Runs a program as root in the container, past SSH."""
        return attempt([self.program, "exec", "--interactive", name, *argv], timeout_s, stdin)

    def states(self, fleet: str) -> dict[str, HostState]:
        """Every container of the fleet and what it does."""
        label = f"label={LABEL}={fleet}"
        ids = run([self.program, "ps", "--all", "--quiet", "--filter", label], _ASK_S).split()
        if not ids:
            return {}
        form = "{{.Name}} {{.State.Status}}"  # `ps` words it for people, and differently
        said = run([self.program, "inspect", "--format", form, *ids], _ASK_S)
        rows = (line.lstrip("/").split() for line in said.splitlines() if line.strip())
        return {row[0]: _STATES.get(row[1], "stopped") for row in rows}

    def networks(self, fleet: str) -> tuple[str, ...]:
        """Every network of the fleet."""
        label = f"label={LABEL}={fleet}"
        argv = [self.program, "network", "ls", "--filter", label, "--format", "{{.Name}}"]
        return tuple(run(argv, _ASK_S).split())

    def remove(self, fleet: str, names: tuple[str, ...]) -> None:
        """Ends and removes containers at once, and looks that they are gone.

        A container that is just starting or stopping may refuse to go, so it is told again.

        Raises:
            EnvironmentProblem: some are still there after several tries.
        """
        quick = ("--time", "0", "--ignore") if self.name == "podman" else ()
        argv = [self.program, "rm", "--force", "--volumes", *quick]
        for tries_left in range(_TRIES - 1, -1, -1):
            if not names:
                return
            try:
                run([*argv, *names], _ACT_S)
            except EnvironmentProblem:
                if tries_left == 0:
                    raise
                time.sleep(_AGAIN_S)
            names = tuple(self.states(fleet))
        if names:
            raise EnvironmentProblem(
                f"{len(names)} containers are still there after {_TRIES} tries.",
                "What is left of the fleet is still running.",
                f"{self.name} rm --force {' '.join(names)}",
            )

    def remove_network(self, name: str) -> None:
        """Removes a network."""
        run([self.program, "network", "rm", name], _ACT_S)

    def unplug(self, name: str, network: str) -> None:
        """Takes a container off the network; it goes on running."""
        self.do("network", "disconnect", network, name)

    def plug(self, name: str, network: str, address: str) -> None:
        """Puts it back with the card it had.

        Under another hardware address it would be out of reach for as long as its neighbours
        remember the old one: up to a minute, and the pauses of TCP on top.
        """
        self.do("network", "connect", *self._card(address), network, name)

    def _card(self, address: str) -> tuple[str, ...]:
        """The network card of a host: one hardware address for one IPv4 address, for good."""
        if self.name == "docker":  # it derives the same by itself, and `connect` takes none
            return ("--ip", address)
        octets = ipaddress.IPv4Address(address).packed
        return (
            "--ip",
            address,
            "--mac-address",
            ":".join(["02", "42", *(f"{o:02x}" for o in octets)]),
        )

    def do(self, verb: str, *arguments: str) -> None:
        """One of the engine's short verbs: pause, unpause, kill, start..."""
        run([self.program, verb, *arguments], _ACT_S)


def find_engine() -> Engine:
    """The engine of this machine.

    Raises:
        EnvironmentProblem: there is none that can give each host an address of its own.
    """
    if os.geteuid() == 0 and (podman := shutil.which("podman")):
        return Engine("podman", podman)
    docker = shutil.which("docker")
    if docker and attempt([docker, "version", "--format", "{{.Server.Version}}"], _ASK_S).code == 0:
        return Engine("docker", docker)
    if os.geteuid() != 0 and shutil.which("podman"):
        raise EnvironmentProblem(
            "Containers with addresses of their own need root, and no Docker engine answers.",
            "Nothing was started.",
            "Run this with sudo, or use the local fleet: deploytool fleet up --fleet local",
        )
    return Engine("podman", find("podman", "podman runc netavark aardvark-dns iptables"))


def named_engine(name: str) -> Engine:
    """The engine that a fleet was started with.

    Raises:
        EnvironmentProblem: it is no longer installed.
    """
    return Engine(name, find(name, name))
