"""The deployer is killed with SIGKILL at journal boundaries; what it left is ended (P1, P7)."""

from __future__ import annotations

import signal

import pytest

from deploytool.rehearsal.faults.cases import Case
from deploytool.rehearsal.faults.catalogue import CATALOGUE, Moment

from .conftest import Theatre, shown

pytestmark = [pytest.mark.sshd, pytest.mark.slow]

KILLED = next(entry for entry in CATALOGUE if entry.name == "deployer-killed")

# Locked; staging; staged; a canary under way; switched in part; switched; proving; unlocking.
BOUNDARIES = (3, 5, 6, 7, 9, 10, 12, 13)


@pytest.mark.parametrize("number", range(len(BOUNDARIES)))
def test_p7_a_killed_deployer_leaves_what_can_be_ended_from_anywhere(
    theatre: Theatre, number: int
) -> None:
    """Half are ended from another place, with no journal and no release there."""
    record, elsewhere = BOUNDARIES[number], number % 2 == 1
    recovery = ("resume", "rollback")[number // 2 % 2]
    case = Case(KILLED, theatre.hosts[0], Moment.STAGING, recovery, elsewhere, record)
    played = theatre.rehearsal.play(case)
    assert played.struck
    assert played.good, str(played)


def test_p7_rollback_after_a_kill_between_the_waves_proves_the_old_release(
    theatre: Theatre,
) -> None:
    before = theatre.look()
    operator = theatre.operators.fresh("deployer")
    with operator.start("deploy", theatre.new) as deployer:
        assert deployer.wait_for(Moment.BETWEEN)
        deployer.send(signal.SIGKILL)
        deployer.wait()
    canary, *others = theatre.hosts
    assert theatre.look()[canary].linked == theatre.new
    status = operator.run("status")
    assert status.code == 5, shown(status)

    undone = theatre.operators.fresh("elsewhere", store=False).run("rollback")
    assert undone.code == 0, shown(undone)
    assert theatre.everyone_runs(theatre.old)
    # A host that was never switched keeps its process: rolling back touches nothing else.
    after = theatre.look()
    untouched = [host for host in others if after[host].main == before[host].main]
    assert after[canary].main != before[canary].main
    assert len(untouched) >= len(others) - 2


def test_p7_nothing_is_left_to_end_after_a_deploy_that_ended(theatre: Theatre) -> None:
    for verb in ("resume", "rollback"):
        ended = theatre.operators.fresh("elsewhere").run(verb)
        assert ended.code == 3, shown(ended)
        assert ended.document["rule"] == "NOTHING_INTERRUPTED"
    assert theatre.everyone_runs(theatre.old)
