"""What asking for the lock leads to, over every state of the marks that there can be."""

from __future__ import annotations

import itertools

import pytest

from deploytool.agent.host import Refusal
from deploytool.agent.model import Lock, RolloutMark
from deploytool.agent.requests import TakeLock
from deploytool.agent.verbs.locking import NO_ROLLOUT, is_fresh, next_mark, to_prune

A, B, C = "a" * 64, "b" * 64, "c" * 64
LOCKS = (
    None,
    *(
        Lock(token=t, holder="h", purpose="deploy", plan=p, since=1)
        for t, p in ((7, "mine"), (7, "other"))
    ),
)
MARKS = (
    None,
    *(
        RolloutMark(plan="old", target=A, before=before, phase=phase, since=1)
        for phase in ("locked", "activating", "confirmed")
        for before in (None, B)
    ),
)
REQUESTS = tuple(
    TakeLock(
        holder="me", purpose=purpose, plan="mine", release=A, before=before, knows_before=knows,
        rollout=rollout, take_over=take_over,
    )
    for purpose in ("deploy", "rollback", "retire", "start")
    for before, knows in ((None, False), (None, True), (B, True), (C, True))
    for rollout in (None, "theirs")
    for take_over in (None, 6, 7, 8)
)  # fmt: skip


def fresh(request: TakeLock, lock: Lock | None, *, damaged: bool) -> bool | str:
    try:
        return is_fresh(request, lock, 7, damaged=damaged)
    except Refusal as refusal:
        return refusal.code


def test_p7_a_lock_is_given_to_one_plan_alone() -> None:
    for request, lock in itertools.product(REQUESTS, LOCKS):
        found = fresh(request, lock, damaged=False)
        if lock is None:
            assert found is True
        elif lock.plan == request.plan:
            assert found is False, "what it has already has no new token"
        elif request.take_over == lock.token:
            assert found is True
        else:
            assert found == ("locked" if request.take_over is None else "stale-token")


def test_p7_an_unreadable_lock_is_taken_over_by_the_newest_token_alone() -> None:
    for request in REQUESTS:
        expected = True if request.take_over == 7 else "damaged"
        assert fresh(request, None, damaged=True) == expected


def marked(
    request: TakeLock, mark: RolloutMark | None, linked: str | None, *, damaged: bool = False
) -> RolloutMark | str | None:
    try:
        return next_mark(request, mark, linked, 9, damaged=damaged)
    except Refusal as refusal:
        return refusal.code


@pytest.mark.parametrize("linked", [None, B, C])
def test_p7_what_this_host_had_before_is_never_lost(linked: str | None) -> None:
    for request, mark in itertools.product(REQUESTS, MARKS):
        found = marked(request, mark, linked)
        assert not isinstance(found, str)
        if request.purpose in NO_ROLLOUT:
            assert found is None
        elif mark is not None and mark.phase != "locked":
            other = request.knows_before and request.release != mark.target
            # The host knows best what was begun on it; where to it goes is the newest deployer's.
            assert found == (mark.but(target=request.release, since=9) if other else None)
        elif mark is not None and not request.knows_before:
            assert found is None
        else:
            assert found is not None
            had = mark.before if mark is not None else linked
            assert found.before == (request.before if request.knows_before else had)
            assert (found.phase == "confirmed") == (found.before != had)
            assert found.phase in {"locked", "confirmed"}
            assert (found.plan, found.target) == (request.rollout or "mine", A)


@pytest.mark.parametrize("linked", [None, B])
def test_p7_an_unreadable_mark_is_replaced_only_by_who_knows_what_was_before(
    linked: str | None,
) -> None:
    for request in REQUESTS:
        found = marked(request, None, linked, damaged=True)
        if request.knows_before and request.purpose not in NO_ROLLOUT:
            assert isinstance(found, RolloutMark)
            assert (found.before, found.phase) == (request.before, "activating")
        else:
            assert found == "damaged"


def test_what_is_pruned_is_old_and_spared_by_nobody() -> None:
    names = ("a", "b", "c", "d")
    for ages in itertools.product(range(3), repeat=4):
        releases = tuple(zip(names, ages, strict=True))
        for keep, count in itertools.product(range(6), range(4)):
            for spared in itertools.combinations((None, *names), count):
                gone = to_prune(releases, keep, frozenset(spared))
                kept = [release for release in releases if release[0] not in gone]
                assert not {*gone} & {*spared}
                assert len(kept) >= min(keep, 4)
                oldest_kept = [age for name, age in kept if name not in spared]
                if gone and oldest_kept:
                    assert max(dict(releases)[name] for name in gone) <= min(
                        age for name, age in kept if name not in spared
                    )
