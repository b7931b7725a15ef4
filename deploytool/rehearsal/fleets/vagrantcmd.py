"""The ``vagrant`` command, for one fleet: its environment, its verbs, and what it answers."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from deploytool.errors import EnvironmentProblem
from deploytool.rehearsal.fleets.model import HostState
from deploytool.rehearsal.fleets.processes import MARK
from deploytool.rehearsal.fleets.run import attempt, find, run
from deploytool.shipped import ROOT

SETTINGS = "machines.json"
_DOTFILE = "vagrant-machines"
BOOT_S = 900.0
_ASK_S = 120.0
_ACT_S = 300.0
_DESTROY_S = 600.0

# As the libvirt and VirtualBox providers word them; any other word is a machine that is off.
_STATES: Mapping[str, HostState] = {
    "running": "running",
    "paused": "paused",
    "saved": "paused",
    "not_created": "missing",
}
_BACKTRACE = re.compile(r"^\s*/\S+:\d+:in `")
_SHOWN = 12
_SAID = re.compile(r"^(?:==>)?\s*(?P<machine>[a-z0-9-]+): (?P<text>\S.*)$")


@dataclass(frozen=True)
class VagrantLogin:
    """How Vagrant itself comes into a machine."""

    address: str
    port: int
    user: str
    key: str


def known_machines(folder: Path) -> tuple[tuple[str, str], ...]:
    """The machines that Vagrant ever began to make for the fleet in ``folder``: name, provider."""
    found = (folder / _DOTFILE / "machines").glob("*/*")
    return tuple(sorted((path.parent.name, path.name) for path in found if path.is_dir()))


class Vagrant:
    """Vagrant as it is run for the fleet in ``folder``; whatever it keeps lies there too."""

    def __init__(self, folder: Path, fleet: str, provider: str) -> None:
        self._program = find("vagrant", "vagrant vagrant-libvirt")
        self._env = {
            "VAGRANT_CWD": str(ROOT),
            "VAGRANT_HOME": str(folder / "vagrant-home"),
            "VAGRANT_DOTFILE_PATH": str(folder / _DOTFILE),
            "VAGRANT_DEFAULT_PROVIDER": provider,
            "VAGRANT_NO_COLOR": "1",
            "VAGRANT_CHECKPOINT_DISABLE": "1",
            "DEPLOYTOOL_MACHINES": str(folder / SETTINGS),
            MARK: fleet,
        }

    def validate(self) -> None:
        """Has Vagrant read the Vagrantfile with the fleet's settings.

        Raises:
            EnvironmentProblem: it refuses.
        """
        self._do("validate", timeout_s=_ASK_S)

    def add_box(self, name: str, file: Path, provider: str) -> None:
        """Makes a box known to this fleet's Vagrant."""
        words = ("--name", name, "--provider", provider, str(file))
        self._do("box", "add", *words, timeout_s=_ACT_S)

    def up(self, heard: Callable[[str, str], None]) -> None:
        """Brings all machines up, side by side; ``heard`` is told the machine and what it does.

        Raises:
            EnvironmentProblem: one did not come up.
        """

        def line(text: str) -> None:
            if (said := _SAID.match(text)) is not None:
                heard(said["machine"], said["text"])

        argv = [self._program, "up", "--parallel", "--no-provision", "--no-destroy-on-error"]
        told = attempt(argv, BOOT_S + _ACT_S, env=self._env, line=line)
        if told.code != 0:
            raise EnvironmentProblem(
                f"vagrant up failed with exit code {told.code}.",
                "The fleet is not up. What came up of it is still there.",
                "Read the lines above; then take the fleet down and bring it up again.",
                told_by(told.out),
            )

    def boot(self, machine: str) -> None:
        """Boots one machine that is off."""
        self._do("up", "--no-provision", machine, timeout_s=BOOT_S + _ACT_S)

    def cut_power(self, machine: str) -> None:
        """Switches one machine off, without telling it."""
        self._do("halt", "--force", machine, timeout_s=_ACT_S)

    def suspend(self, machine: str) -> None:
        """Freezes one machine."""
        self._do("suspend", machine, timeout_s=_ACT_S)

    def resume(self, machine: str) -> None:
        """Lets a frozen machine go on."""
        self._do("resume", machine, timeout_s=_ACT_S)

    def destroy(self) -> bool:
        """Removes all machines that it knows of; false where it could not."""
        argv = [self._program, "destroy", "--force", "--parallel"]
        return attempt(argv, _DESTROY_S, env=self._env).code == 0

    def states(self) -> dict[str, HostState]:
        """What every machine does now."""
        return parse_states(self._do("status", "--machine-readable", timeout_s=_ASK_S))

    def ways(self) -> dict[str, VagrantLogin]:
        """How to come into every machine that runs."""
        return parse_ssh_config(self._do("ssh-config", timeout_s=_ASK_S))

    def _do(self, *words: str, timeout_s: float) -> str:
        return run([self._program, *words], timeout_s, env=self._env)


def told_by(text: str) -> tuple[str, ...]:
    """The last that Vagrant said, without where in its own code it was."""
    lines = (line.rstrip() for line in text.splitlines())
    return tuple(line for line in lines if line and not _BACKTRACE.match(line))[-_SHOWN:]


def parse_states(text: str) -> dict[str, HostState]:
    """Reads ``vagrant status --machine-readable``: lines of time, machine, kind and data."""
    rows = (line.split(",") for line in text.splitlines())
    return {
        row[1]: _STATES.get(row[3], "stopped")
        for row in rows
        if len(row) >= 4 and row[2] == "state" and row[1]
    }


def parse_ssh_config(text: str) -> dict[str, VagrantLogin]:
    """Reads ``vagrant ssh-config``: a block for each machine, in the form of ssh_config(5)."""
    blocks: dict[str, dict[str, str]] = {}
    block: dict[str, str] = {}
    for line in text.splitlines():
        words = shlex.split(line)
        if len(words) < 2:
            continue
        if words[0] == "Host":
            block = blocks.setdefault(words[1], {})
        else:
            block.setdefault(words[0], words[1])
    return {
        name: VagrantLogin(said["HostName"], int(said["Port"]), said["User"], said["IdentityFile"])
        for name, said in blocks.items()
    }
