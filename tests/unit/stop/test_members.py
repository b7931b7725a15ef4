"""A stop names a member of the fleet to which it told nothing, after it has told the others."""

from __future__ import annotations

from itertools import product

import pytest

from deploytool.agent.model import MembersFile
from deploytool.fleet.members import Member, with_hosts
from deploytool.stop.members import listed, unlisted
from deploytool.stop.model import End, HostOutcome, Listed
from deploytool.stop.outcome import outcome_document, outcome_from


def members(*names: str) -> str:
    hosts = [Member(name=name, machine=f"m{name}", root="/opt/router") for name in names]
    return with_hosts("fleet", {}, hosts).text


@pytest.mark.parametrize(
    ("kept", "shown"),
    [
        (None, None),
        (MembersFile(missing=True), None),
        (MembersFile(), None),
        (MembersFile(text="{}"), None),
        (MembersFile(text="x" * 100), None),
        (MembersFile(text=members("b", "a")), Listed(1, ("a", "b"))),
    ],
    ids=["no root", "none", "unreadable", "another", "no list", "list"],
)
def test_a_list_is_read_or_counts_for_nothing(
    kept: MembersFile | None, shown: Listed | None
) -> None:
    assert listed(kept) == shown


OLD, NEW, RIVAL = Listed(1, ("a", "b", "gone")), Listed(2, ("a", "b", "c")), Listed(2, ("a", "d"))


@pytest.mark.parametrize("kept", list(product((None, OLD, NEW, RIVAL), repeat=2)), ids=repr)
def test_p6_whoever_the_newest_list_names_was_told_or_is_named(
    kept: tuple[Listed | None, Listed | None],
) -> None:
    climbed = [
        HostOutcome(host, End.HALTED, 1.0, members=one)
        for host, one in zip("ab", kept, strict=True)
    ]
    climbed = [outcome_from(outcome_document(one)) for one in climbed]
    untold = unlisted(climbed, {"a", "b"})
    newest = [one for one in kept if one is not None and one.epoch == 2] or [
        one for one in kept if one is not None
    ]
    assert untold == tuple(sorted({name for one in newest for name in one.names} - {"a", "b"}))
    if NEW in kept or RIVAL in kept:
        assert "gone" not in untold, "who left by a newer list is no member"
