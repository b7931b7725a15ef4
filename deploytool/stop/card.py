"""What a stop needs to know of a fleet, and no more, read leniently and fast.

A stop must not be refused because of a mistake in a part of the inventory that has nothing to do
with it; so this reads hosts, SSH and the helper's place, checks what would otherwise end up in a
command line, and passes over the rest. A mistake in one host's entry costs that host alone. It
imports neither typer, pydantic, fabric nor paramiko.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
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
_LEASE_AT_MOST_S = 3600.0
_SILENCE_AT_MOST_S = 60.0
"""Nobody waits longer for one answer of a witness, whatever the inventory says."""


@dataclass(frozen=True)
class Target:
    """One declared host, and the whole command that opens a line to its helper.

    ``spare`` is what is tried where that leads nowhere: without the person's own SSH configuration
    and agent, either of which may be what is broken. It is the same where the inventory needs them.
    """

    host: str
    argv: tuple[str, ...]
    spare: tuple[str, ...] = ()


@dataclass(frozen=True)
class Card:
    """A fleet as a stop sees it. ``folder`` is the inventory's: the witness is run there.

    ``unfit``: hosts whose entry is of no use, and why. They are declared, and nobody can tell them.
    """

    fleet: str
    folder: str
    targets: tuple[Target, ...]
    lease_s: float = 0.0
    silence: tuple[str, ...] = ()
    silence_s: float = 5.0
    unfit: Mapping[str, str] = field(default_factory=dict)
    doubt: str = ""
    """Why these may not be all hosts of the fleet: nothing can then prove that it has stopped."""

    @property
    def names(self) -> tuple[str, ...]:
        """The declared hosts, in name order."""
        return tuple(sorted((*(target.host for target in self.targets), *self.unfit)))

    @property
    def shown(self) -> Mapping[str, tuple[str, ...]]:
        """The names of all entries of a host, by what a person types."""
        found: dict[str, tuple[str, ...]] = {}
        for name in self.names:
            host = name.partition(",")[0]
            found[host] = (*found.get(host, ()), name)
        return found


class _Unfit(Exception):
    """The inventory lacks what a stop can't do without."""


def read_card(path: Path) -> Card:
    """Reads the inventory ``path``.

    Raises:
        InputError: it can't be read, or lacks what it takes to reach any host. Nothing is stopped.
    """
    try:
        said, twice = _read(path.read_bytes())
        return _card(said, twice, path.absolute().parent)
    except (OSError, yaml.YAMLError, _Unfit, ValueError, RecursionError) as error:
        raise InputError(
            f"The inventory {path} can't be read: {' '.join(str(error).split())}",
            "NOTHING WAS STOPPED: without it no host is known.",
            "Name another with -i, or stop a host by hand: see docs/runbook.md, By hand",
        ) from error


def _read(text: bytes) -> tuple[object, list[tuple[str, Any]]]:
    """What it says, and the entries of hosts that another of the same name would hide."""
    loader = _LOADER(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None, []
        blocks = [entries for key, entries in _pairs(node) if key == "hosts"]
        seen = dict(blocks[-1] if blocks else ())
        hidden = [(h, one) for block in blocks for h, one in block if seen.get(h) is not one]
        twice = [(name, loader.construct_object(one, deep=True)) for name, one in hidden]
        return loader.construct_document(node), twice
    finally:
        loader.dispose()


def _pairs(top: yaml.Node) -> Iterator[tuple[str, list[tuple[str, yaml.Node]]]]:
    """Each key of a mapping of mappings, also one that stands there twice, and what is under it."""
    for key, value in top.value if isinstance(top, yaml.MappingNode) else ():
        inner = value.value if isinstance(value, yaml.MappingNode) else ()
        yield str(key.value), [(str(name.value), one) for name, one in inner]


def _card(said: object, twice: list[tuple[str, Any]], folder: Path) -> Card:
    top = _mapping(said, "the inventory")
    service, ssh = _mapping(top.get("service"), "service"), _mapping(top.get("ssh"), "ssh")
    supervisor = service.get("supervisor")
    if supervisor not in {"systemd", "process"}:
        raise _Unfit("service.supervisor is neither systemd nor process")
    name = _fits(_NAME, service.get("name"), "service.name")
    root = _fits(_ROOT, top.get("release_root"), "release_root")
    common = _common(ssh, folder)
    entries = [(str(h), str(h), one) for h, one in _mapping(top.get("hosts"), "hosts").items()]
    # Who is declared twice is told twice: one of the two would be forgotten, and trade on.
    for host, entry in twice:
        taken = sum(host == other for _, other, _ in entries)
        entries.append((f"{host}, entry {taken + 1}" if taken else host, host, entry))
    targets, unfit = [], {}
    for shown, host, entry in sorted(entries, key=lambda one: one[:2]):
        try:
            _fits(_HOST, host, "a host's name")
            place = helper_path(supervisor, name, root.replace("{host}", host).rstrip("/"))
            way = (*_way(_mapping(entry, host), ssh, host, folder), invocation(supervisor, place))
        except (_Unfit, ValueError, TypeError) as error:
            unfit[shown] = " ".join(str(error).split())
            continue
        targets.append(Target(shown, (*common, *way), (*common, *_spare(ssh, entry), *way)))
    if not targets:
        raise _Unfit("; ".join(unfit.values()) or "it declares no host")
    silence = top.get("silence")
    witness = silence if isinstance(silence, dict) else {}
    fleet = str(top.get("fleet"))
    return Card(
        fleet=fleet,
        folder=str(folder),
        targets=tuple(targets),
        lease_s=_number(top.get("lease_s"), 0.0, _LEASE_AT_MOST_S),
        silence=_argv(witness.get("command"), fleet),
        silence_s=_number(witness.get("timeout_s"), 5.0, _SILENCE_AT_MOST_S),
        unfit=unfit,
        doubt=_doubt(top.get("expect"), len({host for _, host, _ in entries})),
    )


def _doubt(expect: object, count: int) -> str:
    """A host that stands there twice, or not at all: only the number of names tells."""
    if type(expect) is int and expect == count:
        return ""
    return f"the inventory lists {count} hosts, and expects {expect!r:.20}"


def _common(ssh: dict[Any, Any], folder: Path) -> tuple[str, ...]:
    known = str(folder / str(ssh.get("known_hosts")))
    if set(known) & {'"', "\0", "\n"}:
        raise _Unfit(f"ssh.known_hosts can't be a path: {known!r}")
    options = (*_OPTIONS, f"ConnectTimeout={CONNECT_S}", f'UserKnownHostsFile="{known}"')
    words = ["ssh", "-T", *(word for option in options for word in ("-o", option))]
    if ssh.get("config_file"):
        words += ["-F", _place(folder, ssh["config_file"])]
    return tuple(words)


def _spare(ssh: dict[Any, Any], spec: dict[Any, Any]) -> tuple[str, ...]:
    """What leaves out of the way to a host that which the inventory did not name."""
    words: tuple[str, ...] = ()
    if not ssh.get("config_file"):
        words += ("-F", "none")
    if spec.get("identity_file") or ssh.get("identity_file"):
        words += ("-o", "IdentityAgent=none")
    return words


def _way(spec: dict[Any, Any], ssh: dict[Any, Any], host: str, folder: Path) -> tuple[str, ...]:
    words: list[str] = []
    if (user := spec.get("user") or ssh.get("user")) is not None:
        words += ["-l", _fits(_ACCOUNT, user, f"{host}: user")]
    if (identity := spec.get("identity_file") or ssh.get("identity_file")) is not None:
        words += ["-o", "IdentitiesOnly=yes", "-i", _place(folder, identity)]
    if (port := spec.get("port")) is not None:
        words += ["-p", str(int(port))]
    return (*words, "--", _fits(_ADDRESS, spec.get("address"), f"{host}: address"))


def _place(folder: Path, value: object) -> str:
    try:
        text = str(folder / Path(str(value)).expanduser())
    except RuntimeError:
        text = str(value)  # nobody here knows that home; ssh(1) may
    if "\0" in text:
        raise _Unfit(f"{text!r} can't be a path")
    return text


def _mapping(value: object, what: str) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise _Unfit(f"{what} is no mapping")
    return value


def _fits(pattern: re.Pattern[str], value: object, what: str) -> str:
    text = str(value)
    if value is None or pattern.fullmatch(text) is None or "/.." in text:
        raise _Unfit(f"{what} is {text!r}")
    return text


def _number(value: object, otherwise: float, at_most: float) -> float:
    """A number of seconds. One that can't be (.inf, a word) is as none, and never a crash."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return otherwise
    return float(value) if 0 <= value <= at_most else otherwise


def _argv(value: object, fleet: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        return ()
    return tuple(str(word).replace("{fleet}", fleet) for word in value)
