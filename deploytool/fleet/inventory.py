"""Reads an inventory: YAML with positions, so that every mistake is named by file and line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from deploytool.errors import InputError
from deploytool.fleet.model import BUILT_IN_PLACEHOLDERS, PLACEHOLDER, Inventory

Location = tuple[str | int, ...]
_BYTES_AT_MOST = 4 * 1024 * 1024


@dataclass(frozen=True)
class Mistake:
    """One thing that is wrong: where in the document, what was found, what is allowed."""

    at: Location
    text: str


class Document:
    """A YAML document as plain values, with the line of each node.

    Anchors, aliases and duplicate keys are mistakes: what a reader sees must be what is there.
    """

    def __init__(self, text: str) -> None:
        self.lines: dict[Location, int] = {}
        self.mistakes: list[Mistake] = []
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                line = event.start_mark.line + 1 if event.start_mark else 1
                self.mistakes.append(
                    Mistake((), f"line {line}: anchors and aliases are not allowed here")
                )
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        self.value: Any = None
        if node is not None and not self.mistakes:
            self.value = self._build(node, ())

    def _build(self, node: yaml.Node, at: Location) -> object:
        self.lines[at] = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            built: dict[object, object] = {}
            for key_node, value_node in node.value:
                key = self._scalar(key_node)
                here = (*at, str(key))
                if key in built:
                    line = key_node.start_mark.line + 1
                    self.mistakes.append(Mistake(here, f"line {line}: the key stands here twice"))
                built[key] = self._build(value_node, here)
                self.lines[here] = key_node.start_mark.line + 1
            return built
        if isinstance(node, yaml.SequenceNode):
            return tuple(self._build(item, (*at, index)) for index, item in enumerate(node.value))
        return self._scalar(node)

    @staticmethod
    def _scalar(node: yaml.Node) -> object:
        loader = yaml.SafeLoader("")
        try:
            value: object = loader.construct_object(node, deep=True)
        finally:
            loader.dispose()
        return value if not isinstance(value, (list, dict, set)) else str(value)

    def line(self, at: Location) -> int:
        """The line of this place, or of the nearest one around it."""
        for end in range(len(at), -1, -1):
            if at[:end] in self.lines:
                return self.lines[at[:end]]
        return 1


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
    yield from _placeholder_checks(value, hosts)


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


def _placeholder_checks(
    value: dict[object, object], hosts: dict[object, object]
) -> Iterator[Mistake]:
    for at, text in _strings({key: value.get(key) for key in ("service", "config_files")}, ()):
        for word in PLACEHOLDER.findall(text):
            lacking = [
                str(name)
                for name, spec in hosts.items()
                if word not in BUILT_IN_PLACEHOLDERS
                and not (isinstance(spec, dict) and word in (spec.get("vars") or {}))
            ]
            if lacking:
                yield Mistake(
                    at,
                    f"found {{{word}}}, but there is no such 'vars' entry at {', '.join(lacking)}",
                )


def _strings(value: object, at: Location) -> Iterator[tuple[Location, str]]:
    if isinstance(value, str):
        yield at, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _strings(item, (*at, str(key)))
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _strings(item, (*at, index))


def _from_pydantic(error: ValidationError) -> Iterator[Mistake]:
    for item in error.errors(include_url=False):
        at = tuple(part for part in item["loc"] if part not in {"int", "constrained-int"})
        at = tuple(part for part in at if not str(part).startswith(("literal[", "[key]")))
        found = "" if item["type"] == "missing" else f"found {item['input']!r:.80}: "
        message = (
            "is not a key of an inventory" if item["type"] == "extra_forbidden" else item["msg"]
        )
        yield Mistake(at, f"{found}{message[:1].lower()}{message[1:]}")


def parse_inventory(text: str, name: str) -> Inventory:
    """An inventory from the YAML ``text``; ``name`` is what messages call the file.

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
    inventory: Inventory | None = None
    try:
        inventory = Inventory.model_validate(document.value)
    except ValidationError as error:
        mistakes.extend(_from_pydantic(error))
    if mistakes or inventory is None:
        unique = {
            f"{name}:{document.line(m.at)}: {'.'.join(map(str, m.at)) or 'document'}: {m.text}": m
            for m in sorted(mistakes, key=lambda m: document.line(m.at))
        }
        raise _input_error(name, tuple(unique))
    return inventory


def _input_error(name: str, lines: tuple[str, ...]) -> InputError:
    count = "1 mistake" if len(lines) == 1 else f"{len(lines)} mistakes"
    return InputError(
        f"The inventory {name} has {count}.",
        "Nothing was touched.",
        f"Mend the lines named here, then: deploytool status -i {name}",
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
    inventory = parse_inventory(text, str(path))
    folder = path.resolve().parent
    known_hosts = folder / inventory.ssh.known_hosts
    if not known_hosts.is_file():
        raise InputError(
            f"{path}: ssh.known_hosts: there is no file {known_hosts}.",
            "Nothing was touched. Without pinned keys no host can be trusted.",
            f"Write each host's public key to it, from the console: see README, and {known_hosts}",
        )
    return _with_paths(inventory, folder, known_hosts)


def _with_paths(inventory: Inventory, folder: Path, known_hosts: Path) -> Inventory:
    def resolved(text: str | None) -> str | None:
        return None if text is None else str(folder / Path(text).expanduser())

    ssh = inventory.ssh.model_copy(
        update={
            "known_hosts": str(known_hosts),
            "identity_file": resolved(inventory.ssh.identity_file),
            "config_file": resolved(inventory.ssh.config_file),
        }
    )
    hosts = {
        name: spec.model_copy(update={"identity_file": resolved(spec.identity_file)})
        for name, spec in inventory.hosts.items()
    }
    return inventory.model_copy(update={"ssh": ssh, "hosts": hosts})
