"""What a registry may say, beside all that was ever said before. Pure.

Every rule compares today's registry with *every* source of the past on its own, not with the one
before: a bit that was deleted in one commit and comes back with another meaning in a later one
meets its first owner again. Each refusal can be satisfied whatever the past was: move what was to
``reserved``, and take a bit and a name that never were.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from deploytool.registry.model import BITS, FlagEntry


class FlagRule(Enum):
    """The rules, by the id that messages show."""

    BIT_UNIQUE = "FLAG_BIT_UNIQUE"
    BIT_NO_REUSE = "FLAG_BIT_NO_REUSE"
    NAME_NO_REUSE = "FLAG_NAME_NO_REUSE"
    SAME_NAME = "FLAG_SAME_NAME"
    SAME_SEMANTICS = "FLAG_SAME_SEMANTICS"
    NO_DELETE_UNLESS_RESERVED = "FLAG_NO_DELETE_UNLESS_RESERVED"
    RESERVED_NO_DELETE = "FLAG_RESERVED_NO_DELETE"
    RETIRED_UNREACHABLE = "FLAG_RETIRED_UNREACHABLE"


_OF_ONE_BIT = (
    FlagRule.BIT_UNIQUE,
    FlagRule.BIT_NO_REUSE,
    FlagRule.NAME_NO_REUSE,
    FlagRule.SAME_NAME,
    FlagRule.SAME_SEMANTICS,
)
"""Rules about what is there, not about what is missing."""


@dataclass(frozen=True)
class FlagRefusal:
    """One thing that a rule forbids: where it stands, what is wrong, what satisfies the rule.

    ``member`` and ``line``: where in a built artifact, when that is where it stands.
    """

    rule: FlagRule
    place: str
    text: str
    remedy: str
    member: str = ""
    line: int = 0

    def __str__(self) -> str:
        return f"{self.place}: {self.rule.value}: {self.text}. To satisfy it: {self.remedy}."


def check_against(
    registry: Sequence[FlagEntry], past: Iterable[FlagEntry], file: str = "the registry"
) -> tuple[FlagRefusal, ...]:
    """Everything that the rules forbid in ``registry``; ``past`` is all that any source ever said.

    A refusal for what is missing from the registry is placed at its ``file``.
    """
    told = _told_once(past)
    used = {item.bit for item in registry} | {bit for bit, *_ in told}
    free = next((f"bit {bit}" for bit in range(BITS) if bit not in used), "no bit: all were used")
    found = list(_within(registry, free))
    for places in told.values():
        found.extend(_against(registry, places, file, free))
    return tuple(dict.fromkeys(found))


def between(
    own: Sequence[FlagEntry], others: Iterable[FlagEntry], file: str
) -> tuple[FlagRefusal, ...]:
    """What the rules forbid between two builds, whichever is the older one.

    Each may lack what the other has; what was retired or became permanent in the other one later
    is still the same flag. But no bit and no name may be two flags' in builds that may both run.
    """
    mine = {(item.bit, item.name): item for item in own if not item.reserved}

    def is_mine(item: FlagEntry) -> bool:
        same = mine.get((item.bit, item.name))
        if same is None:
            return False
        return item.reserved or (item.meaning, item.handler) == (same.meaning, same.handler)

    found = check_against(own, (item for item in others if not is_mine(item)), file)
    return tuple(refusal for refusal in found if refusal.rule in _OF_ONE_BIT)


def _told_once(past: Iterable[FlagEntry]) -> Mapping[tuple[int, str, bool, str], list[FlagEntry]]:
    """The same thing said in a hundred commits is one thing."""
    told: dict[tuple[int, str, bool, str], list[FlagEntry]] = {}
    for item in past:
        told.setdefault(item.content, []).append(item)
    return told


def _within(registry: Sequence[FlagEntry], free: str) -> Iterator[FlagRefusal]:
    """What the registry says against itself."""
    for index, one in enumerate(registry):
        for other in registry[:index]:
            if one.bit == other.bit and not one.reserved and not other.reserved:
                yield FlagRefusal(
                    FlagRule.BIT_UNIQUE,
                    one.place,
                    f"bit {one.bit} means {one.name} here and {other.name} at {other.place}",
                    f"give one of them a bit that never was used: {free}",
                )
            elif one.bit == other.bit and one.reserved != other.reserved:
                active, old = (other, one) if one.reserved else (one, other)
                yield _bit_is_taken(active, old, old.place, free)
            if one.name == other.name and _name_clashes(one, other):
                yield FlagRefusal(
                    FlagRule.NAME_NO_REUSE,
                    one.place,
                    f"the name {one.name} stands here and at {other.place}",
                    "a name is used once: choose another that never was used",
                )


def _name_clashes(one: FlagEntry, other: FlagEntry) -> bool:
    """A name may be reserved on two bits, where the past used it on two; and in no other way."""
    return not (one.reserved and other.reserved) or one.bit == other.bit


def _bit_is_taken(active: FlagEntry, old: FlagEntry, where: str, free: str) -> FlagRefusal:
    was = f"was retired, and is reserved as {old.name}" if old.reserved else f"meant {old.name}"
    return FlagRefusal(
        FlagRule.BIT_NO_REUSE,
        active.place,
        f"bit {active.bit} is given to {active.name}, but it {was} at {where}; "
        "a build that reads the old meaning would obey it",
        f"give {active.name} a bit that never was used ({free}), and keep bit {old.bit} "
        f"under 'reserved' with name {old.name}",
    )


def _against(
    registry: Sequence[FlagEntry], places: Sequence[FlagEntry], file: str, free: str
) -> Iterator[FlagRefusal]:
    """What the registry says against one thing that was said before, wherever it was said."""
    old, more = places[0], len(places) - 1
    where = old.place + (f" and {more} more" if more else "")
    active = [item for item in registry if not item.reserved]
    kept = any(r.reserved and (r.bit, r.name) == (old.bit, old.name) for r in registry)
    broken = [refusal for item in active for refusal in _clash(item, old, where, free)]
    yield from broken
    if old.reserved and not kept:
        yield FlagRefusal(
            FlagRule.RESERVED_NO_DELETE,
            file,
            f"bit {old.bit} was reserved as {old.name} at {where}, and no longer is",
            f"put bit {old.bit} with name {old.name} back under 'reserved'",
        )
    here = any((item.bit, item.name) == (old.bit, old.name) for item in active)
    if not old.reserved and not (kept or here or broken):
        yield FlagRefusal(
            FlagRule.NO_DELETE_UNLESS_RESERVED,
            file,
            f"{old} was declared at {where}, and is gone without a trace",
            f"put bit {old.bit} with name {old.name} under 'reserved', and say why and when",
        )


def _clash(item: FlagEntry, old: FlagEntry, where: str, free: str) -> Iterator[FlagRefusal]:
    """What one active flag says against one thing that was said before."""
    if item.bit == old.bit and (old.reserved or item.name != old.name):
        if not old.reserved and (item.meaning, item.handler) == (old.meaning, old.handler):
            yield FlagRefusal(
                FlagRule.SAME_NAME,
                item.place,
                f"bit {item.bit} is called {item.name}, but was called {old.name} at {where}; "
                "operators and senders know it by that name",
                f"call it {old.name} again, or reserve {old} and give {item.name} {free}",
            )
        else:
            yield _bit_is_taken(item, old, where, free)
    elif item.name == old.name and item.bit != old.bit:
        yield FlagRefusal(
            FlagRule.NAME_NO_REUSE,
            item.place,
            f"{item.name} is on bit {item.bit}, but that name was on bit {old.bit} at {where}",
            f"choose a name that never was used, and keep bit {old.bit} under 'reserved' "
            f"with name {old.name}",
        )
    elif item.bit == old.bit and item.digest != old.digest and not _graduated(item, old):
        yield FlagRefusal(
            FlagRule.SAME_SEMANTICS,
            item.place,
            f"{item} means something else than at {where} ({_difference(item, old)})",
            f"write what it meant again, or reserve {old} and take a new name on {free}",
        )


def _graduated(item: FlagEntry, old: FlagEntry) -> bool:
    """Whether a runtime flag has become permanent, and is else what it was.

    There is no way back: a build on which it is permanent obeys it while it is off elsewhere.
    """
    return (
        (old.activation, item.activation) == ("runtime", "always")
        and item.meaning == old.meaning
        and item.handler == old.handler
    )


def _difference(item: FlagEntry, old: FlagEntry) -> str:
    for what in ("meaning", "handler", "activation"):
        was, now = getattr(old, what), getattr(item, what)
        if was != now:
            return f"{what} was {was!r}, is {now!r}"
    return "what it requires has changed"
