"""Flags that change how children are marked, not how a parent is cut."""

from typing import NamedTuple


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
