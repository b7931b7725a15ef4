"""What the agent of one host is told by the inventory."""

from __future__ import annotations

import re
from functools import cache
from importlib.metadata import version

from deploytool.agent.settings import Command, NeighbourSetting, Settings, SocketSetting
from deploytool.fleet import agent_command
from deploytool.fleet.fields import Argv
from deploytool.fleet.model import Inventory, Service

_GIVEN = re.compile(r"(\{(?:current|flag|reason|by|nonce)\})")
"""What is known only when a command is run; the agent fills it in."""


def agent_path(inventory: Inventory, host: str) -> str:
    """Where the agent stands: outside the release root where root owns it."""
    service = inventory.service
    return agent_command.agent_path(service.supervisor, service.name, inventory.root(host))


def ports(inventory: Inventory, host: str) -> tuple[int, ...]:
    """The TCP ports that the service must own on this host."""
    return tuple(
        int(inventory.expand(text, host).rpartition(":")[2]) for text in inventory.service.listen
    )


def service_account(inventory: Inventory) -> str | None:
    """The account that the service runs as; None where it is the deploy account itself."""
    if inventory.service.supervisor == "process":
        return None
    return inventory.service.user or inventory.service.name


@cache
def _tool() -> str:
    return version("deploytool")


def settings_of(inventory: Inventory, host: str) -> Settings:
    """The settings that are part of the agent's file on ``host``."""
    service = inventory.service
    root = inventory.root(host)

    def command(template: Argv | None) -> Command | None:
        return None if template is None else _command(template, inventory, host)

    flags = service.flags
    return Settings(
        tool=_tool(),
        agent=agent_path(inventory, host),
        fleet=inventory.fleet,
        host=host,
        name=service.name,
        root=root,
        account=service_account(inventory),
        supervisor=service.supervisor,
        python=service.python,
        start=_command(service.start, inventory, host),
        version=_command(service.version, inventory, host),
        status=_command(service.status, inventory, host),
        socket=_socket(service, inventory, host),
        halt=command(service.halt),
        lease=command(service.lease),
        resume=command(service.resume),
        halt_signal=service.halt_signal,
        signers=inventory.signers_path(host) if inventory.signers else None,
        environment=_environment(service, inventory, host),
        ports=ports(inventory, host),
        connects=tuple(inventory.expand(text, host) for text in service.connects),
        neighbours=tuple(
            NeighbourSetting(
                executable=inventory.expand(one.executable, host),
                account=one.account,
                reason=one.reason,
            )
            for one in service.neighbours
        ),
        configs=tuple(inventory.expand(path, host) for path in inventory.config_files),
        ready_s=_whole(service.ready_timeout_s),
        stop_s=_whole(service.stop_timeout_s),
        ask_s=_whole(service.ask_timeout_s),
        flag_observe=command(flags.observe if flags else None),
        flag_prepare=command(flags.prepare if flags else None),
        flag_commit=command(flags.commit if flags else None),
        flag_settle=command(flags.settle if flags else None),
        flag_disarm=command(flags.disarm if flags else None),
    )


def _environment(service: Service, inventory: Inventory, host: str) -> tuple[str, ...]:
    given = service.unit.environment if service.unit else {}
    return tuple(f"{name}={inventory.expand(value, host)}" for name, value in given.items())


def _whole(seconds: float) -> int:
    return max(1, round(seconds))


def _socket(service: Service, inventory: Inventory, host: str) -> SocketSetting | None:
    socket = service.socket
    if socket is None:
        return None

    def line(template: str | None) -> str | None:
        return None if template is None else _word(template, inventory, host)

    return SocketSetting(
        path=inventory.expand(socket.path, host),
        status=_word(socket.status, inventory, host),
        halt=line(socket.halt),
        lease=line(socket.lease),
    )


def _command(template: Argv, inventory: Inventory, host: str) -> Command:
    """An argument list with its fixed words filled in, and the others left in braces."""
    return Command(argv=tuple(_word(word, inventory, host) for word in template))


def _word(word: str, inventory: Inventory, host: str) -> str:
    # Every second part is a word in braces that is left.
    parts = _GIVEN.split(word)
    for at in range(0, len(parts), 2):
        fixed = inventory.expand(parts[at], host)
        parts[at] = fixed.replace("{", "{{").replace("}", "}}")
    return "".join(parts)
