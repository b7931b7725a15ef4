"""GATE_INVENTORY: each fleet is declared whole: count, keys, deadlines, senders."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from deploytool.errors import InputError
from deploytool.fleet.known_hosts import read_pins
from deploytool.fleet.model import HostSpec
from deploytool.fleet.yaml_source import Location
from deploytool.gate.check_flags import Found
from deploytool.gate.declared import Declared
from deploytool.gate.model import Check, GateFinding
from deploytool.gate.subject import Subject

RULE = Check.INVENTORY.value
DEADLINES = (
    ("ssh", "connect_timeout_s"),
    ("ssh", "command_timeout_s"),
    ("service", "ready_timeout_s"),
    ("gateway", "timeout_s"),
    ("membership", "timeout_s"),
    ("silence", "timeout_s"),
)
"""What has to be written down, where its block is there: a default is nobody's decision."""
SENDERS = ("gateway", "membership")


def inventory(subject: Subject) -> Found:
    """What is to be said against each inventory in the repository.

    Raises:
        InputError: there is no repository, or no inventory in it.
    """
    runtime = _runtime_flags(subject)
    findings: list[GateFinding] = []
    for path, declared in subject.declared.items():
        found = declared if isinstance(declared, tuple) else objections(declared, runtime=runtime)
        findings += [subject.finding(item) for item in found]
        if isinstance(declared, Declared) and declared.inventory.throwaway:
            at, text = declared.line("throwaway"), "a throwaway fleet is kept in the repository"
            remedy = "take it out: `fleet up` writes such inventories, and `fleet down` ends them"
            findings.append(subject.finding(GateFinding(RULE, str(path), at, text, remedy)))
    names = ", ".join(subject.name(path) for path in subject.declared)
    return (f"{len(subject.declared)} inventories: {names}",), tuple(findings)


def objections(declared: Declared, *, runtime: bool) -> Iterator[GateFinding]:
    """What is to be said against it; ``runtime``: the release has flags that are armed.

    That the count is right and no two hosts have one address was seen when it was loaded.
    """
    yield from _keys(declared)
    yield from _deadlines(declared)
    for key in SENDERS if runtime else ():
        if getattr(declared.inventory, key) is None:
            text = f"it names no {key}, and the release has flags that are armed while it runs"
            remedy = f"name the commands under {key}: inventories/example.yaml shows how"
            yield GateFinding(RULE, str(declared.path), declared.line(key), text, remedy)


def _keys(declared: Declared) -> Iterator[GateFinding]:
    """Each host has a pinned key, and no two hosts have the same."""
    known = Path(declared.inventory.ssh.known_hosts)
    path = str(declared.path)
    try:
        pinned = read_pins(known)
    except InputError as error:
        yield GateFinding(RULE, path, declared.line("ssh", "known_hosts"), error.told(), error.now)
        return
    owners: dict[bytes, list[str]] = defaultdict(list)
    per_host_root = "{host}" in declared.inventory.release_root
    for name in declared.inventory.names:
        spec = declared.inventory.hosts[name]
        keys = pinned.under(key_name(spec), spec.address)
        if not keys:
            text = f"no host key is pinned for {name} ({key_name(spec)}) in {known.name}"
            remedy = f"read the key at its console, and write it to {known.name}"
            yield GateFinding(RULE, path, declared.line("hosts", name), text, remedy)
        for key in keys:
            owners[key.asbytes()].append(name)
    for names in owners.values():
        if len(names) > 1 and not per_host_root:
            text = f"{', '.join(names)} have one host key: that is one machine, or a copied image"
            line = declared.line("hosts", names[1])
            yield GateFinding(
                RULE, path, line, text, "give each host a key of its own, and pin that"
            )


def key_name(spec: HostSpec) -> str:
    """The name under which a host's key is pinned, where OpenSSH's configuration adds nothing."""
    return spec.address if spec.port in {None, 22} else f"[{spec.address}]:{spec.port}"


def _deadlines(declared: Declared) -> Iterator[GateFinding]:
    said = declared.document.value
    for block, key in DEADLINES:
        inside = said.get(block)
        if isinstance(inside, dict) and key not in inside:
            where: Location = (block,)
            text = f"{block}.{key} is not set: no one has decided how long to wait there"
            remedy = f"write {key} under {block}"
            yield GateFinding(RULE, str(declared.path), declared.document.line(where), text, remedy)


def _runtime_flags(subject: Subject) -> bool:
    """Whether the registry has flags that are armed; where it can't be read, it may have."""
    try:
        return any(flag.activation == "runtime" for flag in subject.written.registry.flags)
    except InputError:
        return True
