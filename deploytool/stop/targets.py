"""What a stop needs to know of a fleet, and no more, read leniently and fast.

A stop must not be refused because of a mistake in a part of the inventory that has nothing to do
with it; so this reads hosts, SSH and the agent's place, checks what would otherwise end up in a
command line, and passes over the rest. A mistake in one host's entry costs that host alone. It
imports neither typer, pydantic, fabric nor paramiko.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from deploytool.errors import InputError
from deploytool.fleet.agent_command import agent_path, invocation
from deploytool.fleet.names import ACCOUNT, ADDRESS, HOST, NAME, ROOT, UPWARDS
from deploytool.fleet.openssh import UNVERIFIED, as_words, configuration, settings
from deploytool.fleet.paths import PlainNames, folder_of, located
from deploytool.fleet.pinlines import flaw
from deploytool.stop.reading import Found, read_inventory
from deploytool.stop.table import CONNECT_S

_LEASE_AT_MOST_S = 3600.0
_SILENCE_AT_MOST_S = 60.0
"""Nobody waits longer for one answer of a witness, whatever the inventory says."""


@dataclass(frozen=True)
class Target:
    """One declared host, and the whole command that opens a line to its agent.

    ``spare`` is what is tried where that leads nowhere: without the person's own SSH configuration
    and agent, either of which may be what is broken. It is the same where the inventory needs them.
    """

    host: str
    argv: tuple[str, ...]
    spare: tuple[str, ...] = ()
    unpinned: str = ""
    """Why the pinned keys are of no use where the client finds none for this host; empty where
    they are all readable: then a host without one is told nothing."""
    configurations: tuple[str, str] = ("", "")
    """The one in ``argv``, and the one that stands for it where no key can be verified."""


@dataclass(frozen=True)
class StopTargets:
    """A fleet as a stop sees it. ``folder`` is the inventory's: the witness is run there.

    ``unfit``: hosts whose entry is of no use, and why. They are declared, and nobody can tell them.
    """

    fleet: str
    folder: str
    targets: tuple[Target, ...]
    lease_s: float = 0.0
    silence: tuple[str, ...] = ()
    silence_s: float = 5.0
    supervisor: str = "systemd"
    signers: bool = False
    """Whether the inventory names people who may start a host again by signing for it."""
    others: tuple[str, ...] = ()
    """Names that the witness may name and that belong to another fleet."""
    unfit: Mapping[str, str] = field(default_factory=dict)
    doubt: str = ""
    """Why these may not be all hosts of the fleet: nothing can then prove that it has stopped."""
    plain: PlainNames = field(default_factory=PlainNames, repr=False, compare=False)
    """What keeps the names of files good that stand in the targets' commands."""

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


def unverified(target: Target, argv: tuple[str, ...]) -> tuple[str, ...]:
    """The same command, for a host whose key nobody can verify.

    What comes first counts, for ssh(1). Nothing is written down of the key, and there is nothing
    for an impostor to take: no password, nothing forwarded, no key of an agent that no file names.
    """
    strict, lax = target.configurations
    words = (lax if strict and word == strict else word for word in argv[1:])
    return (argv[0], *as_words(UNVERIFIED), *words)


class _Unfit(Exception):
    """The inventory lacks what a stop can't do without."""


def read_targets(path: Path) -> StopTargets:
    """Reads the inventory ``path``.

    Raises:
        InputError: it can't be read, or lacks what it takes to reach any host. Nothing is stopped.
    """
    try:
        return _card(read_inventory(path), folder_of(path))
    except (OSError, yaml.YAMLError, _Unfit, ValueError, RecursionError) as error:
        raise InputError(
            f"The inventory {path} can't be read: {' '.join(str(error).split())}",
            "NOTHING WAS STOPPED: without it no host is known.",
            "Name another with -i, or stop a host by hand: see docs/runbook.md, By hand",
        ) from error


def _card(found: Found, folder: Path) -> StopTargets:
    top = found.top
    service, ssh = _mapping(top.get("service"), "service"), _mapping(top.get("ssh"), "ssh")
    supervisor = service.get("supervisor")
    if supervisor not in {"systemd", "process"}:
        raise _Unfit("service.supervisor is neither systemd nor process")
    name = _fits(NAME, service.get("name"), "service.name")
    root = _fits(ROOT, top.get("release_root"), "release_root")
    plain = PlainNames()
    known_hosts = located(folder, str(ssh.get("known_hosts")))
    unpinned = f"{known_hosts} {why}" if (why := flaw(known_hosts)) else ""
    options = settings(plain.of(str(known_hosts)), CONNECT_S)
    own = str(located(folder, str(ssh["config_file"]))) if ssh.get("config_file") else None
    strict = configuration(options, own, plain)
    # Only a flawed file needs it: each is a descriptor that is held for as long as the stop lasts.
    lax = configuration((*UNVERIFIED, *options), own, plain) if unpinned else ""
    if found.hosts is None:
        raise _Unfit("hosts is no mapping")
    entries: list[tuple[str, str, Any]] = []
    taken = Counter[str]()
    # Who is declared twice is told twice: one of the two would be forgotten, and trade on.
    for host, entry in found.hosts:
        taken[host] += 1
        entries.append((host if taken[host] == 1 else f"{host}, entry {taken[host]}", host, entry))
    targets, unfit = (
        [],
        {f"{host}, unread" if host in taken else host: why for host, why in found.unread.items()},
    )
    for shown, host, entry in sorted(entries, key=lambda one: one[:2]):
        try:
            _fits(HOST, host, "a host's name")
            place = agent_path(supervisor, name, root.replace("{host}", host).rstrip("/"))
            way = (
                *_way(_mapping(entry, host), ssh, host, folder, plain),
                invocation(supervisor, place),
            )
        except (_Unfit, ValueError, TypeError) as error:
            unfit[shown] = " ".join(str(error).split())
            continue
        argv = ("ssh", "-T", "-F", strict, *way)
        spare = ("ssh", "-T", *_spare(ssh, entry, options, strict), *way)
        targets.append(Target(shown, argv, spare, unpinned, (strict, lax)))
    if not targets:
        raise _Unfit("; ".join(unfit.values()) or "it declares no host")
    silence = top.get("silence")
    witness = silence if isinstance(silence, dict) else {}
    fleet = str(top.get("fleet"))
    return StopTargets(
        fleet=fleet,
        folder=str(folder),
        targets=tuple(targets),
        lease_s=_number(top.get("lease_s"), 0.0, _LEASE_AT_MOST_S),
        plain=plain,
        silence=_argv(witness.get("command"), fleet),
        silence_s=_number(witness.get("timeout_s"), 5.0, _SILENCE_AT_MOST_S),
        others=_names(witness.get("others")),
        supervisor=supervisor,
        signers=bool(top.get("signers")),
        unfit=unfit,
        doubt=_doubt(top.get("expect"), len(taken.keys() | found.unread), found.trouble),
    )


def _doubt(expect: object, count: int, trouble: str) -> str:
    """A host that is declared twice, or not at all: only the number of names tells."""
    doubts = [f"of the inventory, {trouble}"] if trouble else []
    if type(expect) is not int or expect != count:
        doubts.append(f"the inventory lists {count} hosts, and expects {expect!r:.20}")
    return "; ".join(doubts)


def _spare(
    ssh: dict[Any, Any], spec: dict[Any, Any], options: tuple[tuple[str, str], ...], strict: str
) -> tuple[str, ...]:
    """What leaves out of the way to a host that which the inventory did not name."""
    words = ("-F", strict) if ssh.get("config_file") else ("-F", "none", *as_words(options))
    if spec.get("identity_file") or ssh.get("identity_file"):
        words += ("-o", "IdentityAgent=none")
    return words


def _way(
    spec: dict[Any, Any], ssh: dict[Any, Any], host: str, folder: Path, plain: PlainNames
) -> tuple[str, ...]:
    words: list[str] = []
    if (user := spec.get("user") or ssh.get("user")) is not None:
        words += ["-l", _fits(ACCOUNT, user, f"{host}: user")]
    if (identity := spec.get("identity_file") or ssh.get("identity_file")) is not None:
        offered = plain.identity(str(located(folder, str(identity))))
        words += [w for option in ("IdentitiesOnly=yes", *offered) for w in ("-o", option)]
    if (port := spec.get("port")) is not None:
        words += ["-p", str(int(port))]
    return (*words, "--", _fits(ADDRESS, spec.get("address"), f"{host}: address"))


def _mapping(value: object, what: str) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise _Unfit(f"{what} is no mapping")
    return value


def _fits(pattern: str, value: object, what: str) -> str:
    text = str(value)
    if value is None or re.fullmatch(pattern, text) is None or UPWARDS in text:
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


def _names(value: object) -> tuple[str, ...]:
    """A list of names. What is none excuses nobody."""
    return tuple(map(str, value)) if isinstance(value, list) else ()
