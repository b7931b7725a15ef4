"""Which document of members holds, over every assignment of documents to three hosts."""

from __future__ import annotations

import itertools

import pytest

from deploytool.fleet.members import (
    REMEMBERED,
    Member,
    Members,
    NotMembers,
    Shown,
    agree,
    belongs,
    read_members,
    with_hosts,
    without,
)

ABSENT, UNREADABLE = "no document", "it can't be read"
ONE, TWO, THREE, FOUR = (
    Member(name=f"router{n}", machine=str(n) * 32, root="/srv/router") for n in (1, 2, 3, 4)
)
HOSTS = ("router1", "router2", "router3")


def later(kept: Members, *hosts: Member) -> Members:
    return with_hosts("gateways", {"x": kept}, hosts)


def shorter(kept: Members, name: str) -> Members:
    made = without("gateways", {"x": kept}, name)
    assert made is not None
    return made


FIRST = with_hosts("gateways", {}, (ONE, TWO, THREE))
SECOND = later(FIRST, FOUR)
THIRD = shorter(SECOND, "router3")
RIVAL = shorter(FIRST, "router3")
"""Of the second epoch, as SECOND is; neither knows of the other."""
FOREIGN = Members(fleet="gateways", epoch=9, hosts=(ONE, TWO))
"""A higher epoch that comes from nothing."""
DOCUMENTS = (FIRST, SECOND, THIRD, RIVAL, FOREIGN)
DESCENT = {(SECOND, FIRST), (THIRD, FIRST), (THIRD, SECOND), (RIVAL, FIRST)}
"""Which came out of which, said by hand: the rules below are held against it."""
KINDS: tuple[Shown, ...] = (*DOCUMENTS, ABSENT, UNREADABLE)
WORLDS = [dict(zip(HOSTS, kinds, strict=True)) for kinds in itertools.product(KINDS, repeat=3)]


def kept_in(world: dict[str, Shown]) -> set[Members]:
    return {item for item in world.values() if isinstance(item, Members)}


def test_descent_is_what_was_written_down() -> None:
    pairs = itertools.product(DOCUMENTS, repeat=2)
    assert {(a, b) for a, b in pairs if a.replaced(b)} == DESCENT
    assert [item.epoch for item in DOCUMENTS] == [1, 2, 3, 2, 9]


def test_p1_a_document_holds_only_where_it_replaced_every_other_one() -> None:
    for world in WORLDS:
        kept, agreed = kept_in(world), agree(world)
        holding = {a for a in kept if all(a == b or (a, b) in DESCENT for b in kept)}
        assert {agreed.newest} - {None} == holding, world
        assert bool(agreed.conflict) is (bool(kept) and not holding)


def test_p1_every_host_without_the_document_that_holds_is_named() -> None:
    for world in WORLDS:
        agreed = agree(world)
        lacking = {h for h, item in world.items() if agreed.newest is None or item != agreed.newest}
        assert set(agreed.lacking) == lacking, world
        assert all(agreed.lacking.values())


def test_p1_a_host_belongs_where_no_document_that_counts_leaves_it_out() -> None:
    for world in WORLDS:
        agreed, kept = agree(world), kept_in(world)
        for name in (*HOSTS, "router4", "router5"):
            counting = {agreed.newest} if agreed.newest is not None else kept
            all_have = bool(counting) and all(name in item.names for item in counting)
            assert (belongs(world, name) is not None) is all_have, (world, name)


def test_p1_a_preparation_settles_every_world_and_loses_no_member() -> None:
    for world in WORLDS:
        kept, before = kept_in(world), agree(world)
        made = with_hosts("gateways", world, (ONE, TWO))
        agreed = agree({**world, "router9": made})
        assert agreed.newest == made, world
        counting = {before.newest} if before.newest is not None else kept
        assert made.names == {n for item in counting for n in item.names} | {ONE.name, TWO.name}
        everywhere = dict.fromkeys(HOSTS, made)
        assert with_hosts("gateways", everywhere, (ONE, TWO)) == made, "nothing changed"


def test_p1_a_member_leaves_only_a_document_that_holds() -> None:
    for world in WORLDS:
        agreed = agree(world)
        if agreed.conflict:
            with pytest.raises(NotMembers, match="do not come from each other"):
                without("gateways", world, "router2")
            continue
        made = without("gateways", world, "router2")
        if agreed.newest is None:
            assert made is None
        else:
            assert made is not None
            assert made.replaced(agreed.newest)
            assert made.epoch == agreed.newest.epoch + 1
            assert made.names == agreed.newest.names - {"router2"}
            assert without("gateways", {"router1": made}, "router2") is None, "it left"


def test_p1_another_machine_is_no_member_before_the_old_one_was_retired() -> None:
    new = TWO.but(machine="9" * 32)
    with pytest.raises(NotMembers, match="router2 is another machine"):
        later(FIRST, new)
    replaced = later(shorter(FIRST, "router2"), new)
    assert (replaced.epoch, replaced.member("router2")) == (3, new)
    with pytest.raises(NotMembers, match="twice"):
        later(FIRST, FOUR.but(machine=ONE.machine))
    with pytest.raises(NotMembers, match="names no host"):
        shorter(shorter(shorter(FIRST, "router1"), "router2"), "router3")


def test_a_host_is_told_from_a_past_that_is_remembered_and_no_longer() -> None:
    made, old = FIRST, [FIRST]
    for turn in range(REMEMBERED + 1):
        made = shorter(made, "router4") if turn % 2 else later(made, FOUR)
        old.append(made)
    assert len(made.before) == REMEMBERED
    assert [made.replaced(item) for item in old] == [False, *[True] * REMEMBERED, False]


def test_p1_only_what_a_preparation_writes_is_read() -> None:
    for item in DOCUMENTS:
        assert read_members(item.text) == item
    text = FIRST.text
    for broken in (
        "",
        "[" * 5000,
        text.strip(),
        f" {text}",
        text.replace('"epoch":1', '"epoch":0'),
        text.replace('"epoch":1', '"epoch":1,"more":2'),
        text.replace("router1", "-rf"),
        text.replace("router1", "router2"),
        text.replace(ONE.machine, TWO.machine),
        Members(fleet="gateways", epoch=1, hosts=()).text,
        FIRST.but(before=("a" * 64,) * (REMEMBERED + 1)).text,
        FIRST.but(hosts=(ONE.but(keys=("x" * 4000,) * 20),)).text,
    ):
        with pytest.raises(NotMembers):
            read_members(broken)
