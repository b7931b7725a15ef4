"""What two builds make of the same bit. Pure.

The bit travels in the messages, and a build obeys it whether anybody armed it or not. So before
a build runs that reads a bit differently, nobody may be sending it, or nobody may be serving.
"""

from __future__ import annotations

from typing import Protocol

from deploytool.registry.model import BITS
from deploytool.release.model import FlagTable

_EVERY = frozenset(range(BITS))


class Senders(Protocol):
    """Those who set bits in messages, as they were observed now."""

    def bits_in_use(self) -> frozenset[int]:
        """The bits that any sender sets in messages, or has set in orders that are still open.

        Raises:
            HostFault: it could not be observed. Unknown is not no.
        """


def _readings(table: FlagTable) -> dict[int, set[str]]:
    """For each bit what a build says of it: the digests of its active meanings."""
    readings: dict[int, set[str]] = {}
    for entry in table.entries:
        bit = entry.get("bit")
        if isinstance(bit, int) and entry.get("state") != "reserved":
            readings.setdefault(bit, set()).add(str(entry.get("digest")))
    return readings


def obeyed_differently(one: FlagTable | None, other: FlagTable | None) -> frozenset[int]:
    """The bits of ``read_differently`` that one of the two obeys although nobody armed them.

    With every runtime flag off, what a build doesn't know, has retired or was not told to obey is
    rejected, visibly. What is left are bits that are always on in one of them. A build that says
    nothing of its flags may obey any; of two such builds nothing can be asked.
    """
    if one is None and other is None:
        return frozenset()
    if one is None or other is None:
        return _EVERY
    return read_differently(one, other) & (_always(one) | _always(other))


def _always(table: FlagTable) -> frozenset[int]:
    """The bits that a build obeys unarmed."""
    entries = (e for e in table.entries if e.get("state") != "reserved")
    bits = ((entry.get("bit"), entry.get("activation")) for entry in entries)
    return frozenset(bit for bit, how in bits if isinstance(bit, int) and how != "runtime")


def obeyable(table: FlagTable | None) -> frozenset[int]:
    """The bits that a build carries out, always or once they are armed; none where it says none."""
    entries = table.entries if table else ()
    bits = (entry.get("bit") for entry in entries if entry.get("state") != "reserved")
    return frozenset(bit for bit in bits if isinstance(bit, int))


def read_differently(
    one: FlagTable | None, other: FlagTable | None, *, same_build: bool = False
) -> frozenset[int]:
    """The bits that the two builds don't declare alike.

    A bit that only one of them knows is read differently. So is every bit by a build that says
    nothing of its flags, unless it is the ``same_build``, and by two that find the bits in messages
    of different formats. That two builds declare a bit alike does not prove that they behave alike;
    it is the least that can be asked.
    """
    if one is None or other is None:
        same_silence = one is None and other is None and same_build
        return frozenset() if same_silence else _EVERY
    if one.wire != other.wire:
        return _EVERY
    first, second = _readings(one), _readings(other)
    return frozenset(bit for bit in {*first, *second} if first.get(bit) != second.get(bit))


def objection(
    differing: frozenset[int], in_use: frozenset[int] | None, *, halted: bool
) -> str | None:
    """Why a build may not run now that reads ``differing`` bits otherwise; None where it may.

    ``in_use`` None: the senders could not be observed. ``halted``: every host that would run it
    was seen to be HALTED, so that no bit can do anything there.
    """
    if not differing or halted:
        return None
    named = named_bits(differing)
    if in_use is None:
        return f"the builds read {named} differently, and what the senders send could not be seen"
    if differing & in_use:
        used = named_bits(differing & in_use)
        return f"the senders use {used}, which the two builds read differently"
    return None


def named_bits(bits: frozenset[int]) -> str:
    """``bit 3, bit 4``."""
    return "every bit" if bits == _EVERY else ", ".join(f"bit {bit}" for bit in sorted(bits))
