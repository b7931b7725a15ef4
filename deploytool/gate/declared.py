"""The inventories in a repository, as they were read, with the lines that they stand on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from deploytool.errors import InputError
from deploytool.fleet.inventory import load_inventory
from deploytool.fleet.model import Inventory
from deploytool.fleet.yaml_source import Document
from deploytool.gate.checkout import Checkout
from deploytool.gate.model import Check, GateFinding
from deploytool.gate.rules import could_not_run

FOLDER = "inventories"
"""Every YAML file in a folder of this name has to be one."""
_BYTES_AT_MOST = 4 * 1024 * 1024


@dataclass(frozen=True)
class Declared:
    """An inventory as it was read, with the lines that it stands on."""

    path: Path
    inventory: Inventory
    document: Document

    def line(self, *at: str | int) -> int:
        """The line of a key, or of the nearest place around it."""
        return self.document.line(at)


def find_inventories(checkout: Checkout) -> tuple[Path, ...]:
    """Every inventory in the repository.

    Raises:
        InputError: there is none: a fleet that nobody declared is none that can be gated.
    """
    found = tuple(
        path
        for path in checkout.files(".yaml", ".yml")
        if path.parent.name == FOLDER or _looks_like_one(path)
    )
    if not found:
        raise InputError(
            "There is no inventory in the repository.",
            "Nothing was looked at.",
            "Keep each fleet's inventory in inventories/, or name one with -i FILE",
        )
    return found


def _looks_like_one(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            text = file.read(_BYTES_AT_MOST + 1).decode("utf-8")
        if len(text) > _BYTES_AT_MOST or "fleet" not in text or "hosts" not in text:
            return False
        value = Document(text).value
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return False
    return isinstance(value, dict) and {"fleet", "hosts"} <= value.keys()


def read(path: Path) -> Declared | tuple[GateFinding, ...]:
    """An inventory, or all that is wrong with it, each mistake at its line."""
    try:
        loaded = load_inventory(path)
        document = Document(path.read_text(encoding="utf-8"))
    except InputError as error:
        told = could_not_run(Check.INVENTORY, error, str(path))
        return tuple(
            GateFinding(item.rule, item.path, item.line, item.text, item.remedy) for item in told
        )
    return Declared(path, loaded, document)
