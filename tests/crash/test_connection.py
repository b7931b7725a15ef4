"""The way to a host breaks at the worst moment; what the end says of that host is true (P1, P7)."""

from __future__ import annotations

import pytest

from deploytool.rehearsal.faults.cases import Case
from deploytool.rehearsal.faults.catalogue import CATALOGUE, Moment

from .conftest import Theatre

pytestmark = [pytest.mark.sshd, pytest.mark.slow]

FAULTS = {entry.name: entry for entry in CATALOGUE}


@pytest.mark.parametrize(
    ("name", "moment", "ends"),
    [
        # Once these were "refused, no lock was taken", and the host was locked.
        ("connection-lost", Moment.LOCKING, {0}),
        ("answer-lost", Moment.LOCKING, {0}),
        ("answer-cut", Moment.LOCKING, {0}),
        # Once this was "you broke it off", in the middle of everything. A line that is cut before
        # anything was sent over it is opened again.
        ("connection-lost", Moment.STAGING, {0, 4}),
        ("answer-lost", Moment.STAGED, {0, 4}),
        ("bytes-altered-on-the-way", Moment.STAGING, {4}),
        ("connection-refused", Moment.BETWEEN, {5}),
        ("connection-refused", Moment.UNLOCKING, {5}),
    ],
)
def test_p1_what_is_said_of_a_host_that_was_cut_off_is_true(
    theatre: Theatre, name: str, moment: Moment, ends: set[int]
) -> None:
    # The last host is in the last wave; the canary would be the first to be switched.
    host = theatre.hosts[0] if moment is Moment.STAGED else theatre.hosts[-1]
    played = theatre.rehearsal.play(Case(FAULTS[name], host, moment, "resume", elsewhere=False))
    assert played.struck
    assert played.good, str(played)
    assert played.code in ends, str(played)
