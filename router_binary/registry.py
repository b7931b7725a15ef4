"""Read a flag registry, refuse a bad one, and give each meaning a digest."""

import hashlib
import json
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

BITS = 16
NAME = re.compile(r"[A-Z][A-Z0-9_]{0,31}\Z")
HANDLER = re.compile(r"router\.[a-z_]+:[A-Za-z_]+\Z")
ACTIVE_KEYS = frozenset(
    ["name", "bit", "meaning", "handler", "since", "owner", "activation", "requires"]
)
RESERVED_KEYS = frozenset(["bit", "name", "why", "when"])
# What a flag *does* is in these; who owns it and since when may change freely.
MEANING_KEYS = ("name", "bit", "meaning", "handler", "activation", "requires")


class RegistryError(ValueError):
    """The registry can't be used; the message names the file and the entry."""


class _StrictLoader(yaml.SafeLoader):
    """YAML without duplicate keys, anchors or implicit surprises."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 - the base class's signature
        keys = [self.construct_object(key) for key, _ in node.value]
        twice = sorted({str(key) for key in keys if keys.count(key) > 1})
        if twice:
            raise RegistryError(f"line {node.start_mark.line + 1}: key given twice: {twice}")
        return super().construct_mapping(node, deep)

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            line = self.peek_event().start_mark.line + 1  # type: ignore[no-untyped-call]
            raise RegistryError(f"line {line}: anchors and aliases are not allowed")
        return super().compose_node(parent, index)


def read_yaml(path: Path) -> dict[str, Any]:
    """Parse one strict YAML mapping."""
    try:
        document = yaml.load(path.read_text("utf-8"), Loader=_StrictLoader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, RegistryError) as error:
        raise RegistryError(f"{path}: {error}") from error
    if not isinstance(document, dict):
        raise RegistryError(f"{path}: expected a mapping, found {type(document).__name__}")
    return document


def canonical(value: object) -> bytes:
    """One way to write a value, whoever writes it."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8")


def digest(value: object) -> str:
    """SHA-256 of the canonical form."""
    return hashlib.sha256(canonical(value)).hexdigest()


def load_table(path: Path) -> dict[str, Any]:
    """Give the registry as `{"table": digest, "entries": [...]}`, entries by bit and name."""
    document = read_yaml(path)
    problems: list[str] = []
    if set(document) != {"schema", "flags", "reserved"} or document["schema"] != 1:
        raise RegistryError(f"{path}: expected schema 1 with flags and reserved")
    active = [_active(entry, problems) for entry in _entries(document, "flags", problems)]
    reserved = [_reserved(entry, problems) for entry in _entries(document, "reserved", problems)]
    _check_unique(active, reserved, problems)
    if problems:
        raise RegistryError(f"{path}: " + "; ".join(problems))
    entries = sorted(active + reserved, key=lambda entry: (entry["bit"], entry["name"]))
    rows = [[entry["bit"], entry["name"], entry["state"], entry["digest"]] for entry in entries]
    return {"table": digest(rows), "entries": entries}


def _entries(document: dict[str, Any], key: str, problems: list[str]) -> list[dict[str, Any]]:
    found = document[key]
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        problems.append(f"{key}: expected a list of mappings")
        return []
    return found


def _common(entry: dict[str, Any], keys: frozenset[str], problems: list[str]) -> str:
    label = f"flag {entry.get('name', '?')!r}"
    if set(entry) != keys:
        problems.append(f"{label}: keys must be {sorted(keys)}, found {sorted(map(str, entry))}")
    bit = entry.get("bit")
    if type(bit) is not int or not 0 <= bit < BITS:
        problems.append(f"{label}: bit must be a whole number from 0 to {BITS - 1}, found {bit!r}")
        entry["bit"] = -1
    if not isinstance(entry.get("name"), str) or not NAME.match(entry["name"]):
        problems.append(f"{label}: name must be like RETAIL_LIQUIDITY")
        entry["name"] = str(entry.get("name"))
    for key in sorted(keys - {"bit", "name", "requires"}):
        text = entry.get(key)
        if not isinstance(text, str) or not text.strip():
            problems.append(f"{label}: {key} must be a text that isn't empty, found {text!r}")
        else:
            entry[key] = " ".join(text.split())
    return label


def _active(entry: dict[str, Any], problems: list[str]) -> dict[str, Any]:
    label = _common(entry, ACTIVE_KEYS, problems)
    if not HANDLER.match(str(entry.get("handler"))):
        problems.append(f"{label}: handler must be like router.retail:RetailLiquidity")
    if entry.get("activation") not in ("always", "runtime"):
        problems.append(f"{label}: activation must be always or runtime")
    wants = ["parity"] if entry.get("activation") == "runtime" else []
    if entry.get("requires") != wants:
        problems.append(f"{label}: requires must be {wants}")
    meaning = digest({key: entry.get(key) for key in MEANING_KEYS})
    return {**entry, "state": "active", "digest": meaning}


def _reserved(entry: dict[str, Any], problems: list[str]) -> dict[str, Any]:
    _common(entry, RESERVED_KEYS, problems)
    meaning = digest({key: entry.get(key) for key in ("name", "bit")})
    return {**entry, "state": "reserved", "digest": meaning}


def _check_unique(
    active: list[dict[str, Any]], reserved: list[dict[str, Any]], problems: list[str]
) -> None:
    retired_bits = {entry["bit"] for entry in reserved}
    # Where the past used a name on two bits, both stay reserved for ever.
    kept = {(entry["bit"], entry["name"]) for entry in reserved}
    names = [entry["name"] for entry in active] + sorted({name for _, name in kept})
    bits = [entry["bit"] for entry in active]
    problems.extend(
        f"flag {entry['name']!r}: bit {entry['bit']} is reserved for ever"
        for entry in active
        if entry["bit"] in retired_bits
    )
    problems.extend(f"bit {bit} is used twice" for bit in sorted(set(bits)) if bits.count(bit) > 1)
    if len(kept) < len(reserved):
        problems.append("a reserved bit and name are listed twice")
    problems.extend(f"name {n!r} is used twice" for n in sorted(set(names)) if names.count(n) > 1)
