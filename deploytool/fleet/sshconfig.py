"""What OpenSSH would do for a host: asked of ``ssh -G``, never guessed.

Paramiko's own reader of ``~/.ssh/config`` silently ignores ``Include`` and more. What ``ssh -G``
leaves for later (tokens such as ``%h``, the jumps of a jump host) is worked out here as ssh does.
What our own settings decide (``openssh``) is in the answer of ``ssh -G`` already.
"""

from __future__ import annotations

import getpass
import os
import re
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from deploytool.errors import EnvironmentProblem
from deploytool.fleet.model import Inventory
from deploytool.fleet.openssh import configuration, settings
from deploytool.fleet.paths import PlainNames, expand_home, home

_DEADLINE_S = 10
_JUMPS_AT_MOST = 4
_TOKEN = re.compile(r"%(.?)")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True)
class Route:
    """How to reach one machine. ``jumps`` come first, the nearest to us foremost.

    None of the jumps has jumps of its own, and only the first of all hops has a ``proxy_command``.
    """

    hostname: str
    port: int
    user: str
    key_name: str
    """The name under which known_hosts must pin its key."""
    other_name: str | None = None
    """As ``ssh`` does, the bare name counts where none is pinned with the port; None: no other."""
    identity_files: tuple[str, ...] = ()
    """Those that are there, or whose public half (``.pub``) is: an agent may hold the rest.

    One that the inventory names stands here in any case.
    """
    certificate_files: tuple[str, ...] = ()
    """Certificates that are named (``CertificateFile``); one beside its key counts besides."""
    identities_only: bool = False
    agent: str | None = None
    """The agent's socket."""
    family: str = "any"
    """Which addresses of its name are tried: ``any``, ``inet`` or ``inet6``."""
    bind_address: str | None = None
    """Our own address on the line."""
    proxy_command: str | None = None
    """A line for the shell, with its tokens filled in."""
    jumps: tuple[Route, ...] = ()

    @property
    def hops(self) -> tuple[Route, ...]:
        """All machines on the way, this one last."""
        return (*self.jumps, self)

    def by(self, user: str | None, identity_file: str | None) -> Route:
        """The same for another account, or with no other key than this; None changes nothing."""
        way = self if user is None else replace(self, user=user)
        if identity_file is None:
            return way
        own = (identity_file,)
        return replace(way, identity_files=own, certificate_files=(), identities_only=True)


def route(inventory: Inventory, host: str) -> Route:
    """The route to a declared host: the inventory's word, and where it is silent OpenSSH's.

    Raises:
        EnvironmentProblem: there is no ``ssh`` here, it refuses its configuration, or that wants
            what is not done here.
    """
    spec, ssh = inventory.hosts[host], inventory.ssh
    port = [] if spec.port is None else ["-p", str(spec.port)]
    user = spec.user or ssh.user
    identity = spec.identity_file or ssh.identity_file
    config = _Config(ssh.config_file, ssh.known_hosts, ssh.connect_timeout_s)
    asked = _ask(config, [*port, *(["-l", user] if user else [])], spec.address)
    return _route(asked, config, identity, depth=0)


class _Config:
    """What ``ssh -G`` is asked with: our settings, then the person's own.

    Raises:
        EnvironmentProblem: the file that the inventory names is not there.
    """

    def __init__(self, own: str | None, known_hosts: str, connect_timeout_s: float) -> None:
        if own is not None and not os.access(own, os.R_OK):
            raise EnvironmentProblem(
                f"The SSH configuration {own} can't be read.",
                "Nothing was touched.",
                "Fix ssh.config_file in the inventory, or the file's permissions.",
            )
        self._plain = PlainNames()
        options = settings(self._plain.of(known_hosts), connect_timeout_s)
        self.own = own
        self.whole = configuration(options, own, self._plain)


@dataclass(frozen=True)
class _Answer:
    """What ``ssh -G`` says of a destination, and what that was called."""

    name: str
    said: Mapping[str, list[str]]

    def one(self, key: str, otherwise: str) -> str:
        return self.said.get(key, [otherwise])[0]


_NOT_DONE = {
    "BindInterface": "",
    "PKCS11Provider": "none",
    "RevokedHostKeys": "none",
}
"""What would change which keys are trusted or offered, and is refused: by its value for "unset"."""


def _route(asked: _Answer, config: _Config, identity: str | None, depth: int) -> Route:
    hostname, port = asked.said["hostname"][0], int(asked.said["port"][0])
    alias = asked.one("hostkeyalias", "")
    jump, command = asked.one("proxyjump", "none"), asked.one("proxycommand", "none")
    unset = dict(_NOT_DONE)
    if command != "none":
        unset["ProxyUseFdpass"] = "no"
    for key, otherwise in unset.items():
        if asked.one(key.lower(), otherwise) != otherwise:
            raise _not_done(f"{key}, which {asked.name} has,", asked.name)
    jumps: tuple[Route, ...] = ()
    if jump != "none":
        jumps = _jumps(_expand(jump, "ProxyJump", asked, _ways(asked)), config, depth + 1)
    return Route(
        hostname=hostname,
        port=port,
        user=asked.said["user"][0],
        key_name=alias or (hostname if port == 22 else f"[{hostname}]:{port}"),
        other_name=None if alias or port == 22 else hostname,
        identity_files=_identity_files(asked, identity),
        certificate_files=_certificate_files(asked),
        identities_only=bool(identity) or asked.one("identitiesonly", "no") == "yes",
        agent=_agent(asked),
        family=asked.one("addressfamily", "any"),
        bind_address=asked.one("bindaddress", "") or None,
        proxy_command=None
        if jumps or command == "none"
        else _expand(command, "ProxyCommand", asked, _ways(asked)),
        jumps=jumps,
    )


def _jumps(text: str, config: _Config, depth: int) -> tuple[Route, ...]:
    """``ProxyJump user@a:port,b``: each is itself a destination of OpenSSH's configuration.

    As with ssh, the first is reached by its own ``ProxyJump`` or ``ProxyCommand``, and each other
    one through the one before it, whatever its own configuration says.
    """
    destinations = text.split(",")
    first, *others = destinations if depth <= _JUMPS_AT_MOST else (None,)
    if first is None:
        raise _too_many(text)
    start = _route(_destination(first, config), config, None, depth)
    routes = [*start.jumps, replace(start, jumps=())]
    for other in others:
        asked = _destination(other, config)
        alone = {**asked.said, "proxyjump": ["none"], "proxycommand": ["none"]}
        routes.append(_route(replace(asked, said=alone), config, None, depth))
    if len(routes) > _JUMPS_AT_MOST:
        raise _too_many(text)
    return tuple(routes)


def _too_many(text: str) -> EnvironmentProblem:
    return EnvironmentProblem(
        f"ProxyJump {text} goes through more than {_JUMPS_AT_MOST} machines.",
        "Nothing was touched.",
        "Look for a loop: ssh -G HOST | grep -i proxyjump",
    )


def _destination(text: str, config: _Config) -> _Answer:
    user, _, place = text.strip().removeprefix("ssh://").rpartition("@")
    name, colon, port = place.rpartition(":")
    if not colon or not port.isdigit():
        name, port = place, ""
    arguments = [*(["-l", user] if user else []), *(["-p", port] if port else [])]
    return _ask(config, arguments, name.strip("[]"))


def _identity_files(asked: _Answer, identity: str | None) -> tuple[str, ...]:
    if identity:
        return (identity,)  # a person named it: where it is not there, that has to be said
    files = (_file(text, "IdentityFile", asked) for text in asked.said.get("identityfile", []))
    return tuple(file for file in files if Path(file).is_file() or Path(f"{file}.pub").is_file())


def _certificate_files(asked: _Answer) -> tuple[str, ...]:
    files = (_file(t, "CertificateFile", asked) for t in asked.said.get("certificatefile", []))
    return tuple(file for file in files if Path(file).is_file())


def _agent(asked: _Answer) -> str | None:
    said = asked.one("identityagent", "SSH_AUTH_SOCK")
    if said == "none":
        return None
    variable = said if said == "SSH_AUTH_SOCK" else said.removeprefix("$").strip("{}")
    if said == "SSH_AUTH_SOCK" or (said.startswith("$") and variable.isidentifier()):
        return os.environ.get(variable) or None
    return _file(said, "IdentityAgent", asked)


def _file(text: str, what: str, asked: _Answer) -> str:
    """A path with what ssh fills in: ``~``, variables, and tokens."""
    if (found := expand_home(text)).startswith("~"):
        raise _not_done(f"{what} {text}", asked.name)
    text = found

    def variable(found: re.Match[str]) -> str:
        if found.group(1) not in os.environ:
            raise _not_done(
                f"{what} {text}, with no {found.group(1)} in the environment,", asked.name
            )
        return os.environ[found.group(1)].replace("%", "%%")

    here = socket.gethostname()
    return _expand(
        _VARIABLE.sub(variable, text),
        what,
        asked,
        {
            **_ways(asked),
            "d": home() or "",
            "i": str(os.getuid()),
            "l": here,
            "L": here.partition(".")[0],
            "u": getpass.getuser(),
        },
    )


def _ways(asked: _Answer) -> dict[str, str]:
    """The tokens that every setting knows."""
    return {
        "%": "%",
        "h": asked.said["hostname"][0],
        "k": asked.one("hostkeyalias", "") or asked.name,
        "n": asked.name,
        "p": asked.said["port"][0],
        "r": asked.said["user"][0],
    }


def _expand(text: str, what: str, asked: _Answer, tokens: Mapping[str, str]) -> str:
    def filled(found: re.Match[str]) -> str:
        if (value := tokens.get(found.group(1))) is None:
            raise _not_done(f"{what} {text}, with the token {found.group(0)},", asked.name)
        return value

    return _TOKEN.sub(filled, text)


def _not_done(what: str, name: str) -> EnvironmentProblem:
    return EnvironmentProblem(
        f"{what} is not supported.",
        "Nothing was touched.",
        f"Write it out for this host, in the file that ssh.config_file names; see: ssh -G {name}",
    )


def _ask(config: _Config, arguments: list[str], name: str) -> _Answer:
    command = ["ssh", "-G", "-F", config.whole, *arguments, name]
    by_hand = " ".join(["ssh", "-G", *(["-F", config.own] if config.own else []), *arguments, name])
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
            f"'{by_hand}' did not answer within {_DEADLINE_S} s.",
            "Nothing was touched.",
            "Look for a 'Match exec' in the SSH configuration that hangs.",
        ) from error
    if done.returncode != 0:
        raise EnvironmentProblem(
            f"OpenSSH refuses its configuration: {done.stderr.strip()}",
            "Nothing was touched.",
            f"Try it by hand: {by_hand}",
        )
    said: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        key, _, value = line.partition(" ")
        said.setdefault(key.lower(), []).append(value)
    return _Answer(name, said)
