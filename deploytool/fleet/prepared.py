"""What ``host prepare`` puts on a host: the agent, the unit and the one line of sudo rights.

All of it is rendered from the inventory, so that its digests are known before a host is asked.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from deploytool.agent.settings import Settings
from deploytool.fleet import agent_command
from deploytool.fleet.agent_file import agent_digest, agent_file
from deploytool.fleet.agent_settings import agent_path, settings_of
from deploytool.fleet.model import Digest, Inventory
from deploytool.fleet.unit import unit_file

UNIT_FOLDER = "/usr/local/lib/systemd/system"
"""A unit here can be masked; one in /etc/systemd/system can't (systemctl(1), mask)."""


@dataclass(frozen=True)
class HostFiles:
    """The files that a prepared host has, whole, and where they stand."""

    settings: Settings
    unit_path: str | None
    unit: str | None
    sudoers_path: str | None
    sudoers: str | None
    signers_path: str | None = None
    signers: str | None = None

    @property
    def members_path(self) -> str | None:
        """Where the list of members stands; None where hosts have no root."""
        return self.settings.members

    @property
    def agent_path(self) -> str:
        """Where the agent stands."""
        return self.settings.agent

    @property
    def agent(self) -> bytes:
        """The agent, whole."""
        return agent_file(self.settings)

    @property
    def agent_digest(self) -> Digest:
        """SHA-256 of the agent as it must stand on the host."""
        return agent_digest(self.settings)

    @property
    def unit_digest(self) -> Digest | None:
        """SHA-256 of the unit as it must stand on the host; None without systemd."""
        return None if self.unit is None else _digest(self.unit)

    @property
    def signers_digest(self) -> Digest | None:
        """SHA-256 of the signers file as it must stand on the host; None where nobody signs."""
        return None if self.signers is None else _digest(self.signers)


def _digest(text: str) -> Digest:
    return Digest(hashlib.sha256(text.encode()).hexdigest())


def assignments(values: Mapping[str, str]) -> list[str]:
    """Shell assignments, one a line where the values have no line breaks, every value quoted."""
    return [f"{key}={shlex.quote(value)}" for key, value in values.items()]


def _sudoers(inventory: Inventory, account: str, path: str) -> str:
    # The empty string forbids arguments (sudoers(5)): the request comes on standard input.
    return (
        f"# Written by deploytool host prepare for the fleet {inventory.fleet}.\n"
        f"Defaults!{path} !requiretty, env_reset\n"
        f'{account} ALL=(root) NOPASSWD: {path} ""\n'
    )


def host_files(inventory: Inventory, host: str, deploy_account: str) -> HostFiles:
    """Everything that preparation installs on ``host``, rendered from the inventory."""
    settings = settings_of(inventory, host)
    path = settings.agent
    systemd = inventory.service.supervisor == "systemd"
    name = inventory.service.name
    return HostFiles(
        settings=settings,
        unit_path=f"{UNIT_FOLDER}/{name}.service" if systemd else None,
        unit=unit_file(inventory, host) if systemd else None,
        sudoers_path=f"/etc/sudoers.d/deploytool-{name}" if systemd else None,
        sudoers=_sudoers(inventory, deploy_account, path) if systemd else None,
        signers_path=inventory.signers_path(host) if inventory.signers else None,
        signers=inventory.allowed_signers,
    )


def invocation(inventory: Inventory, host: str) -> str:
    """The one command line that a deploy runs on a host, whatever the request."""
    return agent_command.invocation(inventory.service.supervisor, agent_path(inventory, host))


def sudo_asks(text: str) -> bool:
    """Whether this is how sudo says that it would have had to ask for a password."""
    return re.search(r"sudo: .*(password|terminal|not allowed|may not run)", text) is not None
