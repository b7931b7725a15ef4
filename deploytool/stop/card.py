"""What a stop needs to know of a fleet, and no more, read leniently and fast.

A stop must not be refused because of a mistake in a part of the inventory that has nothing to do
with it; so this reads hosts, SSH and the helper's place, checks what would otherwise end up in a
command line, and passes over the rest. It imports neither typer, pydantic, fabric nor paramiko.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deploytool.errors import InputError
from deploytool.fleet.entrance import helper_path, invocation
from deploytool.stop.rules import CONNECT_S

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")
_ADDRESS = re.compile(r"[A-Za-z0-9_:.%][A-Za-z0-9_:.%-]{0,254}")
_ACCOUNT = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_ROOT = re.compile(r"/[A-Za-z0-9._/{}-]{1,199}")
_OPTIONS = (
    *("BatchMode=yes", "StrictHostKeyChecking=yes", "GlobalKnownHostsFile=/dev/null"),
    *("UpdateHostKeys=no", "ControlMaster=no", "ControlPath=none", "ClearAllForwardings=yes"),
    *("ForwardAgent=no", "ForwardX11=no", "PermitLocalCommand=no", "RemoteCommand=none"),
    *("RequestTTY=no", "GSSAPIAuthentication=no", "LogLevel=ERROR", "Compression=no"),
    *("ServerAliveInterval=5", "ServerAliveCountMax=3"),
)
"""Nothing that the person's own configuration says may change what is run, or ask a question."""


@dataclass(frozen=True)
class Target:
    """One declared host, and the whole command that opens a line to its helper."""

    host: str
    argv: tuple[str, ...]


@dataclass(frozen=True)
class Card:
    """A fleet as a stop sees it. ``folder`` is the inventory's: the witness is run there."""

    fleet: str
    folder: str
    targets: tuple[Target, ...]
    lease_s: float = 0.0
    silence: tuple[str, ...] = ()
    silence_s: float = 5.0
    doubt: str = ""
    """Why these may not be all hosts of the fleet: nothing can then prove that it has stopped."""

    @property
    def names(self) -> tuple[str, ...]:
        """The declared hosts, in name order."""
        return tuple(target.host for target in self.targets)


class _Unfit(Exception):
    """The inventory lacks what a stop can't do without."""


def read_card(path: Path) -> Card:
    """Reads the inventory ``path``.

    Raises:
        InputError: it can't be read, or lacks what it takes to reach any host. Nothing is stopped.
    """
    try:
        return _card(yaml.load(path.read_bytes(), Loader=_LOADER), path.absolute().parent)  # noqa: S506 a safe loader
    except (OSError, yaml.YAMLError, _Unfit, ValueError, RecursionError) as error:
        raise InputError(
            f"The inventory {path} can't be read: {' '.join(str(error).split())}",
            "NOTHING WAS STOPPED: without it no host is known.",
            "Name another with -i, or stop a host by hand: see docs/runbook.md, By hand",
        ) from error


def _card(said: object, folder: Path) -> Card:
    top = _mapping(said, "the inventory")
    service, ssh = _mapping(top.get("service"), "service"), _mapping(top.get("ssh"), "ssh")
    hosts = _mapping(top.get("hosts"), "hosts")
    supervisor = service.get("supervisor")
    if supervisor not in {"systemd", "process"}:
        raise _Unfit("service.supervisor is neither systemd nor process")
    name = _fits(_NAME, service.get("name"), "service.name")
    root = _fits(_ROOT, top.get("release_root"), "release_root")
    common = _common(ssh, folder)
    targets = []
    for host in sorted(map(str, hosts)):
        _fits(_HOST, host, "a host's name")
        place = helper_path(supervisor, name, root.replace("{host}", host).rstrip("/"))
        spec = _mapping(hosts[host], host)
        argv = (*common, *_way(spec, ssh, host, folder), invocation(supervisor, place))
        targets.append(Target(host, argv))
    if not targets:
        raise _Unfit("it declares no host")
    silence = top.get("silence")
    witness = silence if isinstance(silence, dict) else {}
    fleet = str(top.get("fleet"))
    return Card(
        fleet=fleet,
        folder=str(folder),
        targets=tuple(targets),
        lease_s=_number(top.get("lease_s"), 0.0),
        silence=_argv(witness.get("command"), fleet),
        silence_s=_number(witness.get("timeout_s"), 5.0),
        doubt=_doubt(top.get("expect"), len(targets)),
    )


def _doubt(expect: object, count: int) -> str:
    """A host that is listed twice under one name is read once: only their number tells."""
    if type(expect) is int and expect == count:
        return ""
    return f"the inventory lists {count} hosts, and expects {expect!r:.20}"


def _common(ssh: dict[Any, Any], folder: Path) -> tuple[str, ...]:
    known = str(folder / str(ssh.get("known_hosts")))
    if '"' in known:
        raise _Unfit("ssh.known_hosts has a quote in its path")
    options = (*_OPTIONS, f"ConnectTimeout={CONNECT_S}", f'UserKnownHostsFile="{known}"')
    words = ["ssh", "-T", *(word for option in options for word in ("-o", option))]
    if ssh.get("config_file"):
        words += ["-F", str(folder / Path(str(ssh["config_file"])).expanduser())]
    return tuple(words)


def _way(spec: dict[Any, Any], ssh: dict[Any, Any], host: str, folder: Path) -> tuple[str, ...]:
    words: list[str] = []
    if (user := spec.get("user") or ssh.get("user")) is not None:
        words += ["-l", _fits(_ACCOUNT, user, f"{host}: user")]
    if (identity := spec.get("identity_file") or ssh.get("identity_file")) is not None:
        words += ["-o", "IdentitiesOnly=yes", "-i", str(folder / Path(str(identity)).expanduser())]
    if (port := spec.get("port")) is not None:
        words += ["-p", str(int(port))]
    return (*words, "--", _fits(_ADDRESS, spec.get("address"), f"{host}: address"))


def _mapping(value: object, what: str) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise _Unfit(f"{what} is no mapping")
    return value


def _fits(pattern: re.Pattern[str], value: object, what: str) -> str:
    text = str(value)
    if value is None or pattern.fullmatch(text) is None or "/.." in text:
        raise _Unfit(f"{what} is {text!r}")
    return text


def _number(value: object, otherwise: float) -> float:
    return float(value) if isinstance(value, int | float) and value >= 0 else otherwise


def _argv(value: object, fleet: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        return ()
    return tuple(str(word).replace("{fleet}", fleet) for word in value)
