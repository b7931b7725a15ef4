"""Which of the declared hosts a command is about. Pure."""

from __future__ import annotations

from deploytool.errors import InputError
from deploytool.fleet.model import Inventory


def select_hosts(inventory: Inventory, words: tuple[str, ...]) -> tuple[str, ...]:
    """The declared hosts that ``words`` name, in name order; all of them where it names none.

    Raises:
        InputError: a word is no declared host's name.
    """
    unknown = sorted(set(words) - set(inventory.names))
    if unknown:
        raise InputError(
            f"{', '.join(unknown)} {'is' if len(unknown) == 1 else 'are'} not in the inventory.",
            "Nothing was touched.",
            f"The hosts of {inventory.fleet} are: {', '.join(inventory.names)}",
        )
    return tuple(name for name in inventory.names if not words or name in words)
