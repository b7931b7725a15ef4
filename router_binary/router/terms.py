"""Flags that change how children are marked, not how a parent is cut."""

from importlib import import_module
from typing import Any, NamedTuple


class Terms(NamedTuple):
    """OUCH's Display and Intermarket Sweep Eligibility."""

    display: bytes = b"Y"
    sweep: bytes = b"N"


def hidden(terms: Terms) -> Terms:
    """Rest without being displayed."""
    return terms._replace(display=b"N")


def sweep(terms: Terms) -> Terms:
    """Mark as an intermarket sweep."""
    return terms._replace(sweep=b"Y")


def load(name: str) -> Any:  # noqa: ANN401 - a class of strategies, or a function of terms
    """Find a flag's handler, named as the registry names it."""
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)
