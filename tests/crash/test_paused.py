"""A deployer that slept while its locks were taken over is refused by every host (P7)."""

from __future__ import annotations

import signal

import pytest

from deploytool.rehearsal.faults.catalogue import Moment

from .conftest import Theatre, called, shown

pytestmark = [pytest.mark.sshd, pytest.mark.slow]


@pytest.mark.parametrize("verb", ["resume", "rollback"])
@pytest.mark.parametrize("moment", [Moment.STAGING, Moment.STAGED, Moment.BETWEEN])
def test_p7_a_sleeper_wakes_up_without_its_locks(
    theatre: Theatre, moment: Moment, verb: str
) -> None:
    sleeper = called(theatre.operators.fresh("sleeper"), "sleeper")
    with sleeper.start("deploy", theatre.new) as deployer:
        assert deployer.wait_for(moment)
        deployer.send(signal.SIGSTOP)
        taken = called(theatre.operators.fresh("awake"), "awake").run(verb)
        assert taken.code == 0, shown(taken)
        release = theatre.new if verb == "resume" else theatre.old
        assert theatre.everyone_runs(release)
        before = theatre.settled()
        deployer.send(signal.SIGCONT)
        ended = deployer.wait()

    assert ended.code not in {0, 1, None}, shown(ended)
    assert theatre.look() == before, "a deployer without a lock changed a host"
    trouble = ended.document["trouble"]
    refused = {host for host, text in trouble.items() if "lock" in text}
    assert refused, shown(ended)


def test_p7_a_sleeper_is_told_who_holds_its_locks_now(theatre: Theatre) -> None:
    sleeper = called(theatre.operators.fresh("sleeper"), "sleeper")
    awake = called(theatre.operators.fresh("awake"), "awake")
    with sleeper.start("deploy", theatre.new) as first:
        assert first.wait_for(Moment.STAGED)
        first.send(signal.SIGSTOP)
        with awake.start("resume") as second:
            assert second.wait_for(Moment.BETWEEN)
            second.send(signal.SIGSTOP)
            before = theatre.settled()  # what it had asked of hosts already still comes to its end
            first.send(signal.SIGCONT)
            ended = first.wait()
            assert theatre.look() == before
            second.send(signal.SIGCONT)
            finished = second.wait()
    assert ended.code == 5, shown(ended)
    assert any("awake@" in str(line) for line in ended.document["details"]), shown(ended)
    assert finished.code == 0, shown(finished)
    assert theatre.everyone_runs(theatre.new)
