"""Reads an inventory; every mistake in it is named by file and line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml
from pydantic import ValidationError

from deploytool.errors import InputError
from deploytool.fleet.known_hosts import read_pins
from deploytool.fleet.model import PLACEHOLDER, Inventory
from deploytool.fleet.paths import folder_of, located
from deploytool.fleet.placeholders import flag_checks, placeholder_checks, stop_checks
from deploytool.fleet.signers import read_signers
from deploytool.fleet.yaml_source import Document, Mistake, from_pydantic, named

_BYTES_AT_MOST = 4 * 1024 * 1024
_SYSTEMS = (
    *("/bin/", "/boot/", "/dev/", "/etc/", "/lib/", "/lib32/", "/lib64/", "/proc/", "/root/"),
    *("/sbin/", "/sys/", "/usr/"),
)
"""What a service has no business to write to: programs, libraries, settings, the kernel's files."""


def _cross_checks(value: object) -> Iterator[Mistake]:
    """What must hold between fields; it looks at raw values, whatever else fails."""
    if not isinstance(value, dict) or not isinstance(hosts := value.get("hosts"), dict):
        return
    expect = value.get("expect")
    if isinstance(expect, int) and expect != len(hosts):
        yield Mistake(
            ("expect",),
            f"found {expect}, but {len(hosts)} hosts are listed; the two must be equal",
        )
    yield from _wave_checks(value.get("waves"), len(hosts))
    yield from _address_checks(value, hosts)
    yield from placeholder_checks(value, hosts)
    yield from _service_checks(value, hosts)
    yield from flag_checks(value)
    yield from stop_checks(value)
    yield from _silence_checks(value.get("silence"), hosts)


def _wave_checks(waves: object, count: int) -> Iterator[Mistake]:
    if not isinstance(waves, tuple):
        return
    if "rest" in waves[:-1]:
        yield Mistake(("waves",), "'rest' is allowed as the last wave only")
    sizes = [size for size in waves if isinstance(size, int)]
    if "rest" not in waves and sum(sizes) != count:
        yield Mistake(
            ("waves",),
            f"the waves hold {sum(sizes)} hosts, but {count} are listed; end with 'rest'",
        )


def _silence_checks(silence: object, hosts: dict[object, object]) -> Iterator[Mistake]:
    """A host of this fleet is judged: it can't be excused as another fleet's."""
    others = silence.get("others") if isinstance(silence, dict) else None
    for number, name in enumerate(others if isinstance(others, tuple) else ()):
        if name in hosts:
            text = f"found {name}, which is a host of this fleet; list names of other fleets only"
            yield Mistake(("silence", "others", number), text)


def _address_checks(value: dict[object, object], hosts: dict[object, object]) -> Iterator[Mistake]:
    """Two names for one machine are two hosts only where each has a release root of its own."""
    per_host_root = "{host}" in str(value.get("release_root"))
    seen = Counter(
        (spec.get("address"), spec.get("port"))
        for spec in hosts.values()
        if isinstance(spec, dict) and not per_host_root
    )
    for name, spec in hosts.items():
        if isinstance(spec, dict) and seen[spec.get("address"), spec.get("port")] > 1:
            yield Mistake(
                ("hosts", str(name), "address"),
                f"found {spec.get('address')}, which another host has too; each host needs its own",
            )


def _service_checks(value: dict[object, object], hosts: dict[object, object]) -> Iterator[Mistake]:
    """The service's account has no rights of others, and its sockets are sockets."""
    service, ssh = value.get("service"), value.get("ssh")
    if not isinstance(service, dict):
        return
    user = service.get("user") or service.get("name")
    deploys = ssh.get("user") if isinstance(ssh, dict) else None
    if service.get("supervisor") == "systemd" and user in {"root", deploys}:
        text = f"found {user}; the service must run neither as root nor as the deploy account"
        yield Mistake(("service", "user"), text)
    yield from _unit_checks(service, value.get("release_root"))
    for key, kind, is_host in (("listen", "HOST:PORT", bool), ("connects", "ADDRESS:PORT", _is_ip)):
        sockets = service.get(key)
        for number, text in enumerate(sockets if isinstance(sockets, tuple) else ()):
            for name, spec in hosts.items():
                own = spec.get("vars") if isinstance(spec, dict) else None
                filled = _filled(str(text), own if isinstance(own, dict) else {})
                if not _is_socket(filled, is_host):
                    found = (
                        f"found {filled!r} at {name}; it must be {kind}, with a port of 1 to 65535"
                    )
                    yield Mistake(("service", key, number), found)


def _unit_checks(service: dict[object, object], root: object) -> Iterator[Mistake]:
    """What the unit is given has a unit, and opens no way to what a proof rests on."""
    unit = service.get("unit")
    if not isinstance(unit, dict):
        return
    if service.get("supervisor") != "systemd":
        yield Mistake(("service", "unit"), "needs 'supervisor: systemd'; without it there is none")
    writable = unit.get("writable")
    paths = [str(path) for path in writable] if isinstance(writable, tuple) else []
    if paths and unit.get("sandbox") is False:
        text = "without the sandbox nothing is read-only; leave it out"
        yield Mistake(("service", "unit", "writable"), text)
    for number, path in enumerate(paths):
        filled = path.replace("{root}", str(root)).rstrip("/") + "/"
        inside = f"{root}/"
        if filled.startswith(inside) or inside.startswith(filled) or filled.startswith(_SYSTEMS):
            text = f"found {path}; it must lie outside the release root and the system's folders"
            yield Mistake(("service", "unit", "writable", number), text)


def _filled(text: str, own: dict[object, object]) -> str:
    return PLACEHOLDER.sub(lambda found: str(own.get(found.group(1), "")), text)


def _is_socket(text: str, is_host: Callable[[str], bool]) -> bool:
    host, colon, port = text.rpartition(":")
    digits = port.isascii() and port.isdigit() and 1 <= int(port) <= 65535
    return bool(colon) and is_host(host) and digits


def _is_ip(host: str) -> bool:
    """Whether it is an address as the kernel's tables have them: a name means different ones."""
    from ipaddress import ip_address  # most inventories have none

    try:
        ip_address(host[1:-1] if host.startswith("[") and host.endswith("]") else host)
    except ValueError:
        return False
    return host.startswith("[") or ":" not in host


def _beside(value: object, folder: Path) -> Iterator[Mistake]:
    """What is wrong with the files that it names; it looks at raw values, whatever else fails."""
    said = value if isinstance(value, dict) else {}
    ssh = said.get("ssh")
    known_hosts = ssh.get("known_hosts") if isinstance(ssh, dict) else None
    for at, name, reads in (
        (("ssh", "known_hosts"), known_hosts, read_pins),
        (("signers",), said.get("signers"), read_signers),
    ):
        if isinstance(name, str) and name:
            try:
                reads(located(folder, name))
            except InputError as error:
                for line in error.details or (f"{error.what} {error.now}",):
                    yield Mistake(at, line)


def parse_inventory(text: str, name: str, folder: Path | None = None) -> Inventory:
    """An inventory from the YAML ``text``; ``name`` is what messages call the file.

    ``folder``: where the files that it names are, which are then checked against the rules too.

    Raises:
        InputError: with every mistake at once, a line each: file, line, path, found, allowed.
    """
    try:
        document = Document(text)
    except yaml.YAMLError as error:
        raise _input_error(
            name, (f"{name}: is not YAML: {' '.join(str(error).split())}",)
        ) from error
    mistakes = [*document.mistakes, *_cross_checks(document.value)]
    if folder is not None:
        mistakes += _beside(document.value, folder)
    inventory: Inventory | None = None
    try:
        inventory = Inventory.model_validate(document.value)
    except ValidationError as error:
        mistakes.extend(from_pydantic(error, "an inventory"))
    if mistakes or inventory is None:
        raise _input_error(name, named(mistakes, document, name))
    return inventory


def _input_error(name: str, lines: tuple[str, ...]) -> InputError:
    count = "1 mistake" if len(lines) == 1 else f"{len(lines)} mistakes"
    return InputError(
        f"The inventory {name} has {count}.",
        "Nothing was touched.",
        f"Fix the lines named here, then: deploytool status -i {name}",
        lines,
    )


def load_inventory(path: Path) -> Inventory:
    """The inventory in the file ``path``; relative paths in it are taken from its folder.

    Raises:
        InputError: it can't be read, or is wrong.
    """
    try:
        if path.stat().st_size > _BYTES_AT_MOST:
            raise _input_error(str(path), (f"{path}: larger than {_BYTES_AT_MOST} bytes",))
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"The inventory {path} can't be read: {error}",
            "Nothing was touched.",
            "Name the inventory with -i FILE; inventories/example.yaml shows what one looks like.",
        ) from error
    folder = folder_of(path)
    inventory = _with_paths(parse_inventory(text, str(path), folder), folder)
    if inventory.signers is None:
        return inventory
    signers = located(folder, inventory.signers)
    return inventory.with_signers(str(signers), read_signers(signers))


def _with_paths(inventory: Inventory, folder: Path) -> Inventory:
    def resolved(text: str | None) -> str | None:
        return None if text is None else str(located(folder, text))

    ssh = inventory.ssh.model_copy(
        update={
            "known_hosts": str(located(folder, inventory.ssh.known_hosts)),
            "identity_file": resolved(inventory.ssh.identity_file),
            "config_file": resolved(inventory.ssh.config_file),
        }
    )
    hosts = {
        name: spec.model_copy(update={"identity_file": resolved(spec.identity_file)})
        for name, spec in inventory.hosts.items()
    }
    rehearsal = inventory.rehearsal
    if rehearsal is not None:
        own = {"records": resolved(rehearsal.records), "signers": resolved(rehearsal.signers)}
        rehearsal = rehearsal.model_copy(update=own)
    return inventory.model_copy(update={"ssh": ssh, "hosts": hosts, "rehearsal": rehearsal})
