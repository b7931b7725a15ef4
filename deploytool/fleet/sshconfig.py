"""What OpenSSH would do for a host: asked of ``ssh -G``, never guessed.

Paramiko's own reader of ``~/.ssh/config`` silently ignores ``Include`` and more.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from deploytool.errors import EnvironmentProblem
from deploytool.fleet.model import Inventory

_DEADLINE_S = 10
_JUMPS_AT_MOST = 4


@dataclass(frozen=True)
class Route:
    """How to reach one machine. ``jumps`` come first, the nearest to us foremost."""

    hostname: str
    port: int
    user: str
    key_name: str
    """The name under which known_hosts must pin its key."""
    identity_files: tuple[str, ...] = ()
    identities_only: bool = False
    agent: bool = True
    proxy_command: str | None = None
    jumps: tuple[Route, ...] = ()


def route(inventory: Inventory, host: str) -> Route:
    """The route to a declared host: the inventory's word, and where it is silent OpenSSH's.

    Raises:
        EnvironmentProblem: there is no ``ssh`` here, or it refuses its configuration.
    """
    spec, ssh = inventory.hosts[host], inventory.ssh
    port = [] if spec.port is None else ["-p", str(spec.port)]
    user = spec.user or ssh.user
    identity = spec.identity_file or ssh.identity_file
    said = _ask(ssh.config_file, [*port, *(["-l", user] if user else []), spec.address])
    return _route(said, ssh.config_file, identity, depth=0)


def _route(
    said: dict[str, list[str]], config: str | None, identity: str | None, depth: int
) -> Route:
    hostname, port = said["hostname"][0], int(said["port"][0])
    alias = said.get("hostkeyalias", [""])[0]
    jump = said.get("proxyjump", ["none"])[0]
    command = said.get("proxycommand", ["none"])[0]
    files = [identity] if identity else said.get("identityfile", [])
    return Route(
        hostname=hostname,
        port=port,
        user=said["user"][0],
        key_name=alias or (hostname if port == 22 else f"[{hostname}]:{port}"),
        identity_files=tuple(
            str(path) for path in (Path(file).expanduser() for file in files) if path.is_file()
        ),
        identities_only=bool(identity) or said.get("identitiesonly", ["no"])[0] == "yes",
        agent=said.get("identityagent", [""])[0] != "none",
        proxy_command=None if command == "none" else command,
        jumps=() if jump == "none" else _jumps(jump, config, depth + 1),
    )


def _jumps(text: str, config: str | None, depth: int) -> tuple[Route, ...]:
    """``ProxyJump user@a:port,b``: each is itself a destination of OpenSSH's configuration."""
    destinations = text.split(",")
    if depth > _JUMPS_AT_MOST or len(destinations) > _JUMPS_AT_MOST:
        raise EnvironmentProblem(
            f"ProxyJump {text} goes through more than {_JUMPS_AT_MOST} machines.",
            "Nothing was touched.",
            "Look for a loop: ssh -G HOST | grep -i proxyjump",
        )
    routes = []
    for destination in destinations:
        user, _, place = destination.rpartition("@")
        name, colon, port = place.rpartition(":")
        if not colon or not port.isdigit():
            name, port = place, ""
        arguments = [*(["-l", user] if user else []), *(["-p", port] if port else [])]
        said = _ask(config, [*arguments, name.strip("[]")])
        routes.append(_route(said, config, None, depth))
    return tuple(routes)


def _ask(config: str | None, arguments: list[str]) -> dict[str, list[str]]:
    command = ["ssh", "-G", *(["-F", config] if config else []), *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_DEADLINE_S, check=False
        )
    except FileNotFoundError as error:
        raise EnvironmentProblem(
            "There is no OpenSSH client (ssh) on this machine.",
            "Nothing was touched.",
            "Install it: apt-get install openssh-client",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise EnvironmentProblem(
            f"'{' '.join(command)}' did not answer within {_DEADLINE_S} s.",
            "Nothing was touched.",
            "Look for a 'Match exec' in the SSH configuration that hangs.",
        ) from error
    if done.returncode != 0:
        raise EnvironmentProblem(
            f"OpenSSH refuses its configuration: {done.stderr.strip()}",
            "Nothing was touched.",
            f"Try it by hand: {' '.join(command)}",
        )
    said: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        key, _, value = line.partition(" ")
        said.setdefault(key.lower(), []).append(value)
    return said
