"""P4: no bit and no name is used twice, against all that was ever said."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploytool.registry.model import FlagEntry
from deploytool.registry.rules import FlagRule, check_against
from deploytool.registry.source import load_registry, parse_registry

from .registries import BEFORE, INCIDENT, POWER_PEG, RLP, flag, registry, reserved, runtime

SOURCE = Path(__file__).parents[3] / "router_binary"
NOTHING = registry()
BIT, NAME, SAME = FlagRule.BIT_NO_REUSE, FlagRule.NAME_NO_REUSE, FlagRule.SAME_SEMANTICS
GONE, KEPT = FlagRule.NO_DELETE_UNLESS_RESERVED, FlagRule.RESERVED_NO_DELETE


def said(*texts: str) -> tuple[FlagEntry, ...]:
    return tuple(e for n, text in enumerate(texts) for e in parse_registry(text, f"v{n}").entries)


def broken(now: str, *then: str) -> set[FlagRule]:
    return {refusal.rule for refusal in check_against(said(now), said(*then), "flags.yaml")}


def test_p4_the_incident_s_own_change_is_refused_and_the_message_says_what_satisfies() -> None:
    (refusal,) = check_against(
        said(INCIDENT), parse_registry(BEFORE, "build 2011.4").entries, "flags.yaml"
    )
    assert refusal.rule is FlagRule.BIT_NO_REUSE
    assert str(refusal) == (
        "v0:11: FLAG_BIT_NO_REUSE: bit 3 is given to RLP, but it meant POWER_PEG at "
        "build 2011.4:11; a build that reads the old meaning would obey it. To satisfy it: "
        "give RLP a bit that never was used (bit 1), and keep bit 3 under 'reserved' with name "
        "POWER_PEG."
    )


A, B = flag("A", 1), flag("B", 2)


@pytest.mark.parametrize(
    ("now", "then", "rules"),
    [
        (registry(A), (), set()),
        (registry(A), (registry(A),), set()),
        (registry(A, B), (registry(A),), set()),
        (registry(flag("A", 1, owner="another", since="'1'")), (registry(A),), set()),
        (registry(A, flag("B", 1)), (), {FlagRule.BIT_UNIQUE}),
        (registry(A, flag("A", 2)), (), {NAME}),
        (registry(A, flag("A", 1)), (), {FlagRule.BIT_UNIQUE, NAME}),
        (registry(A, reserved("A", 2)), (), {NAME}),
        (registry(A, reserved("B", 1)), (), {BIT}),
        (registry(reserved("B", 1), reserved("B", 1)), (), {NAME}),
        (registry(reserved("B", 1), reserved("C", 1)), (), set()),
        (registry(reserved("B", 1), reserved("B", 2)), (), set()),
        (registry(reserved("A", 1)), (registry(A),), set()),
        (NOTHING, (registry(A),), {GONE}),
        (registry(reserved("A", 2)), (registry(A),), {GONE}),
        (registry(reserved("B", 1)), (registry(A),), {GONE}),
        (NOTHING, (registry(reserved("A", 1)),), {KEPT}),
        (registry(reserved("B", 1)), (registry(reserved("A", 1)),), {KEPT}),
        (registry(A), (registry(reserved("A", 1)),), {BIT, KEPT}),
        (registry(flag("A", 2)), (registry(reserved("A", 1)),), {NAME, KEPT}),
        (registry(flag("A", 2)), (registry(A),), {NAME}),
        (registry(flag("B", 1)), (registry(A),), {BIT}),
        (
            registry(flag("B", 1, meaning="Does a.", handler="router.a:A")),
            (registry(A),),
            {FlagRule.SAME_NAME},
        ),
        (registry(flag("A", 1, meaning="Else.")), (registry(A),), {SAME}),
        (registry(flag("A", 1, handler="router.b:A")), (registry(A),), {SAME}),
        (registry(runtime("A", 1)), (registry(A),), {SAME}),
        (registry(A), (registry(runtime("A", 1)),), set()),  # graduated
        (registry(flag("A", 1, meaning="Else.")), (registry(runtime("A", 1)),), {SAME}),
        (registry(runtime("A", 1)), (registry(runtime("A", 1)), registry(A)), {SAME}),
    ],
)
def test_p4_each_rule(now: str, then: tuple[str, ...], rules: set[FlagRule]) -> None:
    assert broken(now, *then) == rules


def test_p4_it_is_held_transitively() -> None:
    """Deleted in one version, and back with another meaning in a later one."""
    assert broken(registry(RLP), registry(POWER_PEG), NOTHING, NOTHING) == {BIT}
    assert broken(registry(flag("A", 1, meaning="Else.")), registry(A), NOTHING) == {SAME}
    assert broken(registry(flag("A", 2)), registry(A), registry(reserved("A", 1))) == {NAME, KEPT}


def test_p4_the_router_s_registry_holds_against_every_build_of_its_history() -> None:
    past = [e for path in SOURCE.rglob("flags*.yaml") for e in load_registry(path).entries]
    assert check_against(load_registry(SOURCE / "flags.yaml").entries, past) == ()
    assert {e.name for e in past} >= {"POWER_PEG", "RLP"}


def test_the_same_thing_said_a_hundred_times_is_refused_once() -> None:
    refusals = check_against(said(NOTHING), said(*[registry(A)] * 100), "flags.yaml")
    assert len(refusals) == 1
    assert refusals[0].place == "flags.yaml"
    assert "v0:3 and 99 more" in refusals[0].text


def test_every_refusal_names_its_line_and_what_satisfies_it() -> None:
    now = registry(flag("A", 1, meaning="Else."), flag("C", 2), flag("D", 5), reserved("D", 6))
    refusals = check_against(
        said(now), said(registry(A, B, flag("D", 4), reserved("X", 9))), "flags.yaml"
    )
    assert {r.rule for r in refusals} == {SAME, BIT, NAME, KEPT}
    for refusal in refusals:
        assert refusal.place.startswith(("v0:", "flags.yaml"))
        assert "reserve" in refusal.remedy or "never was used" in refusal.remedy


def test_when_every_bit_was_used_the_message_says_so() -> None:
    full = registry(*(flag(f"F{bit}", bit) for bit in range(16)))
    (refusal,) = check_against(said(full.replace("F9", "G9")), said(full), "flags.yaml")
    assert "no bit: all were used" in refusal.remedy


# The whole of a small world: two bits, two names, two meanings, up to two entries a registry.

SMALL = [
    FlagEntry(bit, name, reserved=kind == "reserved", digest=f"{bit}{name}{kind}", place="p",
          meaning=kind, handler=kind, activation="always")
    for bit in (0, 1)
    for name in ("A", "B")
    for kind in ("one", "other", "reserved")
]  # fmt: skip
WORLD = [registry for size in (0, 1, 2) for registry in combinations(SMALL, size)]


def sound(now: Iterable[FlagEntry]) -> bool:
    """By a naive reading of "once, for ever": within one registry."""
    return all(
        (one.reserved and other.reserved and one.bit != other.bit)
        or (one.reserved and other.reserved and one.name != other.name)
        or (one.bit != other.bit and one.name != other.name)
        for one, other in combinations(tuple(now), 2)
    )


def upheld(old: FlagEntry, now: Iterable[FlagEntry]) -> bool:
    """What was said then is said still, or is reserved, and nobody else has its bit or name."""
    active = [item for item in now if not item.reserved]
    others = [
        i for i in active if i.content != old.content and (i.bit == old.bit or i.name == old.name)
    ]
    still = any(i.content == old.content for i in active)
    kept = any(i.reserved and (i.bit, i.name) == (old.bit, old.name) for i in now)
    return not others and (still or kept)


def test_p4_nothing_is_forgotten_in_any_small_world() -> None:
    for now in WORLD:
        assert sound(now) == (check_against(now, ()) == ()), now
        for then in WORLD:
            allowed = sound(now) and all(upheld(old, now) for old in then)
            assert allowed == (check_against(now, then) == ()), (now, then)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(SMALL), max_size=12))
def test_p4_whatever_the_past_was_reserving_it_all_satisfies_every_rule(
    past: list[FlagEntry],
) -> None:
    pairs = sorted({(item.bit, item.name) for item in past})
    registry = [FlagEntry(bit, name, True, f"{bit}{name}reserved", "p") for bit, name in pairs]
    assert check_against(registry, past) == ()
